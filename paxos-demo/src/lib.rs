//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

pub mod arena;
pub mod batch;
pub mod batcher;
pub mod cli;
pub mod cluster;
pub mod client_table;
pub mod codec;
pub mod config;
pub mod digest;
pub mod in_flight;
pub mod log;
pub mod measure;
pub mod message;
pub mod peer;
pub mod replica;
pub mod report;
pub mod session;
pub mod workload;
pub mod service;
pub mod state_machine;
pub mod status;

//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

pub mod arena;
pub mod batch;
pub mod batcher;
pub mod cli;
pub mod client;
pub mod client_table;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod digest;
pub mod in_flight;
pub mod log;
pub mod measure;
pub mod message;
pub mod node;
pub mod peer;
pub mod replica;
pub mod report;
pub mod resp;
pub mod serve;
pub mod service;
pub mod session;
pub mod state_machine;
pub mod status;
pub mod stop;
pub mod workload;

//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

<<<<<<< HEAD
pub mod arena;
pub mod batch;
pub mod batcher;
pub mod client_table;
pub mod codec;
pub mod digest;
pub mod in_flight;
pub mod log;
pub mod message;
pub mod peer;
pub mod replica;
pub mod service;
pub mod state_machine;
pub mod status;
=======
pub mod cli;
pub mod config;
pub mod measure;
pub mod report;
>>>>>>> c3ddebc66a2e144f95404be74a19c55350f4bec9

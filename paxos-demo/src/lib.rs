//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod measure;
pub mod report;
pub mod session;
pub mod workload;

//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

pub mod cli;
pub mod config;
pub mod measure;
pub mod report;

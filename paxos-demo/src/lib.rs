//! Multi-Paxos in the form of Viewstamped Replication, over the Electrode library.

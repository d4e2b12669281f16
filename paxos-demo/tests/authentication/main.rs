//! Groups with keys, as processes: how keys change while clients write, what a hostile neighbour achieves, and
//! what a group says that got its keys by half.

#[path = "../common/mod.rs"]
mod common;
mod half;
mod neighbour;
mod rotation;
mod site;
mod spoofer;

//! A group with a key, and a hostile neighbour on the same bridge without it (F4): it sees every frame, spoofs any
//! member's addresses, forges, changes, floods, and sends again what it has kept. Nothing of it changes anything,
//! and the counters tell what was refused.

#[path = "../common/mod.rs"]
mod common;

mod acks;
mod flood;
mod follower;
mod half;
mod leader;
mod mapped;
mod passed_up;
mod rotation;
mod target;

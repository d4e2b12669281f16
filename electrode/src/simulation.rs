//! What a simulation replaces: network, kernel programs, clock. For this project's own tests; no stable interface.

pub use crate::backend::{FastPath, Heard, Logged, Opening, RoundSlot, Wake};
pub use crate::clock::Clock;
pub use crate::endpoint::Plants as EndpointPlants;
pub use crate::net::socket::Transport;

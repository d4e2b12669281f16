//! Opening an endpoint in a simulation: the user-space half as it is, over a network, a kernel and a clock that
//! the caller makes up.

use super::{Choice, Endpoint, Plants};
use crate::backend::FastPath;
use crate::clock::Clock;
use crate::config::EndpointConfig;
use crate::error::Result;
use crate::net::socket::{BatchSocket, Transport};

impl Endpoint {
    /// Opens the endpoint with its gate frozen. [`Endpoint::wait`] does not wait here: arm, let time pass,
    /// disarm.
    pub fn open_simulated(
        config: EndpointConfig,
        transport: Box<dyn Transport>,
        path: Box<dyn FastPath>,
        clock: Clock,
        plants: Plants,
    ) -> Result<Self> {
        config.validate()?;
        let room = config.payload_room(1500);
        let payload_bytes_max = config.payload_bytes_max.unwrap_or(room);
        let choice = Choice { backend: "simulated", hook: "none", reason: None };
        let socket = BatchSocket::simulated(transport);
        let mut endpoint = Self::closed(config, payload_bytes_max, socket, path, choice);
        endpoint.clock = clock;
        endpoint.plants = plants;
        // What opening the real thing does: nobody's acks count but those of the lives that are expected.
        for peer in endpoint.config.peers().iter() {
            let incarnation = endpoint.config.peer_incarnation;
            endpoint.path.expect_incarnation(peer, incarnation);
        }
        Ok(endpoint)
    }
}

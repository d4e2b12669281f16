//! The socket of a simulated endpoint.

use std::net::SocketAddr;

use electrode::simulation::Transport;

use super::effect::effect;
use super::kernel_path::CARRIER;
use super::wire::build;
use super::world::{Shared, lock};

pub(super) struct SimTransport {
    pub shared: Shared,
    pub node: usize,
}

impl Transport for SimTransport {
    fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        effect(&self.shared, self.node, "a send");
        let mut world = lock(&self.shared);
        if to == CARRIER {
            return world.carrier(self.node, datagram);
        }
        let frame = build(world.nodes[self.node].addr, to, datagram);
        world.leave(self.node, frame, true);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut world = lock(&self.shared);
        let (bytes, from) = world.nodes[self.node].inbox.pop_front()?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Some((bytes.len(), from))
    }
}

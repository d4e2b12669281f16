//! Synchronous questions to the kernel over netlink; what is asked stands beside who asks.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A netlink socket in the namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a socket that also hears of changes in multicast groups (RTNLGRP_*).
    #[cfg(feature = "ebpf")]
    pub(crate) fn subscribe(groups: &[u32]) -> io::Result<Self> {
        let mut netlink = Self::open()?;
        for &group in groups {
            netlink.socket.add_membership(group)?;
        }
        // The answers of the kernel come from port 0 as before; connect would not change that.
        netlink.sequence = 1;
        Ok(netlink)
    }

    /// Descriptor for poll.
    #[cfg(feature = "ebpf")]
    pub(crate) fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }

    /// Sends one request and collects its answers.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in split(&datagram)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if flags & NLM_F_DUMP != NLM_F_DUMP {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Changes that arrived, for a subscribed socket. `None`: some were lost, look at everything again.
    #[cfg(feature = "ebpf")]
    pub(crate) fn changes(&mut self) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        match self.socket.recv_from_full() {
            Ok((datagram, _)) => Ok(Some(
                split(&datagram)?
                    .into_iter()
                    .filter_map(|m| match m.payload {
                        NetlinkPayload::InnerMessage(inner) => Some(inner),
                        _ => None,
                    })
                    .collect(),
            )),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn split(datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("netlink: {e}")))?;
        let bytes = (message.header.length as usize).next_multiple_of(4).min(rest.len());
        if bytes == 0 {
            break;
        }
        rest = &rest[bytes..];
        messages.push(message);
    }
    Ok(messages)
}

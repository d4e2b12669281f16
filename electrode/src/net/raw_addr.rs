//! A socket address as system calls take it.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address as system calls take it.
#[derive(Copy, Clone)]
pub(super) struct RawAddr {
    pub storage: libc::sockaddr_in6,
    pub bytes: libc::socklen_t,
}

impl PartialEq for RawAddr {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl RawAddr {
    pub fn new(addr: SocketAddr) -> Self {
        // SAFETY: all-zero is a valid sockaddr_in6.
        let mut storage: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        let bytes = match addr {
            SocketAddr::V4(v4) => {
                let to: *mut libc::sockaddr_in = (&raw mut storage).cast();
                // SAFETY: sockaddr_in is smaller than sockaddr_in6 and less aligned.
                unsafe {
                    (*to).sin_family = libc::AF_INET as libc::sa_family_t;
                    (*to).sin_port = v4.port().to_be();
                    (*to).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                }
                mem::size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                storage.sin6_port = v6.port().to_be();
                storage.sin6_addr.s6_addr = v6.ip().octets();
                storage.sin6_scope_id = v6.scope_id();
                mem::size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, bytes: bytes as libc::socklen_t }
    }

    pub fn get(&self) -> SocketAddr {
        if i32::from(self.storage.sin6_family) == libc::AF_INET {
            let from: *const libc::sockaddr_in = (&raw const self.storage).cast();
            // SAFETY: the family says which type the storage holds.
            let (ip, port) = unsafe { ((*from).sin_addr.s_addr, (*from).sin_port) };
            SocketAddrV4::new(Ipv4Addr::from(ip.to_ne_bytes()), u16::from_be(port)).into()
        } else {
            let ip = Ipv6Addr::from(self.storage.sin6_addr.s6_addr);
            let port = u16::from_be(self.storage.sin6_port);
            SocketAddrV6::new(ip, port, 0, self.storage.sin6_scope_id).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["10.1.2.3:7100", "[fd76::1:2]:65535", "[fe80::1%7]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddr::new(addr).get(), addr);
        }
    }
}

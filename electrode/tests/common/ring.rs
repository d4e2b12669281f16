//! Frames sent from memory that the sender keeps mapped and can write to while they travel (PACKET_TX_RING): a virtual
//! cable copies nothing, so a receiver on the same machine looks at the sender's own pages.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use electrode::fabric::NetNs;

use super::capture::{check, packet_socket};

/// One frame's room, and the block that it takes.
const RING_BYTES: usize = 4096;
/// Where the frame begins behind its `tpacket2_hdr`.
const FRAME_AT: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(16);

/// A ring of one frame.
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
}

// SAFETY: shared memory that is written through atomics, or while no other thread has a reference.
unsafe impl Sync for Ring {}

impl Ring {
    pub fn new(namespace: &NetNs, interface: &str) -> Self {
        let socket = namespace.run(|| packet_socket(interface, 0)).unwrap();
        let set = |option, value: *const libc::c_void, bytes: usize| {
            // SAFETY: a value of the size that is stated.
            let set = unsafe {
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, bytes as libc::socklen_t)
            };
            check(set, "setsockopt");
        };
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        set(libc::PACKET_VERSION, (&raw const version).cast(), size_of_val(&version));
        let request = libc::tpacket_req {
            tp_block_size: RING_BYTES as u32,
            tp_block_nr: 1,
            tp_frame_size: RING_BYTES as u32,
            tp_frame_nr: 1,
        };
        set(libc::PACKET_TX_RING, (&raw const request).cast(), size_of_val(&request));
        // SAFETY: a fresh mapping of the ring that was just made.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                RING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Self { socket, memory: NonNull::new(memory.cast()).unwrap() }
    }

    fn header(&self) -> *mut libc::tpacket2_hdr {
        self.memory.as_ptr().cast()
    }

    /// Puts a frame into the ring. Bytes that somebody writes to meanwhile are theirs: `keep` of them from `at` on stay.
    pub fn put(&self, frame: &[u8], at: usize, keep: usize) {
        assert!(frame.len() <= RING_BYTES - FRAME_AT);
        let outside = |i: &usize| !(at..at + keep).contains(i);
        for i in (0..frame.len()).filter(outside) {
            // SAFETY: inside the mapping; nobody else writes to these bytes, and the kernel only reads.
            unsafe { self.memory.as_ptr().add(FRAME_AT + i).write_volatile(frame[i]) };
        }
        // SAFETY: the header is inside the mapping and aligned; the kernel looks at it once the status says so.
        unsafe { (&raw mut (*self.header()).tp_len).write_volatile(frame.len() as u32) };
    }

    /// The eight bytes of the frame from `at` on.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        let at = FRAME_AT + at;
        assert!(at.is_multiple_of(8) && at + 8 <= RING_BYTES);
        // SAFETY: aligned, inside the mapping, and accessed as an atomic only (`put` leaves it out).
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(at).cast()) }
    }

    /// Sends what is in it; it is on its way, or there, when this returns.
    pub fn send(&self) {
        // SAFETY: aligned, inside the mapping, and shared with the kernel as an atomic.
        let status = unsafe { AtomicU32::from_ptr(&raw mut (*self.header()).tp_status) };
        status.store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        // SAFETY: no buffer: the kernel takes what is in the ring.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), std::ptr::null(), 0, 0) };
        check(sent as libc::c_int, "send");
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made; no reference into it outlives this.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), RING_BYTES) };
    }
}

/// Bytes in front of an address that `word` can take, for a frame whose `at` it is not.
pub fn aligned(at: usize) -> usize {
    (FRAME_AT + at).next_multiple_of(8) - FRAME_AT
}

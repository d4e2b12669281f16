//! The thread that keeps delayed frames for a while.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::FabricError;

/// Frames kept at most; those that come then are lost.
const FRAMES_MAX: usize = 16_384;
/// The largest frame: the largest MTU with its Ethernet header.
const FRAME_BYTES_MAX: usize = 65_536;
/// How soon the thread notices that it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// linux/if_packet.h, since 4.20: frames that the socket itself has sent are not received by it.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// How long frames are held, changed while they are.
pub(super) struct Range {
    from_us: AtomicU64,
    to_us: AtomicU64,
}

impl Range {
    pub fn new(range: RangeInclusive<Duration>) -> Self {
        let new = Self { from_us: AtomicU64::new(0), to_us: AtomicU64::new(0) };
        new.set(range);
        new
    }

    pub fn set(&self, range: RangeInclusive<Duration>) {
        self.from_us.store(range.start().as_micros() as u64, Ordering::Relaxed);
        self.to_us.store(range.end().as_micros() as u64, Ordering::Relaxed);
    }

    fn pick(&self, dice: &mut u64) -> Duration {
        // xorshift: any spread will do.
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        let (from, to) = (self.from_us.load(Ordering::Relaxed), self.to_us.load(Ordering::Relaxed));
        Duration::from_micros(from + *dice % (to.saturating_sub(from) + 1))
    }
}

/// The thread; dropping it ends it, and what it holds is lost.
pub(super) struct Hold {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    /// Keeps what arrives at an interface of the calling thread's namespace, and sends it back there.
    pub fn start(ifindex: u32, delay: Arc<Range>) -> Result<Self, FabricError> {
        let socket = packet_socket(ifindex).map_err(|e| FabricError::kernel("open a packet socket", e))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("fabric-hold".into())
            .spawn(move || hold(&socket, &delay, &stopped))
            .map_err(|e| FabricError::kernel("start a thread", e))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hold(socket: &OwnedFd, delay: &Range, stop: &AtomicBool) {
    let mut frames: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut dice = 0x9e37_79b9_7f4a_7c15;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while frames.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, frame))) = frames.pop() else { break };
            send(socket, &frame);
        }
        let until =
            frames.peek().map_or(LOOK, |Reverse((due, ..))| due.saturating_duration_since(now).min(LOOK));
        if !readable(socket, until) {
            continue;
        }
        while let Some(length) = receive(socket, &mut buffer) {
            if frames.len() < FRAMES_MAX {
                number += 1;
                frames.push(Reverse((
                    Instant::now() + delay.pick(&mut dice),
                    number,
                    buffer[..length].to_vec(),
                )));
            }
        }
    }
}

fn readable(socket: &OwnedFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: timeout.as_nanos() as _ };
    // SAFETY: one `pollfd` and a timeout that outlive the call.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) > 0 }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer is as long as stated and outlives the call.
    let length = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(length).ok()
}

fn send(socket: &OwnedFd, frame: &[u8]) {
    // A frame that cannot be sent is lost, as on any cable.
    // SAFETY: the buffer is as long as stated and outlives the call.
    unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
}

fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let (flags, all) = (libc::SOCK_RAW | libc::SOCK_CLOEXEC, (libc::ETH_P_ALL as u16).to_be());
    // SAFETY: no pointers. Protocol 0: nothing is queued before the socket is bound.
    let socket = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let set = |level, name, value: libc::c_int| {
        // SAFETY: the options take an int, and pointer and length are those of one.
        check(unsafe {
            let size = size_of_val(&value) as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size)
        })
    };
    set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = libc::AF_PACKET as u16;
    addr.sll_protocol = all;
    addr.sll_ifindex = ifindex as libc::c_int;
    let size = size_of_val(&addr) as libc::socklen_t;
    // SAFETY: an address of the size that is stated.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), size) })?;
    Ok(socket)
}

//! The line between owner and guard: one order, one answer.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::process::{Answer, Order};

/// How long the guard may take over an order, which is a few system calls and at most a second at a qdisc that
/// somebody else is at.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The owner's end.
pub(super) struct Line {
    socket: OwnedFd,
    orders: u64,
}

impl Line {
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self { socket, orders: 0 }
    }

    /// Gives an order and waits for its answer: whether there was anything to be done.
    pub(super) fn ask(&mut self, mut order: Order) -> io::Result<bool> {
        self.orders += 1;
        order.number = self.orders;
        let fd = self.socket.as_raw_fd();
        // SAFETY: an order is plain words; it is sent whole or not at all.
        let sent =
            unsafe { libc::send(fd, (&raw const order).cast(), size_of::<Order>(), libc::MSG_NOSIGNAL) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = Answer::default();
        loop {
            // SAFETY: room for an answer, which is plain words.
            let got = unsafe { libc::recv(fd, (&raw mut answer).cast(), size_of::<Answer>(), 0) };
            return match (got, answer.errno) {
                (-1, _) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => continue,
                    e => Err(e),
                },
                (0, _) => Err(io::ErrorKind::BrokenPipe.into()),
                // To an order that was not waited for to its end.
                _ if answer.number != order.number => continue,
                (_, 0) => Ok(answer.done != 0),
                (_, errno) => Err(io::Error::from_raw_os_error(errno)),
            };
        }
    }
}

/// Two ends that keep messages apart; neither passes on to programs that are executed. The first waits for so long.
pub(super) fn pair(patience: Duration) -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: descriptors that were just made and that nobody else owns.
    let [ours, its] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let wait = libc::timeval {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(patience.subsec_micros() as i32),
    };
    // SAFETY: an initialised value of the size that is given.
    let set = unsafe {
        let bytes = size_of_val(&wait) as libc::socklen_t;
        let (fd, value) = (ours.as_raw_fd(), (&raw const wait).cast());
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, bytes)
    };
    if set != 0 { Err(io::Error::last_os_error()) } else { Ok([ours, its]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(socket: &OwnedFd) -> Order {
        let mut order = Order::default();
        // SAFETY: room for an order, which is plain words.
        let got = unsafe { libc::recv(socket.as_raw_fd(), (&raw mut order).cast(), size_of::<Order>(), 0) };
        assert_eq!(got, size_of::<Order>() as isize);
        order
    }

    fn answer(socket: &OwnedFd, order: &Order, errno: i32) {
        let answer = Answer { number: order.number, errno, done: 1 };
        // SAFETY: an answer is plain words.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), (&raw const answer).cast(), size_of::<Answer>(), 0) };
        assert_eq!(sent, size_of::<Answer>() as isize);
    }

    /// A guard that was stopped for too long answers when it goes on: that answer is nobody's any more.
    #[test]
    fn a_late_answer_is_not_that_to_the_next_order() {
        let [ours, its] = pair(Duration::from_millis(50)).unwrap();
        let mut line = Line::over(ours);
        let timed_out = line.ask(Order::MAKE_QDISC).unwrap_err();
        assert_eq!(timed_out.kind(), io::ErrorKind::WouldBlock);
        let first = hear(&its);
        answer(&its, &first, libc::EPERM);
        let guard = std::thread::spawn(move || {
            let second = hear(&its);
            answer(&its, &second, 0);
            let third = hear(&its);
            answer(&its, &third, libc::ENOSPC);
        });
        assert!(line.ask(Order::END).unwrap());
        assert_eq!(line.ask(Order::END).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        guard.join().unwrap();
        assert_eq!(line.ask(Order::END).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

//! A hundred times (or `ELECTRODE_CYCLES` times): an endpoint is opened and works, its process is killed, `elecctl
//! detach` runs. Every time all is as before, and other people's programs have seen every packet.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::actor::{Actor, Prepare, receive, socket};
use common::counting::{Counting, Seat};
use common::foreign::command;
use common::group::members;
use common::hosts::{DEADLINE, fabric, pass_stubs, wait_until};
use common::traces::{Held, shown};
use common::victim::{Attachment, Victim, attachments};
use common::{privileged, tcx};
use electrode::fabric::{Fabric, Family};

const CYCLES: usize = 100;
/// Another number of them, where the machine is emulated.
const CYCLES_VARIABLE: &str = "ELECTRODE_CYCLES";
const HOSTS: usize = 3;
/// Not ours: what other people's programs are to see.
const STRANGER: u16 = 9;
/// Acknowledged before the process dies, with more under way.
const ACKS: usize = 50;
const BPFFS: &str = "/sys/fs/bpf";

/// Not a test: the process that is killed.
#[test]
#[ignore = "started by others"]
fn process_with_an_endpoint() {
    common::victim::run();
}

/// The places of a replica, in turn: an interface that other people use for everything, and one that nobody uses.
struct Site {
    fabric: Fabric,
    strangers: [Vec<Counting>; 2],
}

impl Site {
    fn new() -> Self {
        let fabric = fabric(HOSTS, Family::V4);
        (0..HOSTS).for_each(|host| fabric.pin_neighbours(host).unwrap());
        let [crowded, bare] = [1, 2].map(|host| fabric.host(host).netns());
        // A root qdisc that is not the default, and a clsact that was there before.
        command(crowded, "tc qdisc add dev eth0 root pfifo limit 777");
        command(crowded, "tc qdisc add dev eth0 clsact");
        let mut tc = vec![Seat::ClsactIngress, Seat::ClsactEgress];
        if tcx() {
            tc.extend([Seat::TcxIngress, Seat::TcxEgress]);
        }
        let mut on_crowded: Vec<_> =
            tc.into_iter().map(|seat| Counting::attach(crowded, seat, "eth0")).collect();
        // Beside it: an interface of theirs, with XDP and a clsact of its own.
        let beside = |netns| {
            command(netns, "ip link set lo up");
            command(netns, "tc qdisc add dev lo clsact");
            let seats = [Seat::XdpGeneric, Seat::ClsactIngress, Seat::ClsactEgress];
            seats.map(|seat| Counting::attach(netns, seat, "lo"))
        };
        on_crowded.extend(beside(crowded));
        let on_bare = beside(bare).into();
        Self { fabric, strangers: [on_crowded, on_bare] }
    }

    /// One packet past each of a host's strangers; they must have seen it.
    fn assert_strangers_run(&self, host: usize, when: &str) {
        let before: Vec<_> = self.strangers[host - 1].iter().map(Counting::count).collect();
        let far = socket(self.fabric.host(0), STRANGER);
        let near = socket(self.fabric.host(host), STRANGER);
        let local: SocketAddr = (IpAddr::from([127, 0, 0, 1]), STRANGER).into();
        let inside =
            self.fabric.host(host).netns().run(|| std::net::UdpSocket::bind(local)).unwrap().unwrap();
        for (from, to) in [(&far, &near), (&near, &far), (&inside, &inside)] {
            from.send_to(b"?", to.local_addr().unwrap()).unwrap();
            assert!(receive(to, DEADLINE).is_some(), "{when}: a packet got lost");
        }
        for (stranger, before) in self.strangers[host - 1].iter().zip(before) {
            let Counting { seat, interface, .. } = stranger;
            assert!(stranger.count() > before, "{when}: {seat:?} on {interface} does not run");
        }
    }

    fn detach(&self, host: usize) -> Output {
        let netns = self.fabric.host(host).netns().path();
        let output =
            Command::new(env!("CARGO_BIN_EXE_elecctl")).arg("--netns").arg(netns).arg("detach").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// Opens, works, dies, and is cleaned up after.
    fn cycle(&self, host: usize, attachment: Attachment, kill_guard: bool, name: &str) {
        let netns = self.fabric.host(host).netns();
        let before = shown(netns);
        let leader = Actor::new(&self.fabric, 0);
        let to = members(&self.fabric, HOSTS)[host];
        let victim = Victim::start(&self.fabric, HOSTS, host, attachment);
        let held = Held::by_process(netns, victim.pid());
        held.assert_whole(attachment);

        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Duplicates: the kernel answers each of them.
            let load = scope.spawn(|| {
                let datagram = leader.datagram(&Prepare::op(1));
                let mut sent = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    leader.socket.send_to(&datagram, to).unwrap();
                    sent += 1;
                    if sent.is_multiple_of(64) {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            for _ in 0..ACKS {
                assert!(leader.next_ack(DEADLINE).is_some(), "{name}: the kernel does not acknowledge");
            }
            self.assert_strangers_run(host, &format!("{name}, attached"));
            if kill_guard && attachment.has_guard() {
                victim.kill_guards();
            }
            victim.kill();
            stop.store(true, Ordering::Relaxed);
            load.join().unwrap();
        });

        // The guard of a clsact filter is about to remove it. If it was killed, the lease must run out first.
        wait_until(&format!("{name}: everything is as before"), || {
            self.detach(host);
            shown(netns) == before
        });
        wait_until(&format!("{name}: the kernel lets go of {:?}", held.left()), || held.is_gone());
        assert_eq!(shown(netns), before, "{name}");
        self.assert_strangers_run(host, &format!("{name}, gone"));
    }
}

/// A file system for pins that this thread and the processes that it starts see, and nobody else.
fn mount_bpffs() {
    // SAFETY: static strings and numbers; changes this thread's view of the file system alone.
    let result = unsafe {
        let none = std::ptr::null();
        match libc::unshare(libc::CLONE_NEWNS) {
            0 => match libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) {
                0 => libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, none.cast()),
                error => error,
            },
            error => error,
        }
    };
    assert_eq!(result, 0, "mount a bpffs: {}", std::io::Error::last_os_error());
}

fn pins(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.display().to_string()).collect()
}

#[test]
fn a_hundred_crashes_leave_nothing() {
    if !privileged("a_hundred_crashes_leave_nothing") {
        return;
    }
    mount_bpffs();
    let pinned = pins(BPFFS.as_ref());
    let site = Site::new();
    let _stubs = pass_stubs(&site.fabric);
    let since = Instant::now();
    let cycles = std::env::var(CYCLES_VARIABLE).map_or(CYCLES, |value| value.parse().unwrap());
    let attachments = attachments();
    for number in 0..cycles {
        let attachment = attachments[number % attachments.len()];
        let host = 1 + number / attachments.len() % 2;
        // Every other round of two hosts.
        let kill_guard = (number / (2 * attachments.len())).is_multiple_of(2);
        let name = format!("cycle {number}, {attachment:?} at host {host}, guard killed: {kill_guard}");
        site.cycle(host, attachment, kill_guard, &name);
        assert_eq!(pins(BPFFS.as_ref()), pinned, "cycle {number}");
    }
    println!("{cycles} cycles in {:.1} s", since.elapsed().as_secs_f64());
}

//! Capabilities: what is missing is said, what is named suffices, and `auto` does without.
//!
//! Capabilities belong to threads, so a thread that drops some is as good as a process that never had them, as far
//! as opening goes. What an open endpoint does is tried in a process of its own, which has none in any thread.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::actor::Actor;
use common::group::{Seen, members};
use common::hosts::fabric;
use common::victim::guards_of;
use common::{privileged, tcx};
use electrode::abi::Verdict;
use electrode::config::{Backend, EndpointConfig, Hook, TcMechanism};
use electrode::fabric::{Fabric, Family, NetNs};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Result, privileges};

const CAP_NET_ADMIN: u32 = 12;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// One test at a time: one that starts a process lends it all descriptors for a moment, and a port is not free then.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves this thread these capabilities and no others. Opening files and binding sockets needs none of them.
fn keep_only(capabilities: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Copy, Clone, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    for capability in capabilities {
        let bit = 1 << (capability % 32);
        let word = &mut data[*capability as usize / 32];
        (word.effective, word.permitted) = (word.effective | bit, word.permitted | bit);
    }
    // SAFETY: the two structures of version 3 of the interface, which change this thread alone.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(result, 0, "capset: {}", std::io::Error::last_os_error());
}

/// Opens member 1 with these capabilities, then runs `then` on the thread that has them.
fn with<T: Send>(
    fabric: &Fabric,
    capabilities: &[u32],
    adjust: impl FnOnce(&mut EndpointConfig),
    then: impl FnOnce(Result<Endpoint>) -> T + Send,
) -> T {
    let mut config = EndpointConfig::new(members(fabric, 2), ReplicaId(1));
    (config.log_slots, config.quorum_window) = (64, 64);
    adjust(&mut config);
    let work = || {
        keep_only(capabilities);
        then(Endpoint::open(config))
    };
    fabric.host(1).netns().run(work).unwrap()
}

/// Without one of the three there is no fast path. The error names what helps; `auto` keeps it as its reason.
#[test]
fn a_missing_capability_is_named() {
    if !privileged("a_missing_capability_is_named") {
        return;
    }
    let _alone = alone();
    let fabric = fabric(2, Family::V4);
    for (kept, missing) in [
        (&[][..], "CAP_BPF"),
        (&[CAP_NET_ADMIN], "CAP_BPF"),
        (&[CAP_NET_ADMIN, CAP_PERFMON], "CAP_BPF"),
        (&[CAP_BPF, CAP_PERFMON], "CAP_NET_ADMIN"),
        (&[CAP_BPF, CAP_NET_ADMIN], "CAP_PERFMON"),
    ] {
        for (hook, tc) in ways().into_iter().map(|(_, hook, tc)| (hook, tc)) {
            let adjust =
                |backend| move |c: &mut EndpointConfig| (c.backend, c.hook, c.tc) = (backend, hook, tc);
            let text = with(&fabric, kept, adjust(Backend::Ebpf), |opened| {
                opened.err().unwrap_or_else(|| panic!("opened with {kept:?}")).to_string()
            });
            assert!(text.contains(missing) && text.contains("root"), "{kept:?} {hook:?} {tc:?}: {text}");
            let choice =
                with(&fabric, kept, adjust(Backend::Auto), |opened| opened.unwrap().choice().clone());
            assert_eq!((choice.backend, choice.hook), ("udp", "none"));
            let reason = choice.reason.expect("a reason");
            assert!(reason.contains(missing), "{kept:?} {hook:?} {tc:?}: {reason}");
        }
    }
}

/// What the error recommends is enough, for every way of attaching.
#[test]
fn the_capabilities_that_are_named_suffice() {
    if !privileged("the_capabilities_that_are_named_suffice") {
        return;
    }
    let _alone = alone();
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    let named = [CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON];
    for (_, hook, tc) in ways() {
        let adjust = |c: &mut EndpointConfig| (c.backend, c.hook, c.tc) = (Backend::Ebpf, hook, tc);
        let mut follower = with(&fabric, &named, adjust, |opened| opened.unwrap());
        follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
        leader.prepare_ops(follower.local_addr(), [1]);
        assert_eq!(leader.acks_up_to(1), [1], "{hook:?} {tc:?}");
    }
}

/// A replica that root started has no more rights than any other by the time that it binds its address.
#[test]
fn a_low_port_names_its_capability() {
    if !privileged("a_low_port_names_its_capability") {
        return;
    }
    let _alone = alone();
    let fabric = fabric(2, Family::V4);
    let low = |c: &mut EndpointConfig| c.members.iter_mut().for_each(|member| member.set_port(700));
    let text = with(&fabric, &[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON], low, |opened| {
        opened.err().expect("the port is not for everybody").to_string()
    });
    assert!(text.contains("CAP_NET_BIND_SERVICE") && text.contains(":700"), "{text}");
}

/// Ways of attaching, by name.
const WAYS: [(&str, Hook, TcMechanism); 3] = [
    ("tcx", Hook::Tc, TcMechanism::Tcx),
    ("clsact", Hook::Tc, TcMechanism::Clsact),
    ("xdp-generic", Hook::XdpGeneric, TcMechanism::Auto),
];

/// Those that this kernel has.
fn ways() -> Vec<(&'static str, Hook, TcMechanism)> {
    WAYS.into_iter().filter(|(.., tc)| tcx() || *tc != TcMechanism::Tcx).collect()
}

/// The one that [`process_that_drops_all`] is told, by name.
const WAY: &str = "ELECTRODE_TEST_WAY";
const NOBODY: u32 = 65534;
/// More than there are epochs, so that they wrap.
const OPENINGS: u64 = 8200;

/// Makes this process, which is root's, that of an ordinary user with the capabilities that are named, as a service
/// manager does. The calling thread alone keeps any.
fn become_nobody() {
    // SAFETY: numbers, and an empty list.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1 as libc::c_ulong, 0, 0, 0), 0);
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
    }
    // CAP_SETPCAP is permitted but not effective by now.
    privileges::keep_needed().unwrap();
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
}

/// A field of each thread's status.
fn in_all_threads(field: &str) -> Vec<String> {
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
    };
    tasks.map(|task| value(read(task.unwrap()))).collect()
}

/// Not a test: the process that is an ordinary user's, and drops everything once its endpoint is open.
#[test]
#[ignore = "started by others"]
fn process_that_drops_all() {
    let Some(name) = std::env::var_os(WAY) else { return };
    let (_, hook, tc) = WAYS.into_iter().find(|(way, ..)| name == *way).unwrap();
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    fabric.host(1).netns().enter_current_thread().unwrap();
    become_nobody();
    let mut config = EndpointConfig::new(members(&fabric, 2), ReplicaId(1));
    (config.log_slots, config.quorum_window) = (64, 64);
    (config.backend, config.hook, config.tc) = (Backend::Ebpf, hook, tc);
    let mut follower = Endpoint::open(config).unwrap();
    assert!(in_all_threads("CapPrm").len() >= 3, "this one, the harness and the one that follows next hops");
    privileges::drop_all().unwrap();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert!(in_all_threads(set).iter().all(|set| set == "0000000000000000"), "{set}");
    }
    assert!(in_all_threads("NoNewPrivs").iter().all(|set| set == "1"));
    assert!(in_all_threads("Uid").iter().all(|uid| *uid == NOBODY.to_string()));
    // Again is no error, and a refusal is what others get.
    privileges::drop_all().unwrap();
    assert!(electrode::attach_pass_stub("eth0").is_err(), "something may still be attached");

    let (to, mut seen) = (follower.local_addr(), Seen::default());
    let mut rounds = |follower: &mut Endpoint, view: u64| {
        let held = follower.held();
        follower.gate().follow(View(view), ReplicaId(0), held).unwrap();
        let prepare = |op| common::actor::Prepare { view, ..common::actor::Prepare::op(op) };
        leader.prepare(to, &prepare(held.0 + 1));
        assert_eq!(leader.acks_up_to(held.0 + 1).last(), Some(&(held.0 + 1)));
        // A gap: user space takes the log over and gives it back.
        leader.prepare(to, &prepare(held.0 + 3));
        seen.until(follower, "the gap", |s| s.gaps.last() == Some(&(held.0 + 1, held.0 + 2)));
        leader.prepare(to, &prepare(held.0 + 2));
        seen.until(follower, "all", |s| s.log.len() as u64 == held.0 + 3);
        follower.gate().freeze(&mut |event| seen.take(&event)).unwrap();
    };
    (0..3).for_each(|view| rounds(&mut follower, view));
    // U1: where epochs wrap, a grace period is waited for.
    let (mut last, mut wraps) = (follower.gate().epoch(), 0);
    for view in 3..3 + OPENINGS {
        let held = follower.held();
        let epoch = follower.gate().follow(View(view), ReplicaId(0), held).unwrap();
        (wraps, last) = (wraps + u32::from(epoch < last), epoch);
        follower.gate().freeze(&mut |_| ()).unwrap();
    }
    assert_eq!(wraps, 1, "the epoch is {last:?}");
    rounds(&mut follower, 3 + OPENINGS);
    let stats = follower.stats().unwrap();
    assert!(stats.kernel(Verdict::TxAck) >= 4, "{stats:?}");

    // Closed by a process that goes on: whoever started it looks at what is left.
    drop(follower);
    println!("CLOSED {}", fabric.host(1).netns().path().display());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Privileges may go once the endpoint is open: it appends, drains, freezes, reopens, counts and closes without.
#[test]
fn an_open_endpoint_needs_no_privileges() {
    if !privileged("an_open_endpoint_needs_no_privileges") {
        return;
    }
    let _alone = alone();
    for (way, ..) in ways() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_that_drops_all", "--ignored", "--nocapture"])
            .env(WAY, way)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let path =
            lines.find_map(|line| line.unwrap().split_once("CLOSED ").map(|(_, path)| path.to_owned()));
        let left = path.map(|path| {
            let netns = NetNs::open(path.as_ref()).unwrap();
            let qdiscs = common::foreign::command(&netns, "tc qdisc show");
            assert!(!qdiscs.contains("clsact"), "{way}: {qdiscs}");
            netns.run(|| electrode::inspect::attachments().unwrap()).unwrap()
        });
        assert_eq!(guards_of(child.id()), [0u32; 0], "{way}");
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success(), "{way}");
        assert_eq!(left, Some(vec![]), "{way}: after it was closed");
    }
}

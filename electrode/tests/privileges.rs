//! Capabilities: what is missing is said, what is named suffices, and `auto` does without.
//!
//! Capabilities belong to threads, so a thread that drops some is as good as a process that never had them.

mod common;

use common::actor::Actor;
use common::group::{Seen, members};
use common::hosts::fabric;
use common::privileged;
use electrode::config::{Backend, EndpointConfig, Hook, TcMechanism};
use electrode::fabric::{Fabric, Family};
use electrode::types::{OpNumber, ReplicaId, View};
use electrode::{Endpoint, Result};

const CAP_NET_ADMIN: u32 = 12;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

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
    let fabric = fabric(2, Family::V4);
    for (kept, missing) in [
        (&[][..], "CAP_BPF"),
        (&[CAP_NET_ADMIN], "CAP_BPF"),
        (&[CAP_NET_ADMIN, CAP_PERFMON], "CAP_BPF"),
        (&[CAP_BPF, CAP_PERFMON], "CAP_NET_ADMIN"),
        (&[CAP_BPF, CAP_NET_ADMIN], "CAP_PERFMON"),
    ] {
        for (hook, tc) in [
            (Hook::Tc, TcMechanism::Tcx),
            (Hook::Tc, TcMechanism::Clsact),
            (Hook::XdpGeneric, TcMechanism::Tcx),
        ] {
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
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    let named = [CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON];
    for (hook, tc) in
        [(Hook::Tc, TcMechanism::Tcx), (Hook::Tc, TcMechanism::Clsact), (Hook::XdpGeneric, TcMechanism::Tcx)]
    {
        let adjust = |c: &mut EndpointConfig| (c.backend, c.hook, c.tc) = (Backend::Ebpf, hook, tc);
        let mut follower = with(&fabric, &named, adjust, |opened| opened.unwrap());
        follower.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
        leader.prepare_ops(follower.local_addr(), [1]);
        assert_eq!(leader.acks_up_to(1), [1], "{hook:?} {tc:?}");
    }
}

/// Privileges may go once the endpoint is open: it appends, drains, freezes and reopens without.
#[test]
fn an_open_endpoint_needs_no_privileges() {
    if !privileged("an_open_endpoint_needs_no_privileges") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let leader = Actor::new(&fabric, 0);
    with(
        &fabric,
        &[CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON],
        |c| c.backend = Backend::Ebpf,
        |opened| {
            let mut follower = opened.unwrap();
            keep_only(&[]);
            let (to, mut seen) = (follower.local_addr(), Seen::default());
            for view in 0..3 {
                let held = follower.held();
                follower.gate().follow(View(view), ReplicaId(0), held).unwrap();
                let prepare = |op| common::actor::Prepare { view, ..common::actor::Prepare::op(op) };
                leader.prepare(to, &prepare(held.0 + 1));
                assert_eq!(leader.acks_up_to(held.0 + 1).last(), Some(&(held.0 + 1)));
                // A gap: user space takes the log over and gives it back.
                leader.prepare(to, &prepare(held.0 + 3));
                seen.until(&mut follower, "the gap", |s| s.gaps.last() == Some(&(held.0 + 1, held.0 + 2)));
                leader.prepare(to, &prepare(held.0 + 2));
                seen.until(&mut follower, "all", |s| s.log.len() as u64 == held.0 + 3);
                follower.gate().freeze(&mut |event| seen.take(&event)).unwrap();
            }
            assert_eq!(follower.held(), OpNumber(9));
        },
    );
}

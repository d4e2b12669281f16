//! The guard of clsact filters: it removes what a killed process leaves, and keeps nothing of that process alive.

mod common;

use common::actor::{Actor, receive, socket};
use common::counting::{Counting, Seat};
use common::foreign::command;
use common::group::{PORT, members};
use common::hosts::{DEADLINE, fabric, wait_until};
use common::privileged;
use common::traces::{Held, shown};
use common::victim::{Attachment, Victim, config, guards_even_dead, guards_of};
use electrode::Endpoint;
use electrode::fabric::{Fabric, Family};

/// Not a test: the process that is killed.
#[test]
#[ignore = "started by others"]
fn process_with_an_endpoint() {
    common::victim::run();
}

fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("the field").trim().to_owned()
}

/// Nobody runs `elecctl detach`: filters and a qdisc of ours go with the process, and strangers' stay.
#[test]
fn sigkill_takes_clsact_filters_along() {
    if !privileged("sigkill_takes_clsact_filters_along") {
        return;
    }
    // On an interface without the qdisc, with an empty one of somebody else, and with one that is used.
    for foreign in ["", "clsact", "clsact and filters"] {
        let fabric = fabric(2, Family::V4);
        fabric.pin_neighbours(0).unwrap();
        let netns = fabric.host(1).netns();
        if !foreign.is_empty() {
            command(netns, "tc qdisc add dev eth0 clsact");
        }
        let seats = [Seat::ClsactIngress, Seat::ClsactEgress];
        let attach = |seat| Counting::attach(netns, seat, "eth0");
        let strangers: Vec<_> =
            seats.into_iter().filter(|_| foreign.contains("filters")).map(attach).collect();
        let before = shown(netns);
        let leader = Actor::new(&fabric, 0);
        let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
        let held = Held::by_process(netns, victim.pid());
        held.assert_whole(Attachment::Clsact);
        leader.prepare_ops(members(&fabric, 2)[1], [1]);
        assert_eq!(leader.acks_up_to(1), [1]);

        victim.kill();
        wait_until("the guard removes the filters", || shown(netns) == before);
        wait_until("the kernel lets go", || held.is_gone());
        let counts: Vec<_> = strangers.iter().map(Counting::count).collect();
        // Past ours there is nobody any more who would take it.
        let next = socket(fabric.host(1), PORT);
        leader.prepare_ops(members(&fabric, 2)[1], [2]);
        let (_, from) = receive(&next, DEADLINE).expect("the packet passes");
        next.send_to(b"?", from).unwrap();
        for (stranger, before) in strangers.iter().zip(counts) {
            assert!(stranger.count() > before, "{:?} does not run", stranger.seat);
        }
    }
}

/// A qdisc of ours that somebody else uses by now is theirs.
#[test]
fn a_qdisc_that_others_use_stays() {
    if !privileged("a_qdisc_that_others_use_stays") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    let stranger = Counting::attach(netns, Seat::ClsactEgress, "eth0");
    let id = format!(" id {} ", stranger.id);
    victim.kill();
    let filters =
        || ["ingress", "egress"].map(|half| command(netns, &format!("tc filter show dev eth0 {half}")));
    wait_until("ours are gone", || filters().iter().all(|shown| !shown.contains("elec_")));
    // The guard ends when it is done.
    wait_until("the guard's end", || !guard_in(&fabric));
    assert!(filters()[1].contains(&id), "{:?}", filters());
}

/// A supervisor starts a replica again as soon as it has died: the guard of the dead one, which is still at its work,
/// takes nothing of the successor's along, and the successor comes up.
#[test]
fn a_successor_keeps_its_filters() {
    if !privileged("a_successor_keeps_its_filters") {
        return;
    }
    // Fewer where the machine is emulated.
    let lives = std::env::var("ELECTRODE_CYCLES").map_or(30, |value| value.parse().unwrap());
    let fabric = fabric(2, Family::V4);
    fabric.pin_neighbours(0).unwrap();
    let netns = fabric.host(1).netns();
    let before = shown(netns);
    let mut victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    for life in 1..=lives {
        let [dead] = guards_of(victim.pid())[..] else { panic!("a guard") };
        victim.kill();
        victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
        wait_until("the end of the guard of the dead", || !is_guard(dead));
        Held::in_namespace(netns).assert_whole(Attachment::Clsact);
        // A life knows nothing of the ones before it.
        let leader = Actor::new(&fabric, 0);
        leader.prepare_ops(members(&fabric, 2)[1], [1]);
        assert_eq!(leader.acks_up_to(1), [1], "life {life}");
    }
    victim.kill();
    // A qdisc that one life made for another one's filters is nobody's in the end.
    wait_until("all are gone", || {
        let mut now = shown(netns);
        now[0] =
            now[0].lines().filter(|line| !line.contains("clsact")).map(|line| format!("{line}\n")).collect();
        now == before && !guard_in(&fabric)
    });
}

/// Whether this is a guard that can still do something: whoever reaps the dead takes its time.
fn is_guard(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| status.contains("Name:\telec-guard") && !status.contains("State:\tZ"))
}

/// A process that forks does not lend gate and log to its child.
#[test]
fn a_fork_has_no_maps() {
    if !privileged("a_fork_has_no_maps") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", victim.pid())).unwrap();
    // `VmFlags: ... dc ...` (do not copy on fork) ends what is said of a mapping.
    let (mut name, mut kept, mut lent) = ("", 0, 0);
    for line in smaps.lines() {
        match line.strip_prefix("VmFlags:") {
            Some(flags) if name.contains("bpf-map") && flags.split(' ').any(|flag| flag == "dc") => kept += 1,
            Some(_) if name.contains("bpf-map") => lent += 1,
            None if line.contains('-') && line.contains(" 00:") => name = line,
            _ => {}
        }
    }
    assert!(kept >= 5, "control, configuration, keys, rounds, slots: {kept} are not lent");
    assert!(lent <= 2, "{lent} are lent; the doorbell alone may be, which libbpf has mapped");
}

/// What somebody put where ours was is not ours, whatever its number.
#[test]
fn a_filter_in_the_place_of_ours_stays() {
    if !privileged("a_filter_in_the_place_of_ours_stays") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    let shown = || command(netns, "tc filter show dev eth0 ingress");
    let ours = shown();
    let after = |word: &str| {
        let mut words = ours.split_whitespace().skip_while(|w| *w != word).skip(1);
        words.next().unwrap_or_else(|| panic!("no {word} in {ours}"))
    };
    let place = format!("dev eth0 ingress pref {} handle {} bpf", after("pref"), after("handle"));
    command(netns, &format!("tc filter del {place}"));
    // `return -1`: go on with the next filter.
    let add: Vec<_> = ["filter", "add"].into_iter().chain(place.split(' ')).collect();
    let bytecode = ["da", "bytecode", "1,6 0 0 4294967295"];
    let output = netns.command("tc").args(add).args(bytecode).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = shown();
    victim.kill();
    wait_until("the guard's end", || !guard_in(&fabric));
    assert_eq!(shown(), theirs);
    assert_eq!(command(netns, "tc filter show dev eth0 egress"), "");
}

/// Whether a guard lives in host 1's namespace.
fn guard_in(fabric: &Fabric) -> bool {
    let inode = fabric.host(1).netns().inode().unwrap();
    let name = format!("net:[{inode}]");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes.map(|entry| entry.path()).any(|path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == "elec-guard")
            && std::fs::read_link(path.join("ns/net")).is_ok_and(|net| net.to_string_lossy() == name)
    })
}

/// It keeps one capability and two sockets: no program, map, link, file or terminal lives on through it.
#[test]
fn the_guard_holds_nothing_of_its_owner() {
    if !privileged("the_guard_holds_nothing_of_its_owner") {
        return;
    }
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let fabric = fabric(2, Family::V4);
    let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    let guards = guards_of(victim.pid());
    let &[guard] = &guards[..] else { panic!("one interface, one guard: {guards:?}") };

    let fds = std::fs::read_dir(format!("/proc/{guard}/fd")).unwrap();
    let fds: Vec<_> = fds.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap()).collect();
    assert!(fds.len() == 2 && fds.iter().all(|fd| fd.to_string_lossy().starts_with("socket:")), "{fds:?}");
    let maps = std::fs::read_to_string(format!("/proc/{guard}/maps")).unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{}/maps", victim.pid())).unwrap().contains("bpf-map"));
    assert!(!maps.contains("bpf-map"), "{maps}");
    for (set, expected) in
        [("CapEff", CAP_NET_ADMIN), ("CapPrm", CAP_NET_ADMIN), ("CapInh", 0), ("CapBnd", 0), ("CapAmb", 0)]
    {
        assert_eq!(status(guard, set), format!("{expected:016x}"), "{set}");
    }
    assert_eq!((status(guard, "NoNewPrivs"), status(guard, "Threads")), ("1".into(), "1".into()));
}

/// Whoever ends a service asks all of its processes, and Ctrl-C reaches the group: the guard stays for its owner.
#[test]
fn the_guard_outlives_a_request_to_end() {
    if !privileged("the_guard_outlives_a_request_to_end") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let before = shown(netns);
    let victim = Victim::start(&fabric, 2, 1, Attachment::Clsact);
    let [guard] = guards_of(victim.pid())[..] else { panic!("a guard") };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: numbers; a child of a process that we started.
        assert_eq!(unsafe { libc::kill(guard as i32, signal) }, 0);
    }
    // SAFETY: a number.
    assert_ne!(unsafe { libc::getpgid(guard as i32) }, unsafe { libc::getpgid(victim.pid() as i32) });
    assert_eq!(guards_of(victim.pid()), [guard]);
    victim.kill();
    wait_until("it still does its work", || shown(netns) == before);
}

/// Closing in order leaves neither filters nor a process, not even a dead one; nor does losing the guard first.
#[test]
fn the_guard_ends_with_the_last_endpoint() {
    if !privileged("the_guard_ends_with_the_last_endpoint") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    let netns = fabric.host(1).netns();
    let before = shown(netns);
    let open = |port| {
        let mut config = config(members(&fabric, 2), 1, Attachment::Clsact);
        config.members.iter_mut().for_each(|member| member.set_port(port));
        netns.run(|| Endpoint::open(config)).unwrap().unwrap()
    };
    for lose_guard in [false, true] {
        let [first, second] = [PORT, PORT + 1].map(open);
        assert!(guard_in(&fabric));
        if lose_guard {
            let guards = guards_of(std::process::id());
            assert!(!guards.is_empty());
            for guard in guards {
                // SAFETY: numbers; our own child.
                assert_eq!(unsafe { libc::kill(guard as i32, libc::SIGKILL) }, 0);
            }
        }
        drop(first);
        Held::in_namespace(netns).assert_whole(Attachment::Clsact);
        drop(second);
        assert_eq!(shown(netns), before, "guard lost: {lose_guard}");
        assert!(!guard_in(&fabric));
    }
    assert_eq!(guards_even_dead(std::process::id()), [0u32; 0], "a child was not waited for");
}

use super::*;
use crate::config::ClusterConfig;
use crate::message::{ClientReply, ReplyStatus};
use crate::message::{Have, Part};
use electrode::abi::HEADER_BYTES;
use electrode::types::{ReplicaId, View};
use std::net::SocketAddr;

mod large;

const RETRY: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(1000);

fn group() -> Group {
    let members = (1..=3).map(|i| SocketAddr::from(([10, 0, 0, i], 7100))).collect();
    let mut config = ClusterConfig::new(9, members);
    config.timeouts.client_retry_ms = RETRY.as_millis() as u64;
    config.timeouts.request_timeout_ms = TIMEOUT.as_millis() as u64;
    Group::new(&config)
}

/// The one datagram that is to be sent.
fn attempt(datagram: &[u8]) -> u16 {
    match Packet::parse(&datagram[HEADER_BYTES..]) {
        Ok(Packet::Request(request)) => request.attempt,
        other => panic!("{other:?}"),
    }
}

/// The copy that would be sent now, as the first one was.
fn as_first(session: &Session) -> Vec<u8> {
    let mut copy = packet(session).to_vec();
    Group::set_attempt(&mut copy, 1);
    copy
}

fn packet(session: &Session) -> &[u8] {
    let mut packets = session.packets();
    let first = packets.next().unwrap();
    assert_eq!(packets.next(), None);
    first
}

fn begun(group: &Group) -> (Session, Instant) {
    let mut session = Session::new(0);
    let now = Instant::now();
    session.begin(group, b"command", now);
    (session, now)
}

fn answer(session: &Session, request: u64, status: ReplyStatus, leader: u8) -> ClientReply<'static> {
    ClientReply {
        status,
        leader: ReplicaId(leader),
        view: View(0),
        client: session.id(),
        request,
        attempt: session.sends() as u16,
        result: b"result",
    }
}

#[test]
fn a_request_travels_under_the_groups_header() {
    let group = group();
    let (session, _) = begun(&group);
    match group.parse(packet(&session)) {
        Some(Packet::Request(request)) => {
            assert_eq!(
                (request.client, request.request, request.command),
                (session.id(), 1, &b"command"[..])
            );
        }
        other => panic!("{other:?}"),
    }
    // Another group, or the same with another configuration, does not understand it.
    for change in [|c: &mut ClusterConfig| c.group = 8, |c: &mut ClusterConfig| c.log_slots = 64] {
        let mut config = ClusterConfig::new(9, group.members().to_vec());
        change(&mut config);
        assert_eq!(Group::new(&config).parse(packet(&session)), None);
    }
}

#[test]
fn only_the_answer_to_this_request_of_this_session_counts() {
    let group = group();
    let (mut session, now) = begun(&group);
    let good = answer(&session, 1, ReplyStatus::Ok, 0);
    for stranger in [ClientReply { client: good.client ^ 1, ..good }, ClientReply { request: 2, ..good }] {
        assert_eq!(session.on_reply(&group, &stranger, now), Step::Wait(now + RETRY));
    }
    assert_eq!(session.on_reply(&group, &good, now), Step::Done);
    // A duplicate is no answer to the next request.
    assert!(matches!(session.on_reply(&group, &good, now), Step::Wait(_)));
    session.begin(&group, b"next", now);
    assert!(matches!(session.on_reply(&group, &good, now), Step::Wait(_)));
    assert_eq!(session.on_reply(&group, &answer(&session, 2, ReplyStatus::Ok, 0), now), Step::Done);
}

#[test]
fn copies_differ_in_their_attempt_alone_and_pauses_grow() {
    let group = group();
    let (mut session, start) = begun(&group);
    let first = packet(&session).to_vec();
    assert_eq!(attempt(&first), 1);
    let mut sent_at = vec![];
    let mut now = start;
    let error = loop {
        match session.on_time(&group, now) {
            Step::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Step::Send => {
                sent_at.push((now - start).as_millis());
                assert_eq!(attempt(packet(&session)), sent_at.len() as u16 + 1);
                assert_eq!(as_first(&session), first);
            }
            Step::Failed(error) => break error,
            Step::Done => panic!("nobody answered"),
        }
    };
    assert_eq!(sent_at, [100, 200, 400, 800]);
    assert_eq!(now - start, TIMEOUT);
    assert_eq!(error, RequestError::Unknown { waited_ms: 1000, sends: 5 });
}

/// To whom a request goes, the first time and while nobody answers.
fn targets_in_silence(group: &Group, mut session: Session, start: Instant) -> Vec<usize> {
    let mut targets = vec![session.target()];
    for ms in [100, 200, 400, 800] {
        assert_eq!(session.on_time(group, start + Duration::from_millis(ms)), Step::Send);
        targets.push(session.target());
    }
    targets
}

#[test]
fn silence_makes_it_try_the_others() {
    let group = group();
    let (session, start) = begun(&group);
    assert_eq!(targets_in_silence(&group, session, start), [0, 0, 1, 1, 2]);
}

#[test]
fn a_hint_is_followed_at_once_but_not_in_circles() {
    let group = group();
    let (mut session, now) = begun(&group);
    assert_eq!(session.on_reply(&group, &answer(&session, 1, ReplyStatus::NotLeader, 2), now), Step::Send);
    assert_eq!(session.target(), 2);
    let mut sends = 1;
    for i in 0..20 {
        let step = session.on_reply(&group, &answer(&session, 1, ReplyStatus::NotLeader, i % 2), now);
        sends += usize::from(step == Step::Send);
    }
    assert_eq!(sends, 3, "as many redirections as members");
    // The next copy goes out with the timer, and a good answer still counts.
    assert!(matches!(session.on_time(&group, now + RETRY * 2), Step::Send));
    assert_eq!(session.on_reply(&group, &answer(&session, 1, ReplyStatus::Ok, 1), now), Step::Done);
}

#[test]
fn a_hint_to_nobody_is_ignored() {
    let group = group();
    let (mut session, now) = begun(&group);
    for leader in [3, 255] {
        let step = session.on_reply(&group, &answer(&session, 1, ReplyStatus::NotLeader, leader), now);
        assert!(matches!(step, Step::Wait(_)));
        assert_eq!(session.target(), 0);
    }
}

/// Runs until it fails; every send is answered with `status`, except those whose number `silent` holds.
fn give_up(status: ReplyStatus, silent: &[u32]) -> (Session, RequestError) {
    let group = group();
    let (mut session, mut now) = begun(&group);
    loop {
        if !silent.contains(&session.sends()) {
            let reply = answer(&session, 1, status, session.target() as u8);
            // Twice: the network may double a reply.
            session.on_reply(&group, &reply, now);
            session.on_reply(&group, &reply, now);
        }
        loop {
            match session.on_time(&group, now) {
                Step::Wait(until) => now = until,
                Step::Send => break,
                Step::Failed(error) => return (session, error),
                Step::Done => panic!("never answered"),
            }
        }
    }
}

#[test]
fn try_again_promises_that_nothing_was_applied() {
    for status in [ReplyStatus::TryAgain, ReplyStatus::NotLeader] {
        let (_, error) = give_up(status, &[]);
        assert!(matches!(error, RequestError::TryAgain { .. }), "{error}");
        // One copy without an answer may have been applied.
        let (_, error) = give_up(status, &[2]);
        assert!(matches!(error, RequestError::Unknown { .. }), "{error}");
    }
}

#[test]
fn a_doubled_refusal_says_nothing_of_the_next_copy() {
    let group = group();
    let (mut session, start) = begun(&group);
    let refusal = answer(&session, 1, ReplyStatus::NotLeader, 1);
    assert_eq!(session.on_reply(&group, &refusal, start), Step::Send);
    // Member 1 takes the second copy and dies, and the first member's answer comes once more.
    session.on_reply(&group, &refusal, start);
    let error = loop {
        match session.on_time(&group, session.resend_at()) {
            Step::Failed(error) => break error,
            Step::Send => {
                let refusal = answer(&session, 1, ReplyStatus::TryAgain, 0);
                session.on_reply(&group, &refusal, session.resend_at());
            }
            _ => {}
        }
    };
    assert!(matches!(error, RequestError::Unknown { .. }), "{error}");
}

/// It may wait for a leader that nobody else waits for.
#[test]
fn a_member_that_only_turns_down_is_left() {
    let group = group();
    let (mut session, start) = begun(&group);
    let mut targets = vec![session.target()];
    loop {
        let refusal = answer(&session, 1, ReplyStatus::TryAgain, 0);
        session.on_reply(&group, &refusal, start);
        match session.on_time(&group, session.resend_at()) {
            Step::Send => targets.push(session.target()),
            Step::Failed(_) => break,
            _ => {}
        }
    }
    assert_eq!(targets, [0, 0, 0, 0, 1]);
    assert_eq!(session.target(), 2);
}

#[test]
fn the_last_copy_is_given_time_to_be_settled() {
    let group = group();
    let (mut session, start) = begun(&group);
    let mut last_sent = start;
    loop {
        let refusal = answer(&session, 1, ReplyStatus::TryAgain, 0);
        session.on_reply(&group, &refusal, session.resend_at());
        let now = session.resend_at();
        match session.on_time(&group, now) {
            Step::Failed(error) => {
                assert!(matches!(error, RequestError::TryAgain { .. }), "{error}");
                assert!(now - last_sent >= RETRY);
                return;
            }
            Step::Send => last_sent = now,
            _ => {}
        }
    }
}

#[test]
fn a_request_of_unknown_fate_ends_the_session() {
    let (mut session, _) = give_up(ReplyStatus::TryAgain, &[1]);
    let old = session.id();
    assert!(!session.is_busy());
    let group = group();
    session.begin(&group, b"x", Instant::now());
    assert_eq!(session.id(), old);
    let Some(Packet::Request(request)) = group.parse(packet(&session)) else { panic!("a request") };
    assert_eq!((request.client, request.request), (old, 1), "a new session counts from 1");
    let error =
        session.on_reply(&group, &answer(&session, 1, ReplyStatus::SessionUnknown, 0), Instant::now());
    assert_eq!(error, Step::Failed(RequestError::SessionLost));
    assert_ne!(session.id(), old);
}

#[test]
fn a_command_that_the_group_does_not_take_is_refused_before_it_is_sent() {
    let group = group();
    let max = group.command_bytes_max();
    assert!(group.check(&vec![0; max]).is_ok());
    let error = group.check(&vec![0; max + 1]).unwrap_err();
    assert_eq!(error, CommandTooLong { bytes: max + 1, max });
    assert!(error.to_string().contains("shorter key or value"));
}

#[test]
fn ids_are_not_reused() {
    let ids: std::collections::HashSet<u64> = (0..1000).map(|_| random_id()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(!ids.contains(&0));
}

#[test]
fn hostile_datagrams_are_no_replies() {
    let group = group();
    let (session, _) = begun(&group);
    for cut in 0..packet(&session).len() {
        assert_eq!(group.parse(&packet(&session)[..cut]), None);
    }
    assert_eq!(group.parse_reply(packet(&session)), None, "a request is no reply");
}

#[test]
fn reads_are_counted_apart_and_never_in_doubt() {
    let group = group();
    let mut session = Session::new(0);
    let start = Instant::now();
    let (mut get, mut set) = (Vec::new(), Vec::new());
    Command::Get { key: b"k" }.encode(&mut get).unwrap();
    Command::Set { key: b"k", value: b"v" }.encode(&mut set).unwrap();
    let id = session.id();
    for (command, number) in [(&set, 1), (&get, READ | 1), (&get, READ | 2), (&set, 2)] {
        session.begin(&group, command, start);
        let Some(Packet::Request(request)) = group.parse(packet(&session)) else { panic!() };
        assert_eq!(request.request, number);
        assert_eq!(
            session.on_reply(&group, &answer(&session, number, ReplyStatus::Ok, 0), start),
            Step::Done
        );
    }
    // No answer, or none that helps: nothing was applied, and the session goes on.
    let late = start + TIMEOUT;
    for (number, is_answered) in [(READ | 3, false), (READ | 4, true)] {
        session.begin(&group, &get, start);
        let unknown = answer(&session, number, ReplyStatus::SessionUnknown, 0);
        if is_answered {
            assert!(matches!(session.on_reply(&group, &unknown, start), Step::Wait(_)));
        }
        assert!(matches!(session.on_time(&group, late), Step::Failed(RequestError::TryAgain { .. })));
        assert_eq!(session.id(), id);
    }
    session.begin(&group, &set, late);
    let Some(Packet::Request(request)) = group.parse(packet(&session)) else { panic!() };
    assert_eq!((request.client, request.request), (id, 3));
    // A write without an answer is in doubt, and the session ends.
    assert!(matches!(session.on_time(&group, late + TIMEOUT), Step::Failed(RequestError::Unknown { .. })));
    assert_ne!(session.id(), id);
}

/// A timeout too short for a second copy: the next request is for somebody else.
#[test]
fn whoever_gives_up_in_silence_asks_another_member_next() {
    let group = group().with_timeout(RETRY / 2);
    let (mut session, now) = begun(&group);
    for target in [1, 2, 0] {
        assert!(matches!(session.on_time(&group, now + RETRY), Step::Failed(RequestError::Unknown { .. })));
        assert_eq!(session.target(), target);
        session.begin(&group, b"command", now);
    }
}

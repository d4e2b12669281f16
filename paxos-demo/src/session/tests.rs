use super::*;
use crate::config::ClusterConfig;
use crate::message::{Have, Part};
use electrode::types::{ReplicaId, View};
use std::net::SocketAddr;

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
fn copies_are_identical_with_growing_pauses() {
    let group = group();
    let (mut session, start) = begun(&group);
    let first = packet(&session).to_vec();
    let mut sent_at = vec![];
    let mut now = start;
    let error = loop {
        match session.on_time(&group, now) {
            Step::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Step::Send => {
                assert_eq!(packet(&session), first);
                sent_at.push((now - start).as_millis());
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

/// A session with a command in parts under way, and that command.
fn uploading(group: &Group, windows: usize) -> (Session, Vec<u8>, Instant) {
    let command: Vec<u8> = (0..windows * 16 * 1300).map(|i| i as u8).collect();
    let mut session = Session::new(0);
    let now = Instant::now();
    session.begin(group, &command, now);
    (session, command, now)
}

/// Where the parts that are to be sent begin, and whether the last of them ends the command.
fn window(group: &Group, session: &Session, command: &[u8]) -> (usize, bool) {
    let parts: Vec<Part<'_>> = session
        .packets()
        .map(|packet| match group.parse(packet) {
            Some(Packet::Part(part)) => part,
            other => panic!("{other:?}"),
        })
        .collect();
    for (index, part) in parts.iter().enumerate() {
        let offset = part.offset as usize;
        assert_eq!(&command[offset..offset + part.bytes.len()], part.bytes);
        assert_eq!(part.asks, index + 1 == parts.len());
    }
    let last = parts.last().unwrap();
    (parts[0].offset as usize, last.offset as usize + last.bytes.len() == command.len())
}

fn have(session: &Session, have: usize) -> Packet<'static> {
    Packet::Have(Have { client: session.id(), request: session.request(), have: have as u32 })
}

#[test]
fn a_window_follows_the_answer_to_the_one_before() {
    let group = group();
    let (mut session, command, now) = uploading(&group, 3);
    assert_eq!(window(&group, &session, &command), (0, false));
    assert_eq!(session.sends(), 0, "nothing that could be applied");
    let waits = Step::Wait(session.resend_at());
    assert_eq!(session.on_packet(&group, &have(&session, 5000), now), Step::Send, "some of it was lost");
    assert_eq!(window(&group, &session, &command), (5000, false));
    for echo in [5000, 0, 4999, command.len(), usize::MAX] {
        assert_eq!(session.on_packet(&group, &have(&session, echo), now), waits, "{echo}");
    }
    let stranger = Packet::Have(Have { client: session.id() ^ 1, request: 1, have: 6000 });
    assert_eq!(session.on_packet(&group, &stranger, now), waits);
    // Silence: the same again, and now the leader may say that it lost what it had.
    assert_eq!(session.on_time(&group, now + RETRY), Step::Send);
    assert_eq!(window(&group, &session, &command), (5000, false));
    assert_eq!(session.on_packet(&group, &have(&session, 100), now + RETRY), Step::Send);
    assert_eq!(window(&group, &session, &command), (100, false));
    // Another leader has nothing of it.
    assert_eq!(session.on_reply(&group, &answer(&session, 1, ReplyStatus::NotLeader, 2), now), Step::Send);
    assert_eq!((session.target(), window(&group, &session, &command)), (2, (0, false)));
    let end = command.len() - 10_000;
    assert_eq!(session.on_packet(&group, &have(&session, end), now), Step::Send);
    assert_eq!((session.sends(), window(&group, &session, &command)), (1, (end, true)));
    assert_eq!(session.on_reply(&group, &answer(&session, 1, ReplyStatus::Ok, 2), now), Step::Done);
}

/// Gives up at the end; what was answered before is told by `answers`.
fn fate(answers: impl Fn(&Group, &mut Session, &[u8], Instant)) -> RequestError {
    let group = group();
    let (mut session, command, now) = uploading(&group, 2);
    answers(&group, &mut session, &command, now);
    let Step::Failed(error) = session.on_time(&group, now + TIMEOUT) else { panic!("gives up") };
    error
}

#[test]
fn nothing_is_in_doubt_before_the_last_part_was_sent() {
    let try_again = |error| matches!(error, RequestError::TryAgain { .. });
    let end = |group: &Group, session: &mut Session, command: &[u8], now| {
        assert_eq!(session.on_packet(group, &have(session, command.len() - 1), now), Step::Send);
    };
    let turned_down = |group: &Group, session: &mut Session, now| {
        session.on_reply(group, &answer(session, 1, ReplyStatus::TryAgain, 0), now);
    };
    assert!(try_again(fate(|_, _, _, _| {})));
    assert!(!try_again(fate(end)));
    assert!(try_again(fate(|group, session, command, now| {
        end(group, session, command, now);
        turned_down(group, session, now);
    })));
    // What was said to a later window says nothing about the copy before it.
    assert!(!try_again(fate(|group, session, command, now| {
        end(group, session, command, now);
        for n in [1, 3] {
            assert_eq!(session.on_time(group, now + n * RETRY), Step::Send);
        }
        assert_eq!((session.target(), session.sends()), (1, 2));
        assert_eq!(window(group, session, command), (0, false));
        turned_down(group, session, now);
        assert_eq!(session.on_time(group, now + 5 * RETRY), Step::Send);
        assert_eq!((session.sends(), window(group, session, command)), (2, (0, false)));
        turned_down(group, session, now);
    })));
}

#[test]
fn a_silent_leader_of_a_command_in_parts_is_left() {
    let group = group();
    let (session, _, start) = uploading(&group, 3);
    assert_eq!(targets_in_silence(&group, session, start), [0, 0, 1, 1, 2]);
}

#[test]
fn a_long_result_is_pulled_and_never_torn() {
    let group = group();
    let mut session = Session::new(0);
    let now = Instant::now();
    let mut get = Vec::new();
    Command::Get { key: b"k" }.encode(&mut get).unwrap();
    session.begin(&group, &get, now);
    let request = packet(&session).to_vec();
    let result: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    let large = |session: &Session, of: &[u8]| {
        let description = ClientReply::describe_large(of).to_vec();
        (session.id(), session.request(), description)
    };
    let announce = |session: &mut Session, of: &[u8]| {
        let (client, request, description) = large(session, of);
        let (status, leader, view) = (ReplyStatus::Large, ReplicaId(0), View(0));
        session.on_reply(
            &group,
            &ClientReply { status, leader, view, client, request, result: &description },
            now,
        )
    };
    let asks = |session: &Session| match group.parse(packet(session)) {
        Some(Packet::Have(have)) => have.have as usize,
        other => panic!("{other:?}"),
    };
    let send = |session: &mut Session, whole: &[u8], from: usize, to: usize, asks: bool| {
        let (client, request) = (session.id(), session.request());
        let (total_bytes, offset) = (whole.len() as u32, from as u32);
        let part = Packet::Part(Part { client, request, total_bytes, offset, asks, bytes: &whole[from..to] });
        let step = session.on_packet(&group, &part, now);
        let done = (step == Step::Done).then(|| session.take_result(&part));
        (step, done)
    };
    assert_eq!(
        (announce(&mut session, &result), asks(&session), session.pull_bytes()),
        (Step::Send, 0, Some(5000))
    );
    let waits = Step::Wait(session.resend_at());
    assert_eq!(announce(&mut session, &result), waits, "known");
    assert_eq!(send(&mut session, &result, 0, 1000, false).0, waits);
    assert_eq!(send(&mut session, &result, 2000, 3000, true).0, Step::Send, "one was lost");
    assert_eq!(asks(&session), 1000);
    // The question was lost, and asked again once; then the session reads again.
    let later = now + RETRY;
    assert_eq!((session.on_time(&group, later), asks(&session)), (Step::Send, 1000));
    assert_eq!(session.on_time(&group, later + RETRY), Step::Send);
    assert_eq!(packet(&session), request);
    // Parts of two results of one length.
    let other = vec![7; 5000];
    assert_eq!(announce(&mut session, &result), Step::Send);
    assert_eq!(send(&mut session, &result, 0, 2500, false).0, Step::Wait(session.resend_at()));
    assert_eq!(send(&mut session, &other, 2500, 5000, true).0, Step::Wait(session.resend_at()));
    assert_eq!(packet(&session), request);
    // The leader does not have it any more.
    assert_eq!(announce(&mut session, &result), Step::Send);
    session.on_reply(&group, &answer(&session, READ | 1, ReplyStatus::TryAgain, 0), now);
    assert_eq!(packet(&session), request);

    assert_eq!(announce(&mut session, &result), Step::Send);
    assert_eq!(send(&mut session, &result, 0, 2500, true).0, Step::Send);
    assert_eq!(send(&mut session, &result, 2500, 5000, true), (Step::Done, Some(result.clone())));
    assert!(!session.is_busy());
}

//! Commands and results in parts.

use super::*;

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

/// A session that reads a key.
fn reading(group: &Group, now: Instant) -> Session {
    let mut session = Session::new(0);
    let mut get = Vec::new();
    Command::Get { key: b"k" }.encode(&mut get).unwrap();
    session.begin(group, &get, now);
    session
}

/// Replica 0 says that the result is a long one.
fn announce(group: &Group, session: &mut Session, result: &[u8], now: Instant) -> Step {
    let (client, request) = (session.id(), session.request());
    let description = ClientReply::describe_large(result).to_vec();
    let (status, leader, view) = (ReplyStatus::Large, ReplicaId(0), View(0));
    let reply = ClientReply { status, leader, view, client, request, attempt: 1, result: &description };
    session.on_reply(group, &reply, now)
}

#[test]
fn a_long_result_is_pulled_and_never_torn() {
    let group = group();
    let now = Instant::now();
    let mut session = reading(&group, now);
    let request = packet(&session).to_vec();
    let result: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    let announce = |session: &mut Session, of: &[u8]| announce(&group, session, of, now);
    let asks = |session: &Session| match group.parse(packet(session)) {
        Some(Packet::Have(have)) => have.have as usize,
        other => panic!("{other:?}"),
    };
    let send = |session: &mut Session, whole: &[u8], from: usize, to: usize, asks: bool| {
        let (client, request) = (session.id(), session.request());
        let (total_bytes, offset) = (whole.len() as u32, from as u32);
        let part = Packet::Part(Part {
            client,
            request,
            attempt: 0,
            total_bytes,
            offset,
            asks,
            bytes: &whole[from..to],
        });
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
    assert_eq!(as_first(&session), request);
    // Parts of two results of one length.
    let other = vec![7; 5000];
    assert_eq!(announce(&mut session, &result), Step::Send);
    assert_eq!(send(&mut session, &result, 0, 2500, false).0, Step::Wait(session.resend_at()));
    assert_eq!(send(&mut session, &other, 2500, 5000, true).0, Step::Wait(session.resend_at()));
    assert_eq!(as_first(&session), request);
    // The leader does not have it any more.
    assert_eq!(announce(&mut session, &result), Step::Send);
    session.on_reply(&group, &answer(&session, READ | 1, ReplyStatus::TryAgain, 0), now);
    assert_eq!(as_first(&session), request);

    assert_eq!(announce(&mut session, &result), Step::Send);
    assert_eq!(send(&mut session, &result, 0, 2500, true).0, Step::Send);
    assert_eq!(send(&mut session, &result, 2500, 5000, true), (Step::Done, Some(result.clone())));
    assert!(!session.is_busy());
}

/// An answer that took so long that another one was asked since: the result is where the answer came from.
#[test]
fn a_long_result_is_pulled_from_the_one_that_has_it() {
    let group = group();
    let now = Instant::now();
    let mut session = reading(&group, now);
    let mut later = now;
    while session.target() == 0 {
        later = session.resend_at();
        session.on_time(&group, later);
    }
    assert_eq!(announce(&group, &mut session, &[7; 5000], later), Step::Send);
    assert_eq!(session.target(), 0);
    assert!(matches!(group.parse(packet(&session)), Some(Packet::Have(_))));
}

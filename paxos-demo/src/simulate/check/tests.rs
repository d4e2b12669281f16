//! The checkers checked: right histories pass, and each wrong one is told apart from its right twin.
//!
//! Most checkers are seen to fire by a planted bug (`simulate::tests`). What no plant breaks first is here.

use electrode::types::{OpNumber, View};
use electrode::words::GateState;

use super::super::disk::Disk;
use super::replay::{Answer, Replay};
use super::{Checked, Checker, Committed, Promise};
use crate::batch::{self, BatchEntry};
use crate::config::Durability;
use crate::state_machine::Command;

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes).expect("a short key");
    bytes
}

fn increment() -> Vec<u8> {
    encoded(&Command::IncrBy { key: b"n", delta: 1 })
}

fn read() -> Vec<u8> {
    encoded(&Command::Get { key: b"n" })
}

/// The result of an increment.
fn number(value: i64) -> Vec<u8> {
    [&[4], &value.to_le_bytes()[..]].concat()
}

/// The result of a read.
fn text(value: &str) -> Vec<u8> {
    [&[2], value.as_bytes()].concat()
}

fn op(client: u64, request: u64) -> Committed {
    Committed { value: 0, client, request, command: increment(), part: 0, parts: 0 }
}

fn answer(client: u64, request: u64, result: Vec<u8>, after: usize) -> Answer {
    Answer { client, request, command: increment(), result, after }
}

fn answered(log: &[Committed], answers: impl IntoIterator<Item = Answer>) -> Checked {
    let mut replay = Replay::default();
    for answer in answers {
        replay.answered(log, answer)?;
    }
    replay.finish(log)
}

fn fires(checker: &str, checked: Checked) {
    let violation = checked.expect_err("a wrong history");
    assert_eq!(violation.checker, checker, "{violation}");
}

#[test]
fn c9_each_request_is_executed_once() {
    // The second request of client 1 is in the log twice: it was retried in another view.
    let log = [op(1, 1), op(1, 2), op(1, 2), op(2, 1)];
    answered(&log, [answer(1, 1, number(1), 0), answer(1, 2, number(2), 1), answer(2, 1, number(3), 2)])
        .expect("executed once");
    fires("C9", answered(&log, [answer(1, 2, number(3), 1)]));
    fires("C9", answered(&log, [answer(2, 1, number(4), 2)]));
}

#[test]
fn c9_an_answer_needs_its_op() {
    let log = [op(1, 1)];
    fires("C9", answered(&log, [answer(1, 2, number(2), 1)]));
    // It may be told before the log shows it.
    let mut replay = Replay::default();
    replay.answered(&[], answer(1, 1, number(1), 0)).expect("open");
    replay.finish(&log).expect("explained by now");
}

#[test]
fn c9_time_does_not_go_back() {
    let log = [op(1, 1), op(2, 1)];
    fires("C9", answered(&log, [answer(1, 1, number(1), 2)]));

    let get = |result, after| Answer { command: read(), ..answer(1, 1 << 63, result, after) };
    answered(&log, [get(text("2"), 2)]).expect("what the key holds");
    answered(&log, [get(text("1"), 1), get(text("2"), 1)]).expect("of two at the same time, either");
    fires("C9", answered(&log, [get(text("1"), 2)]));
    fires("C9", answered(&log, [get(text("3"), 0)]));
}

/// A batch of one request.
fn payload(request: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch::encode_header(0, &mut bytes);
    BatchEntry::whole(1, request, &increment()).encode(&mut bytes);
    bytes
}

/// Three replicas in view 0; replica 0 leads it and has ordered one op, which replica 2 acknowledged.
fn one_op() -> Checker {
    let mut checker = Checker::new(3, Durability::Memory);
    let blank = Disk::default();
    let disk = {
        let mut disk = blank.clone();
        disk.state = Some((View(0), View(0)));
        disk
    };
    for node in 0..3 {
        checker.born(node, 1, &blank).expect("a first life");
        checker.opens(node, node == 0, View(0), OpNumber(0), &disk).expect("the group forms");
    }
    checker.prepared(0, OpNumber(1), &payload(1)).expect("the first op");
    let promise = Promise { view: View(0), op: OpNumber(1), incarnation: 1 };
    checker.acked(2, promise, None).expect("mode memory");
    checker
}

fn logs(checker: &mut Checker, node: usize, request: u64) {
    checker
        .logged(node, OpNumber(1), OpNumber(1), &payload(request), GateState::Frozen)
        .expect("the next op");
}

#[test]
fn c1_an_op_has_one_value() {
    let mut checker = one_op();
    logs(&mut checker, 1, 1);
    logs(&mut checker, 2, 2);
    checker.commits(0, OpNumber(1), Some(OpNumber(0))).expect("a quorum");
    checker.commits(1, OpNumber(1), None).expect("the same value");
    fires("C1", checker.commits(2, OpNumber(1), None));
}

#[test]
fn c4_a_commit_needs_its_quorum() {
    let mut checker = one_op();
    checker.has_quorum(0, OpNumber(1)).expect("the leader and replica 2");
    checker.prepared(0, OpNumber(2), &payload(2)).expect("the second op");
    fires("C4", checker.has_quorum(0, OpNumber(2)));
    fires("C4", checker.commits(0, OpNumber(2), Some(OpNumber(0))));
    fires("C4", checker.commits(1, OpNumber(1), None));
}

//! What was ordered and what was answered, checked against a sequential replay that shares no code with the
//! replica (C9, and C1 for what one leader can do wrong).

use super::client::Answer;
use super::fast_path::Batch;
use paxos_demo::batch::open;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub struct History {
    /// Every batch as it was first sent, by first op.
    batches: BTreeMap<u64, Batch>,
    /// Op of each request.
    op_of: HashMap<(u64, u64), u64>,
    answers: Vec<Answer>,
    /// Highest op whose reply a client has seen.
    pub answered_op: u64,
}

impl History {
    pub fn prepared(&mut self, batch: Batch) {
        let mut op = batch.first.0;
        for entry in open(&batch.payload).unwrap().1 {
            let entry = entry.unwrap();
            let before = self.op_of.insert((entry.client, entry.request), op);
            assert_eq!(
                before, None,
                "client {:x} request {} is in the log twice",
                entry.client, entry.request
            );
            op += 1;
        }
        assert_eq!(op, batch.last.0 + 1, "one entry an op");
        self.batches.insert(batch.first.0, batch);
    }

    pub fn resent(&self, batch: &Batch) {
        assert_eq!(
            self.batches.get(&batch.first.0),
            Some(batch),
            "a resend differs from the first send (L6)"
        );
    }

    /// A reply with a result reached a client. `invoked_after`: an op that was answered before the request
    /// was made; only given for the reply that ends the request.
    pub fn answered(&mut self, answer: Answer, invoked_after: Option<u64>) {
        let op = self.op_of[&(answer.client, answer.request)];
        if let Some(before) = invoked_after {
            assert!(op > before, "op {op} was asked for after op {before} was answered");
        }
        self.answered_op = self.answered_op.max(op);
        self.answers.push(answer);
    }

    pub fn ops(&self) -> u64 {
        self.op_of.len() as u64
    }

    /// Every reply is what executing the log once, in order, gives.
    pub fn check_answers(&self) {
        let (mut store, mut results) = (BTreeMap::new(), HashMap::new());
        let mut executed = HashSet::new();
        for batch in self.batches.values() {
            for entry in open(&batch.payload).unwrap().1 {
                let entry = entry.unwrap();
                assert!(executed.insert((entry.client, entry.request)));
                let key_bytes = usize::from(entry.command[2]);
                let (key, value) = entry.command[6..].split_at(key_bytes);
                let result = match entry.command[0] {
                    1 => store.get(key).map_or(vec![0], |value: &&[u8]| [&[2], *value].concat()),
                    2 => {
                        store.insert(key, value);
                        vec![1]
                    }
                    3 => vec![u8::from(store.remove(key).is_some())],
                    op => panic!("operation {op}"),
                };
                results.insert((entry.client, entry.request), result);
            }
        }
        for Answer { client, request, result } in &self.answers {
            assert_eq!(&results[&(*client, *request)], result, "client {client:x} request {request}");
        }
    }
}

//! A key that only half of a group has.

use crate::common::attacker::keys;
use crate::common::group::{Seen, open};
use crate::common::hosts::fabric;
use crate::common::privileged;
use crate::target::{EVERYWHERE, N};

use electrode::config::EndpointConfig;
use electrode::fabric::Family;
use electrode::types::ReplicaId;

/// Half a group with a key: both halves say so.
#[test]
fn a_group_that_got_its_key_by_half_says_so() {
    if !privileged("a_group_that_got_its_key_by_half_says_so") {
        return;
    }
    for id in [2, 3] {
        for (at, keyed) in EVERYWHERE.into_iter().flat_map(|at| [(at, 0), (at, 1)]) {
            let fabric = fabric(N, Family::V4);
            let _stubs = at.stubs(&fabric);
            let mut endpoints: Vec<_> = (0..2)
                .map(|i| {
                    open(&fabric, N, i, &|c: &mut EndpointConfig| {
                        at.configure(c, &keys(id));
                        c.keys = c.keys.take().filter(|_| i == keyed);
                    })
                })
                .collect();
            let mut seen = [Seen::default(), Seen::default()];
            for (from, to) in [(0, 1), (1, 0)] {
                endpoints[from].send_to_member(ReplicaId(to), b"hello").unwrap();
                endpoints[from].flush().unwrap();
            }
            for (endpoint, seen) in endpoints.iter_mut().zip(&mut seen) {
                seen.until(endpoint, "being told", |s| s.misconfigured == 1);
                assert_eq!((seen.keys_differ, seen.messages.len()), (1, 0), "{at:?}");
            }
            let refused = endpoints[1 - keyed].set_keys(&keys(id)).unwrap_err().to_string();
            assert!(refused.contains("without"), "{refused}");
        }
    }
}

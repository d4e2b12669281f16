//! The memory that an endpoint shares with its kernel programs, as bytes: to see that nothing happened.

use std::collections::BTreeMap;
use std::mem::offset_of;

use electrode::fabric::Host;
use electrode_bpf::types::elec_control;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// What packets may change; counters are told apart by the tests.
const MAPS: [&str; 5] = ["elec_control", "elec_config", "elec_keys", "elec_rounds", "elec_slots"];

/// The maps of the endpoint on a host, by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Memory(BTreeMap<&'static str, Vec<u8>>);

impl Memory {
    /// The words, rounds and slots of the one endpoint that is open on `host`.
    pub fn of(host: &Host) -> Self {
        let attached = host.netns().run(electrode::inspect::attachments).unwrap().unwrap();
        let ids: Vec<_> = attached.iter().filter(|a| a.electrode).map(|a| a.program_id).collect();
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let programs = ProgInfoIter::with_query_opts(options).filter(|p| ids.contains(&p.id));
        let mut maps = BTreeMap::new();
        for map in programs.flat_map(|program| program.map_ids) {
            let map = MapHandle::from_map_id(map).unwrap();
            if let Some(name) = MAPS.iter().find(|name| map.name() == **name) {
                maps.entry(*name).or_insert_with(|| contents(&map));
            }
        }
        assert_eq!(maps.len(), MAPS.len(), "no endpoint: {attached:?}");
        let control = maps.get_mut("elec_control").expect("it is among them");
        // Neighbours come and go as they like, and with a filter the endpoint renews its lease.
        control[offset_of!(elec_control, next_hop)..].fill(0);
        control[offset_of!(elec_control, lease_ns)..][..size_of::<u64>()].fill(0);
        Self(maps)
    }

    /// # Panics
    /// If anything is not as in `before`; says where.
    #[track_caller]
    pub fn assert_as(&self, before: &Self, after_what: &str) {
        for (name, now) in &self.0 {
            let then = &before.0[name];
            let at = now.iter().zip(then).position(|(now, then)| now != then);
            assert!(at.is_none(), "{after_what}: {name} differs from byte {at:?} on");
        }
    }
}

fn contents(map: &MapHandle) -> Vec<u8> {
    let element = |index: u32| map.lookup(&index.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    (0..map.max_entries()).flat_map(element).collect()
}

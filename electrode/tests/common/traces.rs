//! What endpoints leave in the kernel, or do not.

use std::path::Path;

use electrode::fabric::NetNs;
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter, ProgInfoQueryOptions};

use super::foreign::{Place, command, tcx_programs};
use super::victim::Attachment;

/// Ids of what the kernel holds for an endpoint.
#[derive(Debug, Default)]
pub struct Held {
    pub programs: Vec<u32>,
    pub maps: Vec<u32>,
    pub links: Vec<u32>,
    pub btf: Vec<u32>,
}

impl Held {
    /// What belongs to the programs of ours that are attached in a namespace.
    pub fn in_namespace(netns: &NetNs) -> Self {
        let mut attached: Vec<u32> =
            [Place::TcxIngress, Place::TcxEgress].into_iter().flat_map(|p| tcx_programs(netns, p)).collect();
        for (shown, mark) in [
            ("ip -details link show dev eth0", "prog/xdp id "),
            ("tc filter show dev eth0 ingress", " id "),
            ("tc filter show dev eth0 egress", " id "),
        ] {
            let text = command(netns, shown);
            attached.extend(
                text.split(mark).skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok()),
            );
        }
        let mut held = Self::default();
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        for program in ProgInfoIter::with_query_opts(options) {
            if attached.contains(&program.id) && program.name.to_string_lossy().starts_with("elec_") {
                held.programs.push(program.id);
                held.maps.extend(program.map_ids);
                held.btf.push(program.btf_id);
            }
        }
        held.btf.extend(MapInfoIter::default().filter(|m| held.maps.contains(&m.id)).map(|m| m.btf_id));
        let links = LinkInfoIter::default().filter(|link| held.programs.contains(&link.prog_id));
        held.links = links.map(|link| link.id).collect();
        held.tidied()
    }

    /// The same, and whatever else of the kind a process holds.
    pub fn by_process(netns: &NetNs, pid: u32) -> Self {
        let mut held = Self::in_namespace(netns);
        let dir = Path::new("/proc").join(pid.to_string()).join("fdinfo");
        for info in std::fs::read_dir(dir).unwrap() {
            let info = std::fs::read_to_string(info.unwrap().path()).unwrap_or_default();
            for line in info.lines() {
                let Some((name, id)) = line.split_once(':') else { continue };
                let ids = match name {
                    "prog_id" => &mut held.programs,
                    "map_id" => &mut held.maps,
                    "link_id" => &mut held.links,
                    "btf_id" => &mut held.btf,
                    _ => continue,
                };
                ids.push(id.trim().parse().unwrap());
            }
        }
        held.tidied()
    }

    fn tidied(mut self) -> Self {
        for ids in [&mut self.programs, &mut self.maps, &mut self.links, &mut self.btf] {
            ids.sort_unstable();
            ids.dedup();
            // No type information at all.
            ids.retain(|id| *id != 0);
        }
        self
    }

    /// What the kernel still has of it. Asks by number alone: an object that is opened to be looked at lives on
    /// for as long.
    pub fn left(&self) -> Self {
        Self {
            programs: still(&self.programs, libbpf_sys::bpf_prog_get_next_id),
            maps: still(&self.maps, libbpf_sys::bpf_map_get_next_id),
            links: still(&self.links, libbpf_sys::bpf_link_get_next_id),
            btf: still(&self.btf, libbpf_sys::bpf_btf_get_next_id),
        }
    }

    /// Whether the kernel has let go of all of it.
    pub fn is_gone(&self) -> bool {
        let left = self.left();
        [left.programs, left.maps, left.links, left.btf].iter().all(Vec::is_empty)
    }

    /// What an endpoint with all offloads has.
    pub fn assert_whole(&self, attachment: Attachment) {
        assert_eq!(self.programs.len(), 2, "{attachment:?}: {self:?}");
        assert!(self.maps.len() >= 7 && !self.btf.is_empty(), "{attachment:?}: {self:?}");
        let links = match attachment {
            Attachment::Clsact => 0,
            // What leaves meets a filter there.
            Attachment::Xdp | Attachment::XdpGeneric if !super::tcx() => 1,
            _ => 2,
        };
        assert_eq!(self.links.len(), links, "{attachment:?}: {self:?}");
    }
}

/// Which of the ids are still in use, by the call that finds the next one.
fn still(ids: &[u32], next_id: unsafe extern "C" fn(u32, *mut u32) -> i32) -> Vec<u32> {
    let in_use = |id: &u32| {
        let mut found = 0;
        // SAFETY: a number and where to put one.
        (unsafe { next_id(*id - 1, &raw mut found) }) == 0 && found == *id
    };
    ids.iter().copied().filter(in_use).collect()
}

/// What anybody can see on the interfaces.
pub fn shown(netns: &NetNs) -> Vec<String> {
    let mut lines = ["tc qdisc show", "tc filter show dev eth0 ingress", "tc filter show dev eth0 egress"]
        .map(|line| command(netns, line))
        .to_vec();
    let link = command(netns, "ip -details link show");
    lines.push(link.lines().filter(|line| line.contains("xdp")).collect());
    lines
        .push(format!("{:?}", [Place::TcxIngress, Place::TcxEgress].map(|place| tcx_programs(netns, place))));
    lines
}

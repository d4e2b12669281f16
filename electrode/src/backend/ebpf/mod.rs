//! The fast path in the kernel: the user-space side of gate, log and rounds.

mod earlier;
mod fast_path;
mod grace;
mod layout;
mod memory;
pub(crate) mod object;
#[cfg(feature = "simulation")]
pub(crate) mod test_run;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use electrode_bpf::types::{elec_config, elec_counters, elec_params};
use libbpf_rs::{MapCore, MapFlags, MapHandle, RingBuffer, RingBufferBuilder};

pub(crate) use self::earlier::earlier_filters_end_ns;
use self::grace::Grace;
use self::memory::{Config, Control, KeySlots, Rounds, Slots};
use self::object::{Maps, Object, address_bytes};
use super::shared::{self, At, Memory, Slot};
use super::{FastPath, RoundSlot};
use crate::abi::Verdict;
use crate::attach::{self, Attached};
use crate::auth::{Key, Keys};
use crate::config::{Acks, EndpointConfig, Hook, TcMechanism};
use crate::error::{Error, Result};
use crate::net::{Direction, Interface, NextHops, Watcher};
use crate::types::{OpNumber, ReplicaId, ReplicaSet, View};
use crate::words::GateWord;

/// Multicast destination of the carrier; the egress program re-addresses it, so it never leaves (L7).
const CARRIER_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 69, 67);
const CARRIER_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x454c, 0x4342);

/// How long a program may hold the log before a grace period is waited for (U1).
const BUSY_PATIENCE: Duration = Duration::from_millis(1);
/// How long the gate stays usable without being renewed, where programs can outlive us (F2).
const LEASE_NS: u64 = 500_000_000;

/// The carrier's address for an endpoint's family.
pub(crate) fn carrier_address(own: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if own.is_ipv4() { CARRIER_V4.into() } else { CARRIER_V6.into() };
    SocketAddr::new(ip, own.port())
}

struct HopWords(Arc<Control>);

impl NextHops for HopWords {
    fn set(&self, peer: usize, word: u64) {
        self.0.next_hop(peer).store(word, Ordering::Release);
    }

    fn set_own(&self, word: u64) {
        self.0.own_mac().store(word, Ordering::Release);
    }
}

/// Programs, maps and hooks of one endpoint; all go away with it.
pub(crate) struct Ebpf {
    // Hooks first: the programs leave before their maps.
    _hooks: Vec<Attached>,
    _watcher: Option<Watcher>,
    control: Arc<Control>,
    config: Config,
    key_slots: KeySlots,
    /// What is in them.
    keys: Option<Keys>,
    rounds: Rounds,
    slots: Slots,
    counters: MapHandle,
    grace: Grace,
    bell: RingBuffer<'static>,
    members: Vec<SocketAddr>,
    carrier: SocketAddr,
    broadcast: bool,
    fast_ack: bool,
    leased: bool,
    opened_ns: u64,
    armed: bool,
    hook: Hook,
    note: Option<String>,
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        // Without hooks this is the process of a simulation, and it dies as one that is killed: its programs may
        // outlive it, and its keys with them.
        if !self._hooks.is_empty() {
            self._hooks.clear();
            (0..2).for_each(|slot| self.key_slots.wipe(slot));
        }
    }
}

/// An endpoint's constants, with which its programs are loaded.
pub(crate) fn params(
    config: &EndpointConfig,
    ifindex: u32,
    socket_cookie: u64,
    slot_payload_bytes: usize,
    leased: bool,
) -> elec_params {
    let own = config.addr();
    elec_params {
        config_hash: config.wire_hash(),
        socket_cookie,
        group: config.group,
        slots: config.log_slots,
        slot_payload_bytes: slot_payload_bytes as u32,
        window: config.quorum_window,
        incarnation: config.incarnation,
        ifindex,
        port_be: own.port().to_be(),
        slf: config.me.0,
        members: config.members.len() as u8,
        ipv6: own.is_ipv6().into(),
        offload_broadcast: config.offloads.broadcast.into(),
        offload_fast_ack: config.offloads.fast_ack.into(),
        offload_quorum: config.offloads.quorum.into(),
        log_only: (config.acks == Acks::ByCaller).into(),
        lease_required: leased.into(),
        xdp_generic: (config.hook == Hook::XdpGeneric).into(),
        authenticated: config.keys.is_some().into(),
        addr: address_bytes(&own),
        carrier_addr: address_bytes(&carrier_address(own)),
        ..Default::default()
    }
}

impl Ebpf {
    /// Loads the programs, attaches them and starts to follow the neighbour table.
    pub(crate) fn open(
        config: &EndpointConfig,
        interface: &Interface,
        socket_cookie: u64,
        payload_bytes_max: usize,
    ) -> Result<Self> {
        let tc = match config.tc {
            TcMechanism::Auto if crate::probe::kernel_at_least(crate::probe::TCX) => TcMechanism::Tcx,
            TcMechanism::Auto => TcMechanism::Clsact,
            chosen => chosen,
        };
        let leased = tc == TcMechanism::Clsact;
        let params = params(config, interface.index, socket_cookie, payload_bytes_max, leased);
        let Object { tx, rx_tc, rx_xdp, maps } = Object::load(&params)?;
        let mut ebpf = Self::with_maps(config, maps, leased, crate::clock::monotonic_ns())?;
        let (hook, ingress, note) = attach_ingress(config.hook, interface, &rx_tc, &rx_xdp, tc)?;
        ebpf._hooks.push(ingress);
        (ebpf.hook, ebpf.note) = (hook, note);
        if config.offloads.broadcast {
            let egress = attach::tc(tx.as_fd(), interface.index, Direction::Egress, tc)?;
            // Dropped first: the ingress filter, which came first, takes the empty clsact qdisc along.
            ebpf._hooks.insert(0, egress);
        }
        let copied = if config.offloads.broadcast { config.peers() } else { ReplicaSet::EMPTY };
        let peers = copied.iter().map(|p| (p.index(), config.members[p.index()].ip())).collect();
        let sink = Arc::new(HopWords(Arc::clone(&ebpf.control)));
        ebpf._watcher = Some(Watcher::start(interface.index, peers, sink)?);
        Ok(ebpf)
    }

    /// The user-space side of loaded programs that are on no hook.
    fn with_maps(config: &EndpointConfig, maps: Maps, leased: bool, opened_ns: u64) -> Result<Self> {
        let control = Arc::new(Control::new(maps.control)?);
        let mut bell = RingBufferBuilder::new();
        bell.add(&maps.bell, |_| 0).map_err(|e| Error::Kernel {
            what: "map the doorbell".into(),
            reason: e.to_string(),
            hint: "`elecctl doctor` tells what this kernel can do".into(),
        })?;
        let bell = bell.build().map_err(|e| Error::Kernel {
            what: "map the doorbell".into(),
            reason: e.to_string(),
            hint: "`elecctl doctor` tells what this kernel can do".into(),
        })?;

        let mut ebpf = Self {
            _hooks: Vec::new(),
            _watcher: None,
            config: Config::new(maps.config)?,
            key_slots: KeySlots::new(maps.keys)?,
            keys: config.keys.clone(),
            rounds: Rounds::new(maps.rounds)?,
            slots: Slots::new(maps.slots)?,
            counters: maps.counters,
            grace: Grace::new()?,
            bell,
            members: config.members.clone(),
            carrier: carrier_address(config.addr()),
            broadcast: config.offloads.broadcast,
            fast_ack: config.offloads.fast_ack,
            leased,
            opened_ns,
            armed: false,
            hook: Hook::Tc,
            note: None,
            control,
        };
        for peer in config.peers().iter() {
            ebpf.expect_incarnation(peer, config.peer_incarnation);
        }
        (0..2).for_each(|slot| ebpf.key_slots.write(slot, ebpf.key(slot)));
        // Members must be there before the first carrier; view and leader come with the first opening.
        ebpf.write_config(View(0), ReplicaId(0));
        Ok(ebpf)
    }

    /// The ingress hook in use, and why it is not another.
    pub(crate) fn hook(&self) -> (Hook, Option<&str>) {
        (self.hook, self.note.as_deref())
    }

    fn gate(&self) -> GateWord {
        shared::gate(self)
    }

    fn write_config(&self, view: View, leader: ReplicaId) {
        let mut config = elec_config { view: view.0, leader: leader.0.into(), ..Default::default() };
        for (member, addr) in config.members.iter_mut().zip(&self.members) {
            member.addr = address_bytes(addr);
            member.port_be = addr.port().to_be();
        }
        self.config.write(&config);
    }

    fn key(&self, slot: usize) -> Option<&Key> {
        self.keys.as_ref().and_then(|keys| keys.in_slot(slot))
    }

    /// U1: until no program holds the log.
    fn wait_for_writers(&self) -> Result<()> {
        let since = Instant::now();
        let wait = || {
            std::hint::spin_loop();
            since.elapsed() <= BUSY_PATIENCE
        };
        shared::await_writers(self, wait, || self.grace.period())
    }
}

impl Memory for Ebpf {
    type Word = AtomicU64;

    fn word(&self, at: At) -> &AtomicU64 {
        let control = &self.control;
        match at {
            At::Gate => control.gate(),
            At::Released => control.released(),
            At::Durable => control.durable(),
            At::Commit => control.commit(),
            At::HeardOp => control.heard_op(),
            At::HeardCount => control.heard_count(),
            At::RingAtOp => control.ring_at_op(),
            At::RingAtCommit => control.ring_at_commit(),
            At::RingOnQuorum => control.ring_on_quorum(),
            At::Acked(peer) => control.acked(peer.index()),
            At::Vote(op) => self.rounds.vote(op.0),
        }
    }

    fn slot<R>(&self, first: OpNumber, read: impl FnOnce(Slot<'_>) -> R) -> R {
        read(self.slots.read(first.0))
    }

    fn describe(&self, round: &RoundSlot) {
        self.rounds.describe(round);
    }

    fn window(&self) -> u32 {
        self.rounds.len()
    }

    fn configure(&self, view: View, leader: ReplicaId) {
        self.write_config(view, leader);
    }

    fn members(&self) -> usize {
        self.members.len()
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

fn attach_ingress(
    wanted: Hook,
    interface: &Interface,
    tc_program: &impl AsFd,
    xdp_program: &impl AsFd,
    tc: TcMechanism,
) -> Result<(Hook, Attached, Option<String>)> {
    let at_tc = || attach::tc(tc_program.as_fd(), interface.index, Direction::Ingress, tc);
    match wanted {
        Hook::Tc => Ok((Hook::Tc, at_tc()?, None)),
        Hook::Xdp | Hook::XdpGeneric => {
            let generic = wanted == Hook::XdpGeneric;
            Ok((wanted, attach::xdp(xdp_program.as_fd(), interface.index, generic)?, None))
        }
        // `probe` foretells this choice.
        Hook::Auto => match interface.prefers_tc() {
            Some(reason) => Ok((Hook::Tc, at_tc()?, Some(reason))),
            None => match attach::xdp(xdp_program.as_fd(), interface.index, false) {
                Ok(attached) => Ok((Hook::Xdp, attached, None)),
                Err(e) => Ok((Hook::Tc, at_tc()?, Some(e.to_string()))),
            },
        },
    }
}

/// The verdicts of a counter map, all CPUs together.
pub(crate) fn sum_counters(counters: &MapHandle) -> Result<Vec<(Verdict, u64)>> {
    let per_cpu = counters
        .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|e| Error::Kernel {
            what: "read the counters".into(),
            reason: e.to_string(),
            hint: "CAP_BPF may have been dropped".into(),
        })?
        .unwrap_or_default();
    let mut totals = [0u64; size_of::<elec_counters>() / 8];
    for cpu in &per_cpu {
        for (total, bytes) in totals.iter_mut().zip(cpu.chunks_exact(8)) {
            *total += u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
        }
    }
    Ok(Verdict::ALL.iter().copied().zip(totals).collect())
}

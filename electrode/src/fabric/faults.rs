//! Faults on the cables of a fabric: one-way cuts, loss, duplication, and delay, which reorders.
//!
//! A small program at the switch's ports rolls the dice for every frame (`bpf/src/faults.bpf.c`), since many
//! kernels come without netem. What is delayed goes through a cable of its own to a thread that keeps it for a
//! while; what comes after it overtakes it. Production programs are on the hosts' ends of the cables and see
//! nothing of this but its effects.
//!
//! ```no_run
//! use electrode::fabric::{Fabric, FabricConfig, LinkFaults};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fabric = Fabric::new(FabricConfig::default())?;
//! let faults = fabric.faults()?;
//! faults.set_all(&LinkFaults { loss: 0.05, duplication: 0.02, delay: 0.1, ..LinkFaults::default() })?;
//! faults.cut(0, 1)?; // host 1 does not hear host 0, but host 0 hears host 1
//! faults.heal()?;
//! # Ok(())
//! # }
//! ```

mod hold;
mod object;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use self::hold::{Hold, Range};
use self::object::Object;
use super::{Fabric, FabricError, netlink, port_name};
use crate::attach::{self, Attached};
use crate::config::TcMechanism;
use crate::net::Direction;

/// Most hosts of a fabric with faults: the program's table holds each pair of them.
pub const FAULT_HOSTS_MAX: usize = 64;

/// The two ends of the cable through which delayed frames go, in the namespace of the switch.
const HOLD: [&str; 2] = ["hold0", "hold1"];

/// How long a delayed frame is held at first.
const DELAY: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(5);

/// What happens to frames from one host to another. Chances are from 0 to 1.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct LinkFaults {
    /// Nothing arrives.
    pub cut: bool,
    /// Chance that a frame is lost.
    pub loss: f64,
    /// Chance that a frame arrives twice; the copy may be delayed like any other.
    pub duplication: f64,
    /// Chance that a frame is held back, so that those behind overtake it. Frames to all hosts are not.
    pub delay: f64,
}

/// What has happened so far on all cables together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Frames that went on as they came.
    pub passed: u64,
    /// ... that met a cut.
    pub cut: u64,
    /// ... that got lost.
    pub lost: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Frames held back, copies not counted.
    pub delayed: u64,
    /// Frames and copies let go again.
    pub released: u64,
}

/// The faults of a fabric, none at first; dropping it ends them all.
///
/// It keeps the switch's namespace alive, so drop it before the fabric, or soon after.
pub struct Faults {
    // In this order: nothing is held back any more before the holder ends.
    _attached: Vec<Attached>,
    object: Object,
    delay: Arc<Range>,
    _hold: Hold,
    hosts: usize,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Fabric {
    /// Prepares this fabric for faults; once a fabric.
    ///
    /// # Errors
    /// If the programs cannot be loaded or attached (it takes the privileges that an endpoint takes), or there
    /// are more than [`FAULT_HOSTS_MAX`] hosts.
    pub fn faults(&self) -> Result<Faults, FabricError> {
        let hosts = self.hosts.len();
        if hosts > FAULT_HOSTS_MAX {
            return Err(FabricError::Config(format!("faults on {hosts} hosts: at most {FAULT_HOSTS_MAX}")));
        }
        self.switch.run(|| Faults::prepare(hosts, self.config.mtu))?
    }
}

impl Faults {
    /// In the namespace of the switch.
    fn prepare(hosts: usize, mtu: Option<u32>) -> Result<Self, FabricError> {
        let runtime = netlink::runtime()?;
        let netlink = netlink::Netlink::open(&runtime)?;
        netlink.add_pair(HOLD, mtu)?;
        // A frame may leave its checksum to the device. What user space reads must have one.
        super::offload::set_tx_checksum(HOLD[0], false)
            .map_err(|e| FabricError::kernel("have checksums filled in where frames are held", e))?;
        let indices = HOLD.map(|name| netlink.index_of(name));
        let [hold_in, hold_out] = indices;
        let (hold_in, hold_out) = (hold_in?, hold_out?);
        super::await_link(0, || Ok(netlink.is_up(HOLD[0])? && netlink.is_up(HOLD[1])?))?;

        let object = Object::load(hold_in)?;
        let delay = Arc::new(Range::new(DELAY));
        let hold = Hold::start(hold_out, Arc::clone(&delay))?;
        let mut attached =
            vec![attach::tc(object.release(), hold_in, Direction::Ingress, TcMechanism::Auto)?];
        for host in 0..hosts {
            let port = netlink.index_of(&port_name(host))?;
            object.name_port(host, port)?;
            attached.push(attach::tc(object.fault(), port, Direction::Egress, TcMechanism::Auto)?);
        }
        Ok(Self { _attached: attached, object, delay, _hold: hold, hosts })
    }

    /// Sets what happens to frames from one host to another, and leaves the other direction alone.
    pub fn set(&self, from: usize, to: usize, faults: &LinkFaults) -> Result<(), FabricError> {
        if let Some(host) = [from, to].into_iter().find(|host| *host >= self.hosts) {
            let last = self.hosts - 1;
            return Err(FabricError::Config(format!("there is no host {host}: they are 0 to {last}")));
        }
        let wrong =
            [faults.loss, faults.duplication, faults.delay].into_iter().find(|p| !(0.0..=1.0).contains(p));
        if let Some(chance) = wrong {
            return Err(FabricError::Config(format!("a chance of {chance}: give 0 to 1")));
        }
        Ok(self.object.set_link(from, to, faults)?)
    }

    /// Sets what happens between all hosts.
    pub fn set_all(&self, faults: &LinkFaults) -> Result<(), FabricError> {
        self.pairs().try_for_each(|(from, to)| self.set(from, to, faults))
    }

    /// Lets nothing through from one host to another; the other direction is left alone. Ends what else
    /// happened there.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), FabricError> {
        self.set(from, to, &LinkFaults { cut: true, ..LinkFaults::default() })
    }

    /// Ends all faults. What is held back still arrives, late.
    pub fn heal(&self) -> Result<(), FabricError> {
        self.set_all(&LinkFaults::default())
    }

    /// How long delayed frames are held from now on, each as long as the dice say.
    pub fn set_delay(&self, range: RangeInclusive<Duration>) {
        self.delay.set(range);
    }

    /// What has happened so far.
    pub fn counts(&self) -> Result<FaultCounts, FabricError> {
        Ok(self.object.counts()?)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let hosts = self.hosts;
        (0..hosts).flat_map(move |from| (0..hosts).filter(move |to| *to != from).map(move |to| (from, to)))
    }
}

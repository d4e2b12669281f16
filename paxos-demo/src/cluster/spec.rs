//! What a group on this machine is to be.

use std::io;
use std::path::PathBuf;

use electrode::fabric::Family;

use super::Site;
use crate::cli::{BackendChoice, FastPathArgs, GroupArgs, HookChoice, TcChoice};
use crate::config::{Batching, Durability, LOG_SLOTS_DEFAULT, OffloadChoice, Timeouts};

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Members of the group.
    pub replicas: usize,
    /// How packets are sent and handled.
    pub backend: BackendChoice,
    /// Where the ingress programs are attached.
    pub hook: HookChoice,
    /// How programs are attached at TC.
    pub tc: TcChoice,
    /// Which jobs go to the kernel.
    pub offloads: OffloadChoice,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// How the leader fills a Prepare.
    pub batching: Batching,
    /// The group's timeouts.
    pub timeouts: Timeouts,
    /// Slots of a replica's log.
    pub log_slots: u32,
    /// The members have keys: a key file is made in the directory, unless there is one.
    pub authenticated: bool,
    /// Replica i serves Redis clients on this port plus i; not at all if absent.
    pub resp_port: Option<u16>,
    /// Where state and logs are kept; a temporary directory if absent.
    pub data_dir: Option<PathBuf>,
    /// Who the replicas run as, and own their directories; whoever runs this process if absent.
    pub user: Option<String>,
    /// Which addresses the replicas have.
    pub family: Family,
    /// Where the replicas live beside other groups; on virtual hosts of their own if absent.
    pub site: Option<Site>,
    /// Stay on the loopback address even where virtual hosts can be made.
    pub loopback: bool,
    /// The program to start as `PROGRAM replica ...`.
    pub program: PathBuf,
}

impl Spec {
    /// A group of so many members with defaults for everything else, run by this very program.
    pub fn new(replicas: usize) -> io::Result<Self> {
        Ok(Self {
            replicas,
            backend: BackendChoice::default(),
            hook: HookChoice::default(),
            tc: TcChoice::default(),
            offloads: OffloadChoice::default(),
            durability: Durability::default(),
            batching: Batching::default(),
            timeouts: Timeouts::default(),
            log_slots: LOG_SLOTS_DEFAULT,
            authenticated: false,
            resp_port: None,
            data_dir: None,
            user: None,
            family: Family::default(),
            site: None,
            loopback: false,
            program: std::env::current_exe()?,
        })
    }

    /// The virtual host in which replica `id` lives.
    pub(super) fn host_of(&self, id: usize) -> usize {
        self.site.as_ref().map_or(id, |site| (id + site.turn) % self.replicas)
    }

    /// Number of the group among those that share its hosts, from 0.
    pub(super) fn number(&self) -> u16 {
        self.site.as_ref().map_or(0, |site| site.number)
    }

    /// A group of so many members that runs as asked for on the command line.
    pub fn of(replicas: usize, asked: &GroupArgs) -> io::Result<Self> {
        let GroupArgs { backend, fast_path: FastPathArgs { offloads, hook }, durability } = *asked;
        Ok(Self { backend, hook, offloads, durability, ..Self::new(replicas)? })
    }
}

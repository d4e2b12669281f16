//! How a life begins.

use super::{
    Formation, GateRole, NEVER, Recovery, Replica, ReplicaConfig, ReplicaConfigError, Role, Silence, Stored,
};
use crate::arena::Arena;
use crate::log::{Log, LogEntry, NotContiguous};
use crate::plant::Plant;
use crate::service::Service;
use crate::snapshot::SnapshotError;
use crate::status::Counters;
use bytes::Bytes;
use electrode::types::{OpNumber, View};
use std::collections::BTreeMap;
use thiserror::Error;

/// What a replica remembers of its earlier lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// There is none, or no life of it opened its gate or voted: an empty log in view 0.
    Nothing,
    /// The view (D3), but not the log: mode `memory`. The replica recovers (D4).
    View {
        /// Last view that it promised anything in.
        view: View,
        /// Last view in which it was in normal operation (U4).
        last_normal_view: View,
    },
    /// Everything that it ever acknowledged: mode `disk`.
    Log {
        /// Last view that it promised anything in.
        view: View,
        /// Last view in which it was in normal operation (U4).
        last_normal_view: View,
        /// Stands for everything up to its op.
        snapshot: Option<(OpNumber, Bytes)>,
        /// What follows.
        log: Vec<LogEntry>,
    },
}

/// Why a replica cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ReplicaConfigError),
    /// Its stored snapshot.
    #[error("the stored snapshot cannot be used: {0}")]
    Snapshot(#[from] SnapshotError),
    /// Its stored log.
    #[error("the stored log has a hole: {0}")]
    Log(#[from] NotContiguous),
    /// The snapshot is not the one that it is said to be.
    #[error("the stored snapshot ends at op {0}, its name says otherwise")]
    Misnamed(OpNumber),
}

impl Replica {
    /// A replica in its first life.
    pub fn new(now: u64, config: ReplicaConfig) -> Result<Self, StartError> {
        Self::start(now, config, Memory::Nothing)
    }

    /// A replica with what it remembers.
    pub fn start(now: u64, config: ReplicaConfig, memory: Memory) -> Result<Self, StartError> {
        config.validate()?;
        let memory = if config.plants.has(Plant::A17) { Memory::Nothing } else { memory };
        let mut replica = Self {
            now,
            wall_clock_ms: 0,
            view: View(0),
            last_normal_view: View(0),
            role: Role::Forming(Silence::new(now, config.formation_timeout_ns)),
            formation: Formation::new(now, &config),
            log: Log::default(),
            commit: OpNumber(0),
            applied: OpNumber(0),
            service: Service::new(config.client_sessions_max),
            durable: OpNumber(0),
            stored: Default::default(),
            donor: Default::default(),
            bad_snapshots: 0,
            suspects: vec![NEVER; config.members],
            attempts: 0,
            ask_view_at: 0,
            accepted: BTreeMap::new(),
            payloads: Arena::default(),
            read_result: Vec::new(),
            outbox: Default::default(),
            counters: Counters::default(),
            config,
        };
        replica.remember(memory)?;
        replica.formation_tick();
        Ok(replica)
    }

    fn remember(&mut self, memory: Memory) -> Result<(), StartError> {
        match memory {
            Memory::Nothing => {}
            Memory::View { view, last_normal_view } => {
                (self.view, self.last_normal_view) = (view, last_normal_view);
                self.role = Role::Recovering(Box::new(Recovery::new(self.now, &self.config)));
                if self.planted(Plant::P11) && self.leader() == self.config.me {
                    self.open_gate(GateRole::Lead);
                }
            }
            Memory::Log { view, last_normal_view, snapshot, log } => {
                (self.view, self.last_normal_view) = (view, last_normal_view);
                if let Some((op, bytes)) = snapshot {
                    let (service, restored) = Service::restore(&bytes, self.config.client_sessions_max)?;
                    if restored != op {
                        return Err(StartError::Misnamed(restored));
                    }
                    self.service = service;
                    (self.applied, self.commit) = (op, op);
                    self.log.reset(op);
                }
                // Storage forgets whole files: some of what it still has may be in the snapshot.
                let first = self.log.last_op();
                for entry in log.into_iter().filter(|entry| entry.last > first) {
                    self.log.append(entry)?;
                }
                self.durable = self.log.last_op();
                // A replica that is started often must not let its log grow with each start.
                self.stored = Stored::of(self.log.payload_bytes());
                self.resume();
            }
        }
        Ok(())
    }

    /// Mode `disk`: nothing that was acknowledged is missing, so this is as if the replica had been away. Its
    /// gate is closed and it does not know what has become of its view.
    fn resume(&mut self) {
        if self.leader() == self.config.me && self.planted(Plant::P11) {
            self.open_gate(GateRole::Lead);
        } else if self.leader() == self.config.me {
            // L11: never again in this view, whether it had begun or not.
            let view = self.view.next();
            self.start_view_change(view);
        } else {
            // In a view that had begun for it, it has no vote to give.
            let voted = self.last_normal_view < self.view;
            self.enter_view_change(voted);
        }
    }
}

//! What one seed draws before it starts: sizes, and which faults there are and how often.
//!
//! Swarm style: a seed that has every fault at once hides what only some of them together show. One mix serves
//! all planted bugs; nothing here knows of them.

use fastrand::Rng;

use crate::config::Durability;

/// A microsecond in nanoseconds.
pub(super) const US: u64 = 1_000;
/// A millisecond in nanoseconds.
pub(super) const MS: u64 = 1_000_000;

/// One in so many; zero: never.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Odds(u32);

impl Odds {
    pub(super) const NEVER: Self = Self(0);

    /// Throws the dice.
    pub(super) fn hit(self, rng: &mut Rng) -> bool {
        self.0 != 0 && rng.u32(0..self.0) == 0
    }
}

/// What most seeds are without. It is drawn apart, so that those keep their course whatever is added here.
struct Rare {
    /// Sizes with another quorum arithmetic: no minority at all, an even group, and a large one.
    members: Option<usize>,
    encode_ns_max: u64,
    gone_every_ns: u64,
    authenticated: bool,
    playback_every_ns: u64,
}

impl Rare {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            members: match rng.u8(0..24) {
                0..3 => Some(2),
                3..6 => Some(4),
                6 => Some(7),
                _ => None,
            },
            encode_ns_max: [0, 0, 0, MS, 20 * MS, 200 * MS][rng.usize(0..6)],
            gone_every_ns: [0, 0, 0, 0, 300 * MS, 1500 * MS][rng.usize(0..6)],
            authenticated: rng.u8(0..3) == 0,
            playback_every_ns: [0, 0, 0, 10 * MS, 20 * MS, 80 * MS][rng.usize(0..6)],
        }
    }
}

/// How soon a replica acts on silence.
#[derive(Copy, Clone, Debug)]
pub(super) struct Times {
    pub heartbeat_ns: u64,
    pub resend_ns: u64,
    pub leader_timeout_ns: u64,
    pub view_change_timeout_ns: u64,
}

/// What a seed draws, and the times that all seeds share.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub times: Times,
    pub members: usize,
    pub durability: Durability,
    /// The group has keys, which change while it runs; whoever forges knows everything else.
    pub authenticated: bool,
    pub clients: usize,
    pub log_slots: u32,
    pub quorum_window: u32,
    pub batch_one: bool,
    pub pipeline_batches: usize,
    pub repair_ops: u64,
    /// Payload bytes that a log keeps; what is older is in a snapshot.
    pub log_bytes_max: usize,
    /// Values of clients are up to this long.
    pub value_bytes_max: usize,
    /// Clients give up after so long.
    pub patience_ms: u64,
    /// How long there are faults.
    pub storm_ns: u64,
    // The wire.
    pub loss: Odds,
    pub duplicate: Odds,
    pub overtake: Odds,
    pub overtake_ns_max: u64,
    pub replay: Odds,
    pub forge: Odds,
    /// Mean time between two of these; zero: none.
    pub partition_every_ns: u64,
    pub clog_every_ns: u64,
    // The machine.
    pub kill_every_ns: u64,
    pub power_loss_every_ns: u64,
    pub stop_every_ns: u64,
    /// Members are lost for good, up to a minority.
    pub gone_every_ns: u64,
    /// Somebody who has recorded a link plays back what was said on it in earlier lives; also when all else is over.
    pub playback_every_ns: u64,
    /// How long a killed replica stays away at most.
    pub away_ns_max: u64,
    /// A process is interrupted at an effect.
    pub interrupt: Odds,
    pub interrupt_ns_max: u64,
    /// A kernel program is interrupted.
    pub stall: Odds,
    pub stall_ns_max: u64,
    /// It goes on a little while its process does something.
    pub nudge: Odds,
    pub clone_fails: Odds,
    pub bell_lost: Odds,
    pub socket_loses: Odds,
    pub socket_room: usize,
    /// An fsync takes up to so long.
    pub fsync_ns_max: u64,
    /// Encoding a snapshot takes up to so long; zero: no time.
    pub encode_ns_max: u64,
}

impl Weather {
    pub(super) fn draw(rng: &mut Rng, members: Option<usize>, durability: Option<Durability>) -> Self {
        let pick = |rng: &mut Rng, of: &[u32]| Odds(of[rng.usize(0..of.len())]);
        // Each fault is there in about two seeds of three.
        let often = |rng: &mut Rng, ms: &[u64]| match rng.u8(0..3) {
            0 => 0,
            _ => ms[rng.usize(0..ms.len())] * MS,
        };
        // Values of several ops, in one seed of six; the others are as they are without.
        let large = Rng::with_seed(!rng.clone().u64(..)).u8(0..6) == 0;
        // Likewise: seeds in which none of this is drawn keep their course.
        let rare = Rare::draw(&mut Rng::with_seed(rng.clone().u64(..).rotate_left(32)));
        let often_drawn = [3, 3, 5][rng.usize(0..3)];
        Self {
            times: Times {
                heartbeat_ns: 3 * MS,
                resend_ns: 3 * MS,
                leader_timeout_ns: 9 * MS,
                view_change_timeout_ns: 15 * MS,
            },
            members: members.or(rare.members).unwrap_or(often_drawn),
            durability: durability.unwrap_or([Durability::Memory, Durability::Disk][rng.usize(0..2)]),
            authenticated: rare.authenticated,
            clients: rng.usize(1..7),
            log_slots: [4, 4, 8, 16][rng.usize(0..4)],
            quorum_window: [8, 16, 32][rng.usize(0..3)],
            batch_one: rng.bool(),
            pipeline_batches: rng.usize(1..5),
            repair_ops: rng.u64(1..20),
            log_bytes_max: [600, 3000, 60_000][rng.usize(0..3)],
            value_bytes_max: if large { 600 } else { [8, 40][rng.usize(0..2)] },
            patience_ms: [150, 60_000][rng.usize(0..2)],
            storm_ns: rng.u64(1000..6000) * MS,
            loss: pick(rng, &[0, 200, 40, 12, 6]),
            duplicate: pick(rng, &[0, 100, 20, 5]),
            overtake: pick(rng, &[0, 50, 10, 3]),
            overtake_ns_max: [MS, 5 * MS, 40 * MS][rng.usize(0..3)],
            replay: pick(rng, &[0, 300, 50]),
            forge: pick(rng, &[0, 200, 30]),
            partition_every_ns: often(rng, &[30, 120]),
            clog_every_ns: often(rng, &[30, 120]),
            kill_every_ns: often(rng, &[60, 150, 400]),
            power_loss_every_ns: often(rng, &[150, 400]),
            stop_every_ns: often(rng, &[30, 120]),
            gone_every_ns: rare.gone_every_ns,
            playback_every_ns: rare.playback_every_ns,
            away_ns_max: [5 * MS, 60 * MS, 300 * MS][rng.usize(0..3)],
            interrupt: pick(rng, &[0, 400, 100, 30]),
            interrupt_ns_max: [100 * US, 2 * MS, 20 * MS][rng.usize(0..3)],
            stall: pick(rng, &[0, 100, 30, 10]),
            nudge: pick(rng, &[0, 4, 40]),
            stall_ns_max: [200 * US, 5 * MS, 30 * MS][rng.usize(0..3)],
            clone_fails: pick(rng, &[0, 100, 10]),
            bell_lost: pick(rng, &[0, 50, 5]),
            socket_loses: pick(rng, &[0, 100, 20]),
            socket_room: [4, 16, 256][rng.usize(0..3)],
            fsync_ns_max: [100 * US, 2 * MS, 20 * MS][rng.usize(0..3)],
            encode_ns_max: rare.encode_ns_max,
        }
    }

    /// The faults are over: what is left is a machine that works, and whoever plays back what it recorded.
    pub(super) fn calm(&mut self) {
        let Self { members, durability, authenticated, .. } = *self;
        *self = Self {
            members,
            durability,
            authenticated,
            loss: Odds::NEVER,
            duplicate: Odds::NEVER,
            overtake: Odds::NEVER,
            replay: Odds::NEVER,
            forge: Odds::NEVER,
            partition_every_ns: 0,
            clog_every_ns: 0,
            kill_every_ns: 0,
            power_loss_every_ns: 0,
            stop_every_ns: 0,
            gone_every_ns: 0,
            // A process shares its CPU also where nothing is wrong.
            interrupt: Odds(30),
            interrupt_ns_max: 100 * US,
            stall: Odds::NEVER,
            clone_fails: Odds::NEVER,
            bell_lost: Odds::NEVER,
            socket_loses: Odds::NEVER,
            socket_room: 256,
            ..self.clone()
        };
    }
}

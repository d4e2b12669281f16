//! Rules that can be broken. Names are those of the rules' list of planted bugs.

use crate::bounds::Bounds;
use crate::properties::{C1_KEPT, C2, C3, C4, C6, C8};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The tail is raised before the slot is filled, and the fill fails (F7).
    A1,
    /// A duplicate is answered from a cell that another path set (F8).
    A2,
    /// All CPUs share one cell (F7).
    A3,
    /// A vote leaves the gate open (U1, U3).
    A4,
    /// The slow path appends beside the kernel, without a freeze (U8).
    A5,
    /// Any single ack commits (L4).
    A6,
    /// Sources are not checked (F4, L2).
    A7,
    /// A slot is reused before it was drained (F6).
    A11,
    /// A restarted replica starts at op 0, as if nothing had been (D4).
    A17,
    /// A vote takes the last normal view from the last log entry (U4).
    B1,
    /// State transfer keeps an uncommitted tail (U6).
    B2,
    /// A recovering replica votes (U5).
    B3,
    /// The drain leaves out the last op (U2).
    P1,
    /// The gate is reopened with the same epoch (U6).
    P2,
    /// The view is not persisted before the vote (D3).
    P3,
    /// A StartView of the own view is installed again (U6).
    P4,
    /// A short NewState of the own view truncates (U6).
    P5,
    /// `last_normal_view` becomes durable before its log (D3).
    P6,
    /// A replica that hears of a later view truncates first and fetches the log afterwards (U6).
    P7,
    /// The old programs go on while the next life recovers (D4).
    P9,
    /// `disk` mode: the kernel acks duplicates that are not durable (F8).
    P10,
    /// A restarted leader resumes its view (L11).
    P11,
    /// The gate is reopened while a stale writer is busy (U1).
    P12,
}

/// Where a planted bug shows.
pub struct Expected {
    pub plant: Plant,
    pub bounds: Bounds,
    /// The property that the rule belongs to, and the fewest steps to a state that violates it.
    pub noticed: (&'static str, usize),
    /// The fewest steps to the loss of a committed op ([`C1_KEPT`]), where these bounds can show it.
    pub lost: Option<usize>,
}

/// Every plant of this model.
pub const EXPECTED: &[Expected] = &[
    expect(Plant::A1, Bounds::SMALL, (C2, 3), Some(6)),
    expect(Plant::A2, Bounds::LOGS, (C2, 5), Some(8)),
    expect(Plant::A3, Bounds::STEPS, (C2, 7), Some(10)),
    expect(Plant::A4, Bounds::SMALL, (C3, 3), Some(5)),
    expect(Plant::A5, Bounds::LOGS, (C6, 4), Some(8)),
    expect(Plant::A6, Bounds::FIVE, (C4, 2), Some(6)),
    expect(Plant::A7, Bounds::SMALL, (C2, 1), Some(4)),
    expect(Plant::A11, Bounds::ONE_SLOT, (C2, 4), Some(7)),
    expect(Plant::A17, Bounds::CRASHES, (C3, 4), Some(4)),
    expect(Plant::B1, Bounds { views: 4, ops: 1, ..Bounds::SMALL }, (C3, 6), Some(12)),
    expect(Plant::B2, Bounds::LOGS, (C2, 6), Some(6)),
    expect(Plant::B3, Bounds::CRASHES, (C3, 4), Some(6)),
    expect(Plant::P1, Bounds::SMALL, (C8, 3), Some(5)),
    expect(Plant::P2, Bounds::STEPS, (C3, 9), Some(9)),
    expect(Plant::P3, Bounds::CRASHES, (C3, 6), Some(8)),
    expect(Plant::P4, Bounds::SMALL, (C2, 7), None),
    expect(Plant::P5, Bounds::LOGS, (C2, 4), Some(7)),
    expect(Plant::P6, Bounds { views: 3, ..Bounds::DISK }, (C1_KEPT, 10), Some(10)),
    expect(Plant::P7, Bounds::LOGS, (C3, 7), Some(9)),
    // That the leader has fenced the old life is a second wall: nothing is lost with this bug alone.
    expect(Plant::P9, Bounds::CRASHES, (C3, 7), None),
    expect(Plant::P10, Bounds::DISK, (C2, 3), Some(8)),
    expect(Plant::P11, Bounds::CRASHES, (C2, 5), Some(4)),
    expect(Plant::P12, Bounds::STEPS, (C2, 13), None),
];

const fn expect(
    plant: Plant,
    bounds: Bounds,
    noticed: (&'static str, usize),
    lost: Option<usize>,
) -> Expected {
    Expected { plant, bounds: Bounds { plant: Some(plant), ..bounds }, noticed, lost }
}

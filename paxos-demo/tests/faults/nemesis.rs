//! What goes wrong, by seed: one thing after the other, and some at once.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use electrode::fabric::LinkFaults;

use crate::common::signal;
use crate::site::Site;

/// Which kinds of trouble a run sees. A kind that is named twice comes twice as often.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// kill -9 of the leader, and a restart.
    KillLeader,
    /// kill -9 of anybody, and a restart.
    KillAny,
    /// kill -9 of as many as may be lost, at once.
    KillMinority,
    /// SIGSTOP and SIGCONT of the leader.
    PauseLeader,
    /// SIGSTOP and SIGCONT of a follower: its kernel goes on.
    PauseFollower,
    /// Nobody hears the leader, but the leader hears everybody.
    MuteLeader,
    /// The leader hears nobody, but is heard.
    DeafLeader,
    /// A minority on its own side.
    Split,
    /// One direction of one cable.
    CutOne,
    /// Loss, copies and delay on all cables.
    Noise,
}

pub struct Nemesis {
    kinds: &'static [Trouble],
    rng: fastrand::Rng,
    began: Instant,
    /// What the cables do when nothing else is wrong with them.
    noise: LinkFaults,
}

impl Nemesis {
    pub fn new(kinds: &'static [Trouble], seed: u64) -> Self {
        Self {
            kinds,
            rng: fastrand::Rng::with_seed(seed),
            began: Instant::now(),
            noise: LinkFaults::default(),
        }
    }

    /// Makes trouble for so long, then heals everything.
    pub fn rage(&mut self, site: &mut Site, duration: Duration) {
        while self.began.elapsed() < duration {
            let kind = self.kinds[self.rng.usize(0..self.kinds.len())];
            self.make(site, kind);
            self.sleep(50..=400);
        }
        site.faults.heal().unwrap();
    }

    fn make(&mut self, site: &mut Site, kind: Trouble) {
        println!("{:7.3} {kind:?}", self.began.elapsed().as_secs_f64());
        let count = site.replicas();
        let leader = site.leader().unwrap_or_else(|| self.rng.usize(0..count));
        let anybody = self.rng.usize(0..count);
        let follower = (leader + self.rng.usize(1..count)) % count;
        match kind {
            Trouble::KillLeader => self.kill(site, &[leader]),
            Trouble::KillAny => self.kill(site, &[anybody]),
            Trouble::KillMinority => {
                let mut ids: Vec<usize> = (0..count).collect();
                self.rng.shuffle(&mut ids);
                self.kill(site, &ids[..(count - 1) / 2]);
            }
            Trouble::PauseLeader => self.pause(site, leader),
            Trouble::PauseFollower => self.pause(site, follower),
            Trouble::MuteLeader => self.cut(site, &[leader], true, false),
            Trouble::DeafLeader => self.cut(site, &[leader], false, true),
            Trouble::Split => {
                let mut ids: Vec<usize> = (0..count).collect();
                self.rng.shuffle(&mut ids);
                // The interesting minority is the one with a leader who does not know yet.
                if self.rng.bool() {
                    ids.retain(|id| *id != leader);
                    ids.insert(0, leader);
                }
                let alone = self.rng.usize(1..=(count - 1) / 2);
                self.cut(site, &ids[..alone], true, true);
            }
            Trouble::CutOne => {
                site.faults.cut(leader, follower).unwrap();
                self.sleep(100..=1200);
                site.faults.set(leader, follower, &self.noise).unwrap();
            }
            Trouble::Noise => self.change_noise(site),
        }
    }

    /// From now on all cables do this, the clients' too, whatever else happens; in one of three cases nothing.
    fn change_noise(&mut self, site: &mut Site) {
        self.noise = LinkFaults::default();
        if self.rng.u32(0..3) > 0 {
            self.noise.loss = self.rng.f64() * 0.15;
            self.noise.duplication = self.rng.f64() * 0.1;
            self.noise.delay = self.rng.f64() * 0.3;
        }
        println!("        {:?}", self.noise);
        site.faults.set_delay(Duration::ZERO..=Duration::from_millis(self.rng.u64(1..20)));
        site.faults.set_all(&self.noise).unwrap();
        self.sleep(100..=800);
    }

    /// What is kept in memory alone survives the loss of a minority, so those who are down, or still looking
    /// for what they lost, must never be more.
    fn kill(&mut self, site: &mut Site, ids: &[usize]) {
        site.await_normal(site.replicas());
        for id in ids {
            site.cluster.kill(*id).unwrap();
        }
        self.sleep(0..=800);
        for id in ids {
            site.cluster.restart(*id).unwrap();
        }
    }

    fn pause(&mut self, site: &mut Site, id: usize) {
        let Some(pid) = site.cluster.pid(id) else { return };
        signal(pid, libc::SIGSTOP);
        self.sleep(100..=1200);
        signal(pid, libc::SIGCONT);
    }

    fn cut(&mut self, site: &mut Site, side: &[usize], out: bool, into: bool) {
        for &a in side {
            for b in (0..site.replicas()).filter(|b| !side.contains(b)) {
                if out {
                    site.faults.cut(a, b).unwrap();
                }
                if into {
                    site.faults.cut(b, a).unwrap();
                }
            }
        }
        self.sleep(200..=1500);
        site.faults.set_all(&self.noise).unwrap();
    }

    fn sleep(&mut self, range_ms: RangeInclusive<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.u64(range_ms)));
    }
}

//! Keys of a simulated group, and how they change while it runs (`electrode::auth`).

use electrode::auth::{Key, Keys, SECRET_BYTES};

use super::machine::Process;
use super::weather::MS;
use super::world::World;

/// Steps from one key to the next.
const STEPS: u32 = 3;

fn key(id: u32) -> Key {
    Key::new(id, [id as u8; SECRET_BYTES]).expect("ids count from 1")
}

/// What stands in the key file after so many steps.
pub(super) fn at_step(step: u32) -> Keys {
    let (old, new) = (1 + step / STEPS, 2 + step / STEPS);
    let both = |sends, accepts| Keys::new(key(sends)).with(key(accepts)).expect("one is even, one is odd");
    match step % STEPS {
        0 => Keys::new(key(old)),
        1 => both(old, new),
        _ => both(new, old),
    }
}

/// The key of somebody else, for those who forge.
pub(super) fn foreign() -> Key {
    key(200)
}

impl World {
    /// The key file changes now and then; each step only after the one before has reached everybody who runs.
    pub(super) fn change_keys(&mut self) {
        if !self.weather.authenticated || self.now < self.keys_change_at {
            return;
        }
        let reached = self
            .nodes
            .iter()
            .all(|machine| matches!(machine.process, Process::Dead) || machine.key_step == self.key_step);
        if reached {
            self.key_step += 1;
            self.keys_change_at = self.now + self.rng.u64(20 * MS..600 * MS);
            let (now, step) = (self.now, self.key_step);
            self.trace.line(now, |line| line.push_str(&format!("the keys change: step {step}")));
        }
    }

    /// The key file, if a process has not read it since it changed.
    pub(super) fn unread_keys(&self, node: usize) -> Option<(u32, Keys)> {
        (self.weather.authenticated && self.nodes[node].key_step != self.key_step)
            .then(|| (self.key_step, at_step(self.key_step)))
    }
}

//! What each command does to the store.

use super::outcome::{Results, SHORT_SHARE_BYTES, Values};
use super::{
    Command, Expiry, ExpiryCondition, Failure, KvStore, Outcome, SetCondition, SetOptions, Strings,
    VALUE_BYTES_MAX,
};

/// Longest result of a read: two values of the greatest length, and what comes with them.
const READ_RESULT_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 32 * 1024;
/// Longest result of an op: it is kept for the client session, and one datagram holds it. What would return more
/// is not executed.
pub const KEPT_RESULT_BYTES_MAX: usize = 1024;
/// Commands with short results that are executed together: so many of those are surely kept.
pub const SHORT_COMMANDS_MAX: usize = (KEPT_RESULT_BYTES_MAX - 1) / SHORT_SHARE_BYTES;

impl KvStore {
    /// Applies a command and appends its result to `result`.
    pub fn apply(&mut self, command: &[u8], result: &mut Vec<u8>) {
        match Command::parse(command) {
            Ok(Command::Many { commands }) => self.apply_many(commands, result),
            Ok(command) => self.apply_one(&command, KEPT_RESULT_BYTES_MAX, result),
            Err(_) => Outcome::Invalid.encode(result),
        }
    }

    /// Each command may return what short results of those behind it would leave, so none of them is executed
    /// without room for its result.
    fn apply_many(&mut self, commands: Strings<'_>, result: &mut Vec<u8>) {
        let mut behind = commands.len();
        if behind > SHORT_COMMANDS_MAX {
            return Outcome::Failure(Failure::ResultTooLong).encode(result);
        }
        let mut results = Results::new(result);
        for command in commands.iter() {
            behind -= 1;
            self.sweep();
            let bytes_max = KEPT_RESULT_BYTES_MAX - behind * SHORT_SHARE_BYTES;
            results.push(|result| match Command::parse(command) {
                Ok(command) => self.apply_one(&command, bytes_max, result),
                Err(_) => Outcome::Invalid.encode(result),
            });
        }
    }

    /// Appends the result of one command; `bytes_max` bounds all of `result`.
    fn apply_one(&mut self, command: &Command<'_>, bytes_max: usize, result: &mut Vec<u8>) {
        if command.is_read() {
            self.answer(command, bytes_max, result);
        } else {
            self.change(command, bytes_max, result);
        }
    }

    /// Executes a command that changes nothing ([`Command::is_read`]); any other is answered as invalid.
    pub fn read(&self, command: &[u8], result: &mut Vec<u8>) {
        match Command::parse(command) {
            Ok(Command::Many { commands }) => {
                let mut results = Results::new(result);
                for command in commands.iter() {
                    results.push(|result| self.read(command, result));
                }
            }
            Ok(command) => self.answer(&command, READ_RESULT_BYTES_MAX, result),
            Err(_) => Outcome::Invalid.encode(result),
        }
    }

    /// Appends the answer to a read; `bytes_max` bounds all of `result`.
    fn answer(&self, command: &Command<'_>, bytes_max: usize, result: &mut Vec<u8>) {
        let integer = |number: usize| Outcome::Integer(number as i64);
        let fits = |bytes: usize| result.len() + 1 + bytes <= bytes_max;
        let outcome = match *command {
            Command::Get { key } => match self.get(key) {
                Some(pair) if fits(pair.value.len()) => Outcome::Value(&pair.value),
                Some(_) => Outcome::Failure(Failure::ResultTooLong),
                None => Outcome::Absent,
            },
            Command::MGet { keys } => {
                let values = || keys.iter().map(|key| self.get(key).map(|pair| &*pair.value));
                // A key may be named many times.
                if fits(values().map(|value| 4 + value.map_or(0, <[u8]>::len)).sum()) {
                    return Values::encode(values(), result);
                }
                Outcome::Failure(Failure::ResultTooLong)
            }
            Command::Exists { keys } => integer(keys.iter().filter(|key| self.get(key).is_some()).count()),
            Command::Strlen { key } => integer(self.get(key).map_or(0, |pair| pair.value.len())),
            Command::Ttl { key } => Outcome::Integer(match self.get(key).map(|pair| pair.deadline_ms) {
                None => -2,
                Some(None) => -1,
                Some(Some(at)) => (at - self.clock_ms()) as i64,
            }),
            Command::DbSize => integer(self.len()),
            _ => Outcome::Invalid,
        };
        outcome.encode(result);
    }

    fn change(&mut self, command: &Command<'_>, bytes_max: usize, result: &mut Vec<u8>) {
        let integer = |number: usize| Ok(Outcome::Integer(number as i64));
        let outcome = match *command {
            Command::Set { key, value } => self.put(key, value, None).map(|()| Outcome::Done),
            Command::SetWith { key, value, options } => {
                return self.set_with(key, value, options, bytes_max, result);
            }
            Command::Del { key } => Ok(if self.remove(key) { Outcome::Done } else { Outcome::Absent }),
            Command::DelMany { keys } => integer(keys.iter().filter(|key| self.remove(key)).count()),
            Command::MSet { pairs } => {
                let bytes = pairs.iter().map(<[u8]>::len).sum();
                if pairs.pairs().any(|(_, value)| value.len() > VALUE_BYTES_MAX) {
                    Err(Failure::ValueTooLong)
                } else if self.is_full(bytes, pairs.len() / 2) {
                    Err(Failure::OutOfMemory)
                } else {
                    pairs.pairs().for_each(|(key, value)| self.set(key, value, None));
                    Ok(Outcome::Done)
                }
            }
            Command::IncrBy { key, delta } => self.incr_by(key, delta).map(Outcome::Integer),
            Command::Append { key, value } => self.append(key, value).map(Outcome::Integer),
            Command::Expire { key, ms, absolute, condition } => {
                self.expire(key, ms, absolute, condition).map(|done| Outcome::Integer(done.into()))
            }
            Command::Persist { key } => Ok(Outcome::Integer(self.persist(key).into())),
            _ => Ok(Outcome::Invalid),
        };
        outcome.unwrap_or_else(Outcome::Failure).encode(result);
    }

    /// Stores a pair that may be too much; one whose deadline has come already is gone at once.
    fn put(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<u64>) -> Result<(), Failure> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(Failure::ValueTooLong);
        }
        if self.is_full(key.len() + value.len(), 1) {
            return Err(Failure::OutOfMemory);
        }
        if deadline_ms.is_some_and(|at| at <= self.clock_ms()) {
            self.remove(key);
        } else {
            self.set(key, value, deadline_ms);
        }
        Ok(())
    }

    fn set_with(
        &mut self,
        key: &[u8],
        value: &[u8],
        options: SetOptions,
        bytes_max: usize,
        result: &mut Vec<u8>,
    ) {
        let SetOptions { condition, expiry, return_old } = options;
        let old = self.get(key);
        let outcome = match old {
            Some(pair) if return_old && result.len() + 1 + pair.value.len() > bytes_max => {
                return Outcome::Failure(Failure::ResultTooLong).encode(result);
            }
            Some(pair) if return_old => Outcome::Value(&pair.value),
            _ if return_old => Outcome::Absent,
            _ => Outcome::Done,
        };
        // Before the old value is gone; taken back if the new one is refused.
        let start = result.len();
        outcome.encode(result);
        let holds = match condition {
            None => true,
            Some(SetCondition::Absent) => old.is_none(),
            Some(SetCondition::Present) => old.is_some(),
        };
        let done = if holds {
            let deadline_ms = match expiry {
                Expiry::Never => Ok(None),
                Expiry::Keep => Ok(old.and_then(|pair| pair.deadline_ms)),
                Expiry::In(ms) => self.deadline(ms, false).map(Some),
                Expiry::At(ms) => self.deadline(ms, true).map(Some),
            };
            deadline_ms.and_then(|deadline_ms| self.put(key, value, deadline_ms)).map_err(Outcome::Failure)
        } else if return_old {
            Ok(())
        } else {
            Err(Outcome::Absent)
        };
        if let Err(instead) = done {
            result.truncate(start);
            instead.encode(result);
        }
    }

    /// A point in time as this op sees it. What is before 1970 is as good as 1970: long ago.
    fn deadline(&self, ms: i64, absolute: bool) -> Result<u64, Failure> {
        let base = if absolute { 0 } else { self.clock_ms() as i64 };
        base.checked_add(ms).map(|at| at.max(1) as u64).ok_or(Failure::Expiry)
    }

    fn expire(
        &mut self,
        key: &[u8],
        ms: i64,
        absolute: bool,
        condition: Option<ExpiryCondition>,
    ) -> Result<bool, Failure> {
        let at = self.deadline(ms, absolute)?;
        let Some(pair) = self.get(key) else { return Ok(false) };
        let holds = match (condition, pair.deadline_ms) {
            (None, _) => true,
            (Some(ExpiryCondition::None), old) => old.is_none(),
            (Some(ExpiryCondition::Some), old) => old.is_some(),
            (Some(ExpiryCondition::Later), old) => old.is_some_and(|old| at > old),
            (Some(ExpiryCondition::Earlier), old) => old.is_none_or(|old| at < old),
        };
        if holds {
            self.set_deadline(key, Some(at));
        }
        Ok(holds)
    }

    fn persist(&mut self, key: &[u8]) -> bool {
        let had = self.get(key).is_some_and(|pair| pair.deadline_ms.is_some());
        if had {
            self.set_deadline(key, None);
        }
        had
    }

    /// Gives a key that is there another deadline.
    fn set_deadline(&mut self, key: &[u8], deadline_ms: Option<u64>) {
        if deadline_ms.is_some_and(|at| at <= self.clock_ms()) {
            self.remove(key);
        } else {
            self.redate(key, deadline_ms);
        }
    }

    fn incr_by(&mut self, key: &[u8], delta: i64) -> Result<i64, Failure> {
        let old = self.get(key);
        let number = old.map_or(Some(0), |pair| integer(&pair.value)).ok_or(Failure::NotAnInteger)?;
        let sum = number.checked_add(delta).ok_or(Failure::Overflow)?;
        let deadline_ms = old.and_then(|pair| pair.deadline_ms);
        self.put(key, sum.to_string().as_bytes(), deadline_ms)?;
        Ok(sum)
    }

    fn append(&mut self, key: &[u8], more: &[u8]) -> Result<i64, Failure> {
        let old = self.get(key);
        let deadline_ms = old.and_then(|pair| pair.deadline_ms);
        let old = old.map_or(&[][..], |pair| &pair.value);
        let length = old.len() + more.len();
        if length > VALUE_BYTES_MAX {
            return Err(Failure::ValueTooLong);
        }
        let value = [old, more].concat();
        self.put(key, &value, deadline_ms)?;
        Ok(length as i64)
    }
}

/// A number as Redis takes it: no sign but a minus, no leading zeros, no spaces.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = match digits {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

//! What a request asks of the group, and how the group's answer is told. Errors are worded as Redis words
//! them, since clients match on them.

use super::options::{self, NOT_AN_INTEGER};
use super::wire::Reply;
use crate::state_machine::{Command, Expiry, Failure, Outcome, SetCondition, SetOptions, Strings, integer};

/// Commands that need the group.
const NAMES: [&str; 25] = [
    "append",
    "dbsize",
    "decr",
    "decrby",
    "del",
    "exists",
    "expire",
    "expireat",
    "get",
    "getset",
    "incr",
    "incrby",
    "mget",
    "mset",
    "persist",
    "pexpire",
    "pexpireat",
    "psetex",
    "pttl",
    "set",
    "setex",
    "setnx",
    "strlen",
    "ttl",
    "unlink",
];

/// How an outcome is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OK, or nil if a condition did not hold.
    Ok,
    /// The value or nil.
    Bulk,
    /// The number.
    Integer,
    /// 1 for done, 0 for absent.
    Flag,
    /// Milliseconds, told as seconds.
    Seconds,
    /// The values.
    Array,
}

/// Why a request is not even sent to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such command.
    Unknown,
    /// Too few arguments, or too many.
    Arity,
    /// A fixed text.
    Plain(&'static str),
    /// A text.
    Said(String),
}

impl Refusal {
    /// What is said, kind first.
    pub fn text(self, name: &str, arguments: &[&[u8]]) -> String {
        match self {
            Self::Unknown => unknown_command(arguments),
            Self::Arity => format!("ERR wrong number of arguments for '{name}' command"),
            Self::Plain(text) => text.to_owned(),
            Self::Said(text) => text,
        }
    }
}

/// The command for the group; `name` is in lower case.
pub fn translate<'a>(name: &str, rest: &'a [&'a [u8]]) -> Result<(Command<'a>, Shape), Refusal> {
    let plain = SetOptions::default();
    Ok(match (name, rest) {
        ("get", [key]) => (Command::Get { key }, Shape::Bulk),
        ("set", [key, value]) => (Command::Set { key, value }, Shape::Ok),
        ("set", [key, value, words @ ..]) => {
            let options = options::set(words)?;
            let shape = if options.return_old { Shape::Bulk } else { Shape::Ok };
            (Command::SetWith { key, value, options }, shape)
        }
        ("setnx", [key, value]) => {
            let options = SetOptions { condition: Some(SetCondition::Absent), ..plain };
            (Command::SetWith { key, value, options }, Shape::Flag)
        }
        ("setex" | "psetex", [key, time, value]) => {
            let unit_ms = if name == "setex" { 1000 } else { 1 };
            let expiry = Expiry::In(options::positive(name, time, unit_ms)?);
            (Command::SetWith { key, value, options: SetOptions { expiry, ..plain } }, Shape::Ok)
        }
        ("getset", [key, value]) => {
            let options = SetOptions { return_old: true, ..plain };
            (Command::SetWith { key, value, options }, Shape::Bulk)
        }
        ("del" | "unlink", [key]) => (Command::Del { key }, Shape::Flag),
        ("del" | "unlink", [_, ..]) => (Command::DelMany { keys: Strings::new(rest) }, Shape::Integer),
        ("exists", [_, ..]) => (Command::Exists { keys: Strings::new(rest) }, Shape::Integer),
        ("mget", [_, ..]) => (Command::MGet { keys: Strings::new(rest) }, Shape::Array),
        ("mset", [_, ..]) if rest.len().is_multiple_of(2) => {
            (Command::MSet { pairs: Strings::new(rest) }, Shape::Ok)
        }
        ("incr", [key]) => (Command::IncrBy { key, delta: 1 }, Shape::Integer),
        ("decr", [key]) => (Command::IncrBy { key, delta: -1 }, Shape::Integer),
        ("incrby", [key, delta]) => {
            let delta = integer(delta).ok_or(NOT_AN_INTEGER)?;
            (Command::IncrBy { key, delta }, Shape::Integer)
        }
        ("decrby", [key, delta]) => {
            let delta = integer(delta).ok_or(NOT_AN_INTEGER)?;
            let delta = delta.checked_neg().ok_or(Refusal::Plain("ERR decrement would overflow"))?;
            (Command::IncrBy { key, delta }, Shape::Integer)
        }
        ("append", [key, value]) => (Command::Append { key, value }, Shape::Integer),
        ("strlen", [key]) => (Command::Strlen { key }, Shape::Integer),
        ("expire" | "pexpire" | "expireat" | "pexpireat", [key, time, words @ ..]) => {
            let unit_ms = if name.starts_with('p') { 1 } else { 1000 };
            let ms = options::milliseconds(name, time, unit_ms)?;
            let condition = options::expire(words)?;
            (Command::Expire { key, ms, absolute: name.ends_with("at"), condition }, Shape::Integer)
        }
        ("persist", [key]) => (Command::Persist { key }, Shape::Integer),
        ("ttl", [key]) => (Command::Ttl { key }, Shape::Seconds),
        ("pttl", [key]) => (Command::Ttl { key }, Shape::Integer),
        ("dbsize", []) => (Command::DbSize, Shape::Integer),
        _ if NAMES.contains(&name) => return Err(Refusal::Arity),
        _ => return Err(Refusal::Unknown),
    })
}

impl Shape {
    /// The reply that tells an outcome.
    pub fn reply(self, name: &str, outcome: Outcome<'_>) -> Reply {
        let bulk = |value: &[u8]| Reply::Bulk(value.to_vec());
        match (self, outcome) {
            (_, Outcome::Failure(failure)) => Reply::Error(failure_text(name, failure)),
            (Self::Ok, Outcome::Done) => Reply::Simple("OK"),
            (Self::Ok | Self::Bulk, Outcome::Absent) => Reply::Null,
            (Self::Bulk, Outcome::Value(value)) => bulk(value),
            (Self::Integer, Outcome::Integer(number)) => Reply::Integer(number),
            (Self::Flag, Outcome::Done) => Reply::Integer(1),
            (Self::Flag, Outcome::Absent) => Reply::Integer(0),
            (Self::Seconds, Outcome::Integer(ms)) if ms < 0 => Reply::Integer(ms),
            (Self::Seconds, Outcome::Integer(ms)) => Reply::Integer(ms / 1000 + i64::from(ms % 1000 >= 500)),
            (Self::Array, Outcome::Values(values)) => {
                Reply::Array(values.iter().map(|value| value.map_or(Reply::Null, bulk)).collect())
            }
            _ => Reply::Error("ERR the group's answer does not belong to this command".to_owned()),
        }
    }
}

fn failure_text(name: &str, failure: Failure) -> String {
    match failure {
        Failure::OutOfMemory => format!("OOM {failure}"),
        Failure::Expiry => format!("ERR {failure} in '{name}' command"),
        _ => format!("ERR {failure}"),
    }
}

/// In the words of Redis 7, arguments cut to a readable length as there.
fn unknown_command(arguments: &[&[u8]]) -> String {
    let name = arguments.first().copied().unwrap_or_default();
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", printable(name));
    for argument in arguments.iter().skip(1) {
        if text.len() > 256 {
            break;
        }
        text.push_str(&format!("'{}' ", printable(argument)));
    }
    text
}

/// At most 128 bytes, on one line: an error ends with its line.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let name = line.split(' ').next().unwrap();
        translate(name, &words[1..]).expect_err("refused").text(name, &words)
    }

    #[test]
    fn errors_are_redis_own() {
        assert_eq!(refused("foo a b"), "ERR unknown command 'foo', with args beginning with: 'a' 'b' ");
        assert_eq!(refused("foo"), "ERR unknown command 'foo', with args beginning with: ");
        for line in ["get", "get a b", "set k", "mset k", "mset k v l", "dbsize x", "ttl", "expire k"] {
            let name = line.split(' ').next().unwrap();
            assert_eq!(refused(line), format!("ERR wrong number of arguments for '{name}' command"));
        }
        assert_eq!(refused("incrby k x"), "ERR value is not an integer or out of range");
        assert_eq!(refused("decrby k -9223372036854775808"), "ERR decrement would overflow");
        assert_eq!(refused("setex k 0 v"), "ERR invalid expire time in 'setex' command");
        let overflow = "ERR invalid expire time in 'expire' command";
        assert_eq!(refused("expire k 9223372036854775807"), overflow);
        assert_eq!(refused("expire k 1 SOON"), "ERR Unsupported option SOON");
        assert!(refused(&format!("foo {}", "x".repeat(100_000))).len() < 500);
    }

    #[test]
    fn every_name_is_known_with_some_number_of_arguments() {
        for name in NAMES {
            let known = (0..4).any(|n| {
                let arguments = [&b"1"[..]; 4];
                translate(name, &arguments[..n]).is_ok()
            });
            assert!(known, "{name}");
        }
    }

    #[test]
    fn seconds_are_rounded_as_redis_rounds() {
        let seconds = |ms| Shape::Seconds.reply("ttl", Outcome::Integer(ms));
        for (ms, expected) in [(-2, -2), (-1, -1), (0, 0), (499, 0), (500, 1), (1499, 1), (10_000, 10)] {
            assert_eq!(seconds(ms), Reply::Integer(expected));
        }
    }
}

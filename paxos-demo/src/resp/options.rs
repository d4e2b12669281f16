//! Options of SET and EXPIRE, in any order, as Redis reads them.

use super::command::Refusal;
use crate::state_machine::{Expiry, ExpiryCondition, SetCondition, SetOptions, integer};

/// Reads what follows key and value of a SET.
pub(super) fn set(words: &[&[u8]]) -> Result<SetOptions, Refusal> {
    let SetOptions { mut condition, mut expiry, mut return_old } = SetOptions::default();
    let mut time = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = word.to_ascii_uppercase();
        match word.as_slice() {
            b"NX" if condition != Some(SetCondition::Present) => condition = Some(SetCondition::Absent),
            b"XX" if condition != Some(SetCondition::Absent) => condition = Some(SetCondition::Present),
            b"GET" => return_old = true,
            b"KEEPTTL" if time.is_none() => expiry = Expiry::Keep,
            b"EX" | b"PX" | b"EXAT" | b"PXAT"
                if expiry != Expiry::Keep && time.as_ref().is_none_or(|(unit, _)| *unit == word) =>
            {
                let number = words.next().ok_or(SYNTAX)?;
                time = Some((word, number));
            }
            _ => return Err(SYNTAX),
        }
    }
    // What is said again is no mistake: the last time counts, and only that has to be a number.
    if let Some((unit, number)) = time {
        let ms = positive("set", number, if unit.starts_with(b"E") { 1000 } else { 1 })?;
        expiry = if unit.ends_with(b"AT") { Expiry::At(ms) } else { Expiry::In(ms) };
    }
    Ok(SetOptions { condition, expiry, return_old })
}

/// Reads what follows the time of an EXPIRE.
pub(super) fn expire(words: &[&[u8]]) -> Result<Option<ExpiryCondition>, Refusal> {
    let [word] = words else {
        return if words.is_empty() {
            Ok(None)
        } else {
            Err(Refusal::Said("ERR this server takes one of the options NX, XX, GT and LT".into()))
        };
    };
    Ok(Some(match word.to_ascii_uppercase().as_slice() {
        b"NX" => ExpiryCondition::None,
        b"XX" => ExpiryCondition::Some,
        b"GT" => ExpiryCondition::Later,
        b"LT" => ExpiryCondition::Earlier,
        _ => {
            let word = super::command::printable(word);
            return Err(Refusal::Said(format!("ERR Unsupported option {word}")));
        }
    }))
}

/// A time that has to be ahead, in milliseconds.
pub(super) fn positive(command: &str, number: &[u8], unit_ms: i64) -> Result<i64, Refusal> {
    milliseconds(command, number, unit_ms).and_then(|ms| if ms > 0 { Ok(ms) } else { Err(invalid(command)) })
}

/// A time in milliseconds.
pub(super) fn milliseconds(command: &str, number: &[u8], unit_ms: i64) -> Result<i64, Refusal> {
    integer(number).ok_or(NOT_AN_INTEGER)?.checked_mul(unit_ms).ok_or_else(|| invalid(command))
}

pub(super) const SYNTAX: Refusal = Refusal::Plain("ERR syntax error");
pub(super) const NOT_AN_INTEGER: Refusal = Refusal::Plain("ERR value is not an integer or out of range");

fn invalid(command: &str) -> Refusal {
    Refusal::Said(format!("ERR invalid expire time in '{command}' command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<SetOptions, String> {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        set(&words).map_err(|refusal| refusal.text("set", &[]))
    }

    #[test]
    fn options_of_set_in_any_order() {
        let expected = SetOptions {
            condition: Some(SetCondition::Absent),
            expiry: Expiry::In(10_000),
            return_old: true,
        };
        assert_eq!(words("ex 10 GET nx"), Ok(expected));
        assert_eq!(words("NX get EX 10"), Ok(expected));
        assert_eq!(words("PXAT 7").unwrap().expiry, Expiry::At(7));
        assert_eq!(words("EXAT 7").unwrap().expiry, Expiry::At(7000));
        assert_eq!(words("PX 7 XX").unwrap().expiry, Expiry::In(7));
        assert_eq!(words("KEEPTTL").unwrap().expiry, Expiry::Keep);
        assert_eq!(words("NX NX nx").unwrap().condition, Some(SetCondition::Absent));
        assert_eq!(words("XX XX").unwrap().condition, Some(SetCondition::Present));
        assert!(words("GET GET").unwrap().return_old);
        assert_eq!(words("KEEPTTL KEEPTTL").unwrap().expiry, Expiry::Keep);
        assert_eq!(words("EX 1 ex 2").unwrap().expiry, Expiry::In(2000));
        assert_eq!(words("EX x EX 2").unwrap().expiry, Expiry::In(2000));
        for wrong in [
            "NX XX",
            "XX NX",
            "EX",
            "EX 1 PX 1",
            "EX 1 EXAT 1",
            "EX 1 EX",
            "KEEPTTL EX 1",
            "EX 1 KEEPTTL",
            "EX x WHAT",
        ] {
            assert_eq!(words(wrong), Err("ERR syntax error".into()), "{wrong}");
        }
        for wrong in ["EX x", "EX 1.5", "PX 99999999999999999999"] {
            assert_eq!(words(wrong), Err("ERR value is not an integer or out of range".into()), "{wrong}");
        }
        for wrong in ["EX 0", "PX -1", "EX 9223372036854775807"] {
            assert_eq!(words(wrong), Err("ERR invalid expire time in 'set' command".into()), "{wrong}");
        }
    }
}

//! Lines that people type, split into words as Redis splits them: `"..."` with escapes, `'...'` without.

use super::wire::ProtocolError;
use std::ops::Range;

/// Appends the words of a line to `text`, without quotes; where each of them is in it.
pub(super) fn words(line: &[u8], text: &mut Vec<u8>) -> Result<Vec<Range<usize>>, ProtocolError> {
    let (mut rest, mut words) = (line, Vec::new());
    loop {
        match rest {
            [] => return Ok(words),
            [byte, tail @ ..] if is_blank(*byte) => rest = tail,
            _ => {
                let start = text.len();
                rest = word(rest, text).ok_or(ProtocolError::UnbalancedQuotes)?;
                words.push(start..text.len());
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the first word; what follows it. A closing quote ends a word, and nothing may stick to it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [quote @ (b'"' | b'\''), tail @ ..] => {
                let tail = if *quote == b'"' { double(tail, text)? } else { single(tail, text)? };
                return tail.first().is_none_or(|byte| is_blank(*byte)).then_some(tail);
            }
            [byte, tail @ ..] if !is_blank(*byte) => {
                text.push(*byte);
                rest = tail;
            }
            _ => return Some(rest),
        }
    }
}

/// Appends what stands before a closing double quote; what follows it, if there is one.
fn double<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, tail)
            }
            [byte, tail @ ..] => (*byte, tail),
        };
        text.push(byte);
        rest = tail;
    }
}

/// The same for a single quote, in which nothing but that quote is escaped.
fn single<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        text.push(byte);
        rest = tail;
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut text = Vec::new();
        let words = words(line, &mut text)?;
        Ok(words.into_iter().map(|word| text[word].to_vec()).collect())
    }

    #[test]
    fn words_are_those_of_redis() {
        for (line, expected) in [
            (&b""[..], &[][..]),
            (b" \t ", &[]),
            (b"  get  k ", &[&b"get"[..], b"k"]),
            (b"set k \"a b\"", &[b"set", b"k", b"a b"]),
            (b"'' \"\"", &[b"", b""]),
            (b"k\"a b\"", &[b"ka b"]),
            (br#""\n\r\t\b\a\\\"\q\x4a\xFf""#, &[b"\n\r\t\x08\x07\\\"qJ\xff"]),
            (br#""\x4g" "\x" "\x4""#, &[b"x4g", b"x", b"x4"]),
            (br"'it\'s \n' \n", &[br"it's \n", br"\n"]),
        ] {
            assert_eq!(split(line).unwrap(), expected, "{}", line.escape_ascii());
        }
        for line in [&b"\""[..], b"'", b"a \"b", br#""\""#, br"'\'", b"\"a\"b", b"'a''b'", b"a\"b\"c"] {
            let refused = split(line).unwrap_err();
            assert_eq!(refused.to_string(), "unbalanced quotes in request", "{}", line.escape_ascii());
        }
    }

    proptest! {
        /// Whatever the bytes: written with escapes they are one word again.
        #[test]
        fn every_string_can_be_typed(string in prop::collection::vec(any::<u8>(), 0..20)) {
            let digits: String = string.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            prop_assert_eq!(split(format!("ECHO \"{digits}\"").as_bytes()).unwrap(), [b"ECHO".to_vec(), string]);
        }

        #[test]
        fn hostile_lines_never_panic(line in "[ '\"x0a\\\\]{0,30}") {
            let _ = split(line.as_bytes());
        }
    }
}

//! The text of a key file: parsing with line numbers, validation, writing. No message repeats a secret.
//!
//! What holds a secret is wiped when it goes. Two things are not ours to wipe: a secret written with escapes, which
//! the TOML parser unescapes into memory of its own (`paxos-demo key` writes none), and the copy of the text that it
//! makes for an error.

use std::fmt::Write as _;
use std::ops::Range;

use electrode::auth::SECRET_BYTES;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::{KeyFile, Secret};
use crate::config::line_of;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    send: Spanned<u32>,
    keys: Spanned<Vec<RawKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: Spanned<u32>,
    secret: Spanned<Zeroizing<String>>,
}

/// Line and reason.
type Refusal = (usize, String);

pub(super) fn parse(text: &str) -> Result<KeyFile, Refusal> {
    let at = |span: Range<usize>, reason: String| (line_of(text, span.start), reason);
    let raw: Raw = toml::from_str(text)
        .map_err(|error| at(error.span().unwrap_or(0..0), without_values(error.message())))?;
    let listed = raw.keys.get_ref();
    if !(1..=2).contains(&listed.len()) {
        let reason = format!(
            "{} keys: there is one, and a second one while they are being changed (`paxos-demo key --help`)",
            listed.len()
        );
        return Err(at(raw.keys.span(), reason));
    }
    let mut keys: Vec<(u32, Secret)> = Vec::new();
    for key in listed {
        let id = *key.id.get_ref();
        let bytes = secret(key.secret.get_ref())
            .map_err(|reason| at(key.secret.span(), format!("secret of key {id}: {reason}")))?;
        if let Some((other, before)) = keys.first() {
            if *other == id {
                return Err(at(key.id.span(), format!("key {id} is there twice")));
            }
            if *other & 1 == id & 1 {
                let reason = format!(
                    "keys {other} and {id} cannot be told apart: of two keys one has an even id and the other an \
                     odd one"
                );
                return Err(at(key.id.span(), reason));
            }
            if *before == bytes {
                let reason = format!("keys {other} and {id} have the same secret: that changes nothing");
                return Err(at(key.secret.span(), reason));
            }
        }
        keys.push((id, bytes));
    }
    let send = *raw.send.get_ref();
    if keys.iter().all(|(id, _)| *id != send) {
        let ids = keys.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(" and ");
        return Err(at(raw.send.span(), format!("send = {send}: the file has key {ids}")));
    }
    Ok(KeyFile { send, keys })
}

fn secret(text: &str) -> Result<Secret, &'static str> {
    if text.len() != 2 * SECRET_BYTES {
        return Err("must be 32 hex digits; `paxos-demo key new` makes one");
    }
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit =
            |at: usize| (pair[at] as char).to_digit(16).ok_or("must be 32 hex digits, 0 to 9 and a to f");
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    if *bytes == [0; SECRET_BYTES] {
        return Err("is all zeros, which everybody can guess; `paxos-demo key new` makes one");
    }
    Ok(bytes)
}

/// What the parser says, without values out of the file: a secret may stand where something else should.
fn without_values(message: &str) -> String {
    let known = ["send", "keys", "id", "secret"];
    let words = message.replace('\n', "; ");
    let mut quoted = false;
    let cut = words.split(['`', '"']).map(|part| {
        quoted = !quoted;
        if quoted || known.contains(&part) { part } else { "..." }
    });
    cut.collect::<Vec<_>>().join("`")
}

/// The text of a file that parses to this.
pub(super) fn write(file: &KeyFile) -> Zeroizing<String> {
    // As long as it gets: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(
        "# Keys of one group. Whoever reads this file can speak for the group: mode 0600, and no copies.\n\
         # `paxos-demo key --help` tells how to change them while the group runs.\n",
    );
    // Writing to a String does not fail.
    let _ = writeln!(text, "send = {}", file.send);
    for (id, secret) in &file.keys {
        let _ = write!(text, "\n[[keys]]\nid = {id}\nsecret = \"");
        for byte in secret.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("\"\n");
    }
    text
}

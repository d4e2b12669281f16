//! Inputs that are kept: `corpus/TARGET.txt`, a line each, and `regressions/TARGET/*`, a file each.
//!
//! A line is the input with everything escaped that is not plain ASCII (`std::ascii::escape_default`), so that
//! what is text can be read and differences can be seen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of this crate, as it was when it was built.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where the corpus of a target is.
pub fn file(target: &str) -> PathBuf {
    home().join("corpus").join(format!("{target}.txt"))
}

/// Where inputs are that once broke a target.
pub fn regressions(target: &str) -> PathBuf {
    home().join("regressions").join(target)
}

/// The corpus of a target; empty if there is none yet.
///
/// # Errors
/// If it cannot be read, or a line is none that [`write`] wrote.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let path = file(target);
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let line = |(number, line): (usize, &str)| {
        unescape(line).ok_or_else(|| {
            let text = format!("{}: line {}: not an escaped input", path.display(), number + 1);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    };
    text.lines().enumerate().map(line).collect()
}

/// Replaces the corpus of a target; shortest first, none twice.
///
/// # Errors
/// If it cannot be written.
pub fn write(target: &str, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let text: String = inputs.iter().map(|input| format!("{}\n", input.escape_ascii())).collect();
    fs::write(file(target), text)
}

/// The files of a directory and their names, by name; none if it is not there.
///
/// # Errors
/// If one cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// What `escape_ascii` made a line of.
fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes();
    loop {
        let (byte, tail) = match rest {
            [] => return Some(bytes),
            [b'\\', b't', tail @ ..] => (b'\t', tail),
            [b'\\', b'r', tail @ ..] => (b'\r', tail),
            [b'\\', b'n', tail @ ..] => (b'\n', tail),
            [b'\\', b'x', high, low, tail @ ..] => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                ((digit(*high)? << 4 | digit(*low)?) as u8, tail)
            }
            [b'\\', quoted @ (b'\\' | b'\'' | b'"'), tail @ ..] => (*quoted, tail),
            [b'\\', ..] => return None,
            [byte, tail @ ..] => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_kept() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&all.escape_ascii().to_string()), Some(all));
        assert_eq!(unescape(r"a\q"), None);
        assert_eq!(unescape(r"a\x1"), None);
        assert_eq!(unescape(r"\xzz"), None);
    }
}

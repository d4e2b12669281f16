//! The key file of a group with authentication: the keys that a member holds, and which of them it sends with.
//!
//! ```toml
//! send = 2
//!
//! [[keys]]
//! id = 1
//! secret = "00112233445566778899aabbccddeeff" # 32 hex digits
//!
//! [[keys]]
//! id = 2
//! secret = "..."
//! ```
//!
//! One key, or two while they are being changed ([`electrode::auth`] says in which order). All members hold the
//! same secrets under the same ids. What is in the file opens the group to whoever reads it, so it is refused
//! where others may, and no error, log line or `Debug` output repeats a secret.

pub mod edit;
mod parse;
pub mod reload;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use electrode::auth::{Key, Keys, SECRET_BYTES};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longer files are not read: two keys take a few hundred bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// Permissions of the group and of others.
const OTHERS: u32 = 0o077;

/// A secret that is wiped from memory when it goes.
type Secret = Zeroizing<[u8; SECRET_BYTES]>;

/// A key file's contents, validated.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    send: u32,
    /// One or two, in the order of the file.
    keys: Vec<(u32, Secret)>,
}

/// Which keys are in use, by their ids: all that may be said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyIds {
    /// The one that this replica sends with.
    pub sends: u32,
    /// Those that it accepts, the lower first.
    pub accepts: Vec<u32>,
}

impl fmt::Display for KeyIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepts = self.accepts.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ");
        write!(f, "accepts {accepts}, sends with {}", self.sends)
    }
}

/// Why a key file was refused, or could not be changed. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error(
        "cannot read the key file {}: {source}; it must belong to the user that the replica runs as",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the key file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe, a directory, or far too long.
    #[error("the key file {} is {what}: `paxos-demo key new` makes one", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Others may read or write it.
    #[error(
        "the key file {} is open to others (mode {mode:04o}): whoever reads it can speak for the group; \
         chmod 600 {}, and if somebody may have read it, change the key",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line of it is wrong.
    #[error("{}: line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for does not go with what is in it.
    #[error("{}: {reason}", path.display())]
    Step {
        /// The file.
        path: PathBuf,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel: {0}")]
    Random(#[from] getrandom::Error),
}

impl KeyFile {
    /// Reads and validates a file.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let (file, _) = open(path)?;
        let bytes = read(file).map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
        let at = |line, reason| KeyFileError::Line { path: path.to_owned(), line, reason };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            at(line, "is no text (UTF-8)".to_owned())
        })?;
        parse::parse(text).map_err(|(line, reason)| at(line, reason))
    }

    /// The keys for an endpoint.
    pub fn keys(&self) -> Keys {
        let key = |(id, secret): &(u32, Secret)| Key::new(*id, **secret).expect("zeros were refused");
        let (sends, others): (Vec<_>, Vec<_>) = self.keys.iter().partition(|(id, _)| *id == self.send);
        let keys = Keys::new(key(sends[0]));
        match others[..] {
            [other] => keys.with(key(other)).expect("keys of one parity were refused"),
            _ => keys,
        }
    }

    /// Their ids.
    pub fn ids(&self) -> KeyIds {
        let mut accepts: Vec<u32> = self.keys.iter().map(|(id, _)| *id).collect();
        accepts.sort_unstable();
        KeyIds { sends: self.send, accepts }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyFile").field(&self.ids()).finish()
    }
}

/// All of a file that is as long as it says, and of no more. Room for it is made once: bytes that grow leave copies
/// behind, which nobody wipes.
fn read(mut file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len().min(FILE_BYTES_MAX) as usize;
    let mut bytes = Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes)?;
    if file.read(&mut [0])? != 0 {
        return Err(io::Error::other(
            "it grew while it was read; replace it by a whole one (`paxos-demo key`)",
        ));
    }
    Ok(bytes)
}

/// Opens a file that nobody else may read; also returns who owns it.
fn open(path: &Path) -> Result<(File, (u32, u32)), KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    // Does not wait at a pipe: a replica that reads its file again must not stop for that.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    // Of what was opened, not of what the name may mean by now.
    let about = file.metadata().map_err(failed)?;
    let what = match () {
        () if !about.is_file() => Some("no regular file"),
        () if about.len() > FILE_BYTES_MAX => Some("far too long"),
        () => None,
    };
    if let Some(what) = what {
        return Err(KeyFileError::NotAFile { path: path.to_owned(), what });
    }
    let mode = about.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    Ok((file, (about.uid(), about.gid())))
}

//! `paxos-demo key`: makes a key file and takes it through a change of keys, one whole file after the other.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use electrode::auth::SECRET_BYTES;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{KeyFile, KeyFileError, KeyIds, Secret, open, parse};

/// One step of a key's life.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new file with one new key.
    New,
    /// One new key more: accepted, not sent with.
    Add,
    /// The other key is sent with from now on.
    Send(u32),
    /// A key that is not sent with goes.
    Drop(u32),
}

/// Carries out a step: the file is there with all of it, or as it was. Returns what it holds then.
pub fn take(path: &Path, step: Step) -> Result<KeyIds, KeyFileError> {
    if step == Step::New {
        let file = KeyFile { send: 1, keys: vec![(1, random()?)] };
        save(path, &file, None)?;
        return Ok(file.ids());
    }
    // What a link points to is replaced, not the link.
    let path = path.canonicalize().map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    let owner = open(&path)?.1;
    let mut file = KeyFile::load(&path)?;
    let fresh = random()?;
    change(&mut file, step, fresh).map_err(|reason| KeyFileError::Step { path: path.clone(), reason })?;
    save(&path, &file, Some(owner))?;
    Ok(file.ids())
}

/// The step in memory; `fresh` is a secret that was never used.
fn change(file: &mut KeyFile, step: Step, fresh: Secret) -> Result<(), String> {
    let ids = file.ids();
    let has = |id: u32| ids.accepts.contains(&id);
    match step {
        Step::New => {}
        Step::Add if file.keys.len() == 2 => {
            return Err(format!(
                "there are two keys already ({ids}): drop one first (`paxos-demo key drop`)"
            ));
        }
        Step::Add => {
            // The next number has the other parity, the last one too.
            file.keys.push((file.keys[0].0.wrapping_add(1), fresh));
        }
        Step::Send(id) | Step::Drop(id) if !has(id) => {
            return Err(format!("there is no key {id} (the file {ids})"));
        }
        Step::Send(id) => file.send = id,
        Step::Drop(id) if id == file.send => {
            return Err(format!("key {id} is the one that is sent with: send with another one first"));
        }
        Step::Drop(id) => file.keys.retain(|(other, _)| *other != id),
    }
    Ok(())
}

/// A secret from the kernel's random source.
fn random() -> Result<Secret, KeyFileError> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    // Never all zeros, which stands for "never written"; it will not happen.
    while *secret == [0; SECRET_BYTES] {
        getrandom::fill(&mut *secret)?;
    }
    Ok(secret)
}

/// Replaces the file by a complete one, on disk when this returns, readable by nobody but its owner at any
/// moment. Without an `owner` there must be no file yet.
fn save(path: &Path, file: &KeyFile, owner: Option<(u32, u32)>) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    let write = || {
        // Made with mode 0600.
        let mut temporary = NamedTempFile::new_in(&directory)?;
        temporary.write_all(parse::write(file).as_bytes())?;
        if let Some((user, group)) = owner
            && temporary.as_file().metadata()?.uid() != user
        {
            // Root changes the keys of a replica that runs as somebody else.
            fchown(temporary.as_file(), Some(user), Some(group))?;
        }
        temporary.as_file().sync_all()?;
        match owner {
            Some(_) => temporary.persist(path),
            None => temporary.persist_noclobber(path),
        }
        .map_err(|error| error.error)?;
        std::fs::File::open(&directory)?.sync_all()
    };
    write().map_err(failed)
}

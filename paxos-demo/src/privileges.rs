//! Whose process a replica is, and with which capabilities: those that opening the endpoint needs, then none.
//!
//! The user changes before anything is opened but the listener for Redis clients: what the replica will need later,
//! its data directory above all, is then opened with the rights that it will have later, so that a wrong owner shows
//! at start and not at the next file. From then on it is as a service manager would have started it, with ambient
//! capabilities; after the endpoint is open there are none.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getegid, geteuid, initgroups, setresgid, setresuid};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{getppid, parent_process_death_signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Why a replica cannot run as it should.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error("--user {name}: there is no such user")]
    NoSuchUser {
        /// As given.
        name: String,
    },
    /// Only root can become somebody else.
    #[error(
        "--user {name}: only root can become another user; leave it out to run as {current}, or start as root"
    )]
    NotRoot {
        /// As given.
        name: String,
        /// Who this is now.
        current: String,
    },
    /// Somebody else's, or one that has other names.
    #[error("--user {name}: {} was not made here, or is no longer what was made: it stays whose it is", path.display())]
    NotMade {
        /// The user.
        name: String,
        /// The file or directory.
        path: PathBuf,
    },
    /// The process that started this one died meanwhile, and would have taken it along.
    #[error("the process that started this replica is gone")]
    ParentGone,
    /// A system call failed.
    #[error("--user {name}: {what}: {source}")]
    System {
        /// As given.
        name: String,
        /// The call.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The capabilities could not be given up.
    #[error(transparent)]
    Capabilities(#[from] electrode::Error),
}

/// Name of the user that this process runs as.
pub fn current_user() -> String {
    let id = geteuid();
    User::from_uid(id).ok().flatten().map_or_else(|| format!("user {id}"), |user| user.name)
}

/// Becomes `user`, if one is given, and gives up every capability that opening an endpoint does not need. To be
/// called before there are other threads.
pub fn prepare(user: Option<&str>) -> Result<(), PrivilegeError> {
    if let Some(name) = user {
        become_user(name)?;
    }
    Ok(electrode::privileges::keep_needed()?)
}

/// Makes a file or directory that this process has just made that user's. Links are not followed, and what belongs to
/// somebody else is left alone: where it lies others may be able to write, and root gives away what it made, not what they
/// put in its place.
pub fn give_to(name: &str, path: &Path) -> Result<(), PrivilegeError> {
    let user = find(name)?;
    let failed = |what| move |source| PrivilegeError::System { name: name.to_owned(), what, source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| failed("opening what was made for the user")(e.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| failed("fstat")(e.into()))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if stat.st_uid != geteuid().as_raw() || !is_dir && stat.st_nlink != 1 {
        return Err(PrivilegeError::NotMade { name: name.to_owned(), path: path.to_owned() });
    }
    std::os::unix::fs::fchown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .map_err(failed("giving the user what was made for it"))
}

fn find(name: &str) -> Result<User, PrivilegeError> {
    let user = User::from_name(name).map_err(|e| PrivilegeError::System {
        name: name.to_owned(),
        what: "looking the user up",
        source: e.into(),
    })?;
    user.ok_or_else(|| PrivilegeError::NoSuchUser { name: name.to_owned() })
}

fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let failed = |what| move |e: io::Error| PrivilegeError::System { name: name.to_owned(), what, source: e };
    let user = find(name)?;
    // Whoever is that user already may be more: real and saved user, groups and capabilities are looked at all the same.
    if geteuid() != user.uid && !geteuid().is_root() {
        return Err(PrivilegeError::NotRoot { name: name.to_owned(), current: current_user() });
    }
    let c_name = CString::new(user.name).map_err(|e| failed("the name")(e.into()))?;
    // The kernel forgets with the user who is to end with whom.
    let dies_with_parent = parent_process_death_signal().map_err(|e| failed("prctl")(e.into()))?;
    let parent = getppid();
    rustix::thread::set_keep_capabilities(true).map_err(|e| failed("keeping capabilities")(e.into()))?;
    let mut sets = capabilities(None).map_err(|e| failed("capget")(e.into()))?;
    // Permitted alone where the real user is root and the effective one is not.
    sets.effective = sets.permitted;
    set_capabilities(None, sets).map_err(|e| failed("capset")(e.into()))?;
    if sets.permitted.contains(CapabilitySet::SETGID) {
        initgroups(&c_name, user.gid).map_err(|e| failed("setting the groups")(e.into()))?;
        setresgid(user.gid, user.gid, user.gid).map_err(|e| failed("setting the group")(e.into()))?;
    } else {
        // An ordinary user has no say in its groups but this.
        let group = getegid();
        setresgid(group, group, group).map_err(|e| failed("setting the group")(e.into()))?;
    }
    setresuid(user.uid, user.uid, user.uid).map_err(|e| failed("setting the user")(e.into()))?;
    if dies_with_parent.is_some() {
        set_parent_process_death_signal(dies_with_parent).map_err(|e| failed("prctl")(e.into()))?;
        if getppid() != parent {
            return Err(PrivilegeError::ParentGone);
        }
    }
    Ok(())
}

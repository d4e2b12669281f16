//! SIGHUP: a replica reads its key file again, without a pause.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use electrode::Endpoint;

use super::{KeyFile, KeyFileError, KeyIds};

/// Where a replica's keys come from, and which it holds.
#[derive(Debug)]
pub struct KeySource {
    path: PathBuf,
    asked: Arc<AtomicBool>,
    held: KeyIds,
}

/// Why other keys were not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error(transparent)]
    Endpoint(#[from] electrode::Error),
}

impl KeySource {
    /// The file at `path`. From now on SIGHUP asks for it to be read, and no longer ends the process.
    pub fn on_hangup(path: PathBuf) -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked))?;
        Ok(Self { path, asked, held: KeyIds::default() })
    }

    /// Reads the file for the first time.
    pub fn read(&mut self) -> Result<KeyFile, KeyFileError> {
        let file = KeyFile::load(&self.path)?;
        self.held = file.ids();
        Ok(file)
    }

    /// Ids of the keys that are held.
    pub fn held(&self) -> &KeyIds {
        &self.held
    }

    /// Reads the file again if that was asked for, and gives what is in it to the endpoint. With a file that is
    /// refused all stays as it was. Returns what to tell the operator: good news or bad.
    pub fn renew(&mut self, endpoint: &mut Endpoint) -> Option<Result<String, String>> {
        if !self.asked.swap(false, Ordering::Relaxed) {
            return None;
        }
        let renewed = KeyFile::load(&self.path).map_err(ReloadError::from).and_then(|file| {
            endpoint.set_keys(&file.keys())?;
            Ok(file.ids())
        });
        Some(match renewed {
            Ok(ids) => {
                self.held = ids;
                Ok(format!("keys: {}", self.held))
            }
            Err(error) => Err(format!("{error}. The keys stay as they were: {}", self.held)),
        })
    }
}

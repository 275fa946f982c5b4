//! Locks of a cache's keys, which processes share.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{CompileCache, bad};
use crate::core_ml::cache_key::CacheKey;
use crate::core_ml::progress::LoadStep;
use crate::error::{Error, Result};

/// Suffix of a lock file.
const LOCK: &str = "lock";
/// How often a lock held by another load is retried.
const POLL: Duration = Duration::from_millis(50);
/// How long a lock held by another load is retried. Its holder is compiling, which takes minutes, or uses an
/// entry that somebody has removed by hand.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// How many may hold a lock at once.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Any number: the entry is in use.
    Shared,
    /// One: the entry is being compiled.
    Alone,
}

impl CompileCache {
    /// Waits for the lock of a key; `None` if the file system has no locks.
    pub(super) fn lock(&self, key: &CacheKey, kind: Kind, tell: impl Fn(&LoadStep)) -> Result<Option<File>> {
        let path = self.lock_path(key.as_str());
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        // A cache that belongs to another user is still readable.
        let file = file.or_else(|e| File::open(&path).map_err(|_| e)).map_err(|e| bad(&path, e))?;
        let begun = Instant::now();
        loop {
            let tried = match kind {
                Kind::Shared => file.try_lock_shared(),
                Kind::Alone => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(Some(file)),
                Err(fs::TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
                Err(fs::TryLockError::Error(e)) => return Err(bad(&path, e)),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() >= self.patience => {
                    let reason = "another load holds it, for longer than compiling takes".to_owned();
                    return Err(Error::Cache { path, reason, source: None });
                }
                Err(fs::TryLockError::WouldBlock) => {
                    if begun.elapsed() < POLL {
                        tell(&LoadStep::Waiting);
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    /// Returns the path of a key's lock file.
    pub(super) fn lock_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{LOCK}"))
    }
}

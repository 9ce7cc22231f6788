//! The key of affinity cookies, and the warning where it is none that replicas could share.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use propylon_model::{Affinity, Delta, Pool};
use thiserror::Error;

use crate::balance::affinity::{StickyKey, StickyKeyError};

/// Why `--sticky-key-file` gives no key; not retryable.
#[derive(Debug, Error)]
pub enum StickyFileError {
    /// The file cannot be read.
    #[error("--sticky-key-file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no key.
    #[error("--sticky-key-file {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StickyKeyError,
    },
}

/// Reads the key of a file.
pub(crate) fn read_key(path: &Path) -> Result<Arc<StickyKey>, StickyFileError> {
    let secret = std::fs::read(path).map_err(|source| StickyFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    StickyKey::new(&secret)
        .map(Arc::new)
        .map_err(|source| StickyFileError::Key {
            path: path.to_owned(),
            source,
        })
}

/// The key that is in use.
#[derive(Debug)]
pub(crate) struct Sticky {
    pub(crate) key: Arc<StickyKey>,
    is_random: bool,
    has_warned: AtomicBool,
}

impl Sticky {
    /// The given key, else a random one.
    ///
    /// # Errors
    /// When there is no randomness. Not retryable.
    pub(crate) fn new(given: Option<&Arc<StickyKey>>) -> Result<Self, StickyKeyError> {
        let key = if let Some(key) = given {
            Arc::clone(key)
        } else {
            let mut secret = [0; 32];
            aws_lc_rs::rand::fill(&mut secret).map_err(|_| StickyKeyError::Refused)?;
            // White space at the end of a secret does not count.
            Arc::new(StickyKey::new(&[&secret[..], b"."].concat())?)
        };
        Ok(Self {
            key,
            is_random: given.is_none(),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Warns, once, where a cookie is asked for and the key is random.
    pub(crate) fn check(&self, delta: &Delta) {
        let asks = |pool: &Arc<Pool>| matches!(pool.policy.affinity, Affinity::Cookie(_));
        if self.is_random && !self.has_warned.load(Relaxed) && delta.pools.values().flatten().any(asks) {
            self.has_warned.store(true, Relaxed);
            tracing::warn!(
                "affinity cookies are sealed with a random key: other replicas, and this one after a restart, cannot read \
                 them; give all the same --sticky-key-file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_keys_differ_and_given_ones_are_used() {
        let (one, two) = (Sticky::new(None).unwrap(), Sticky::new(None).unwrap());
        let address = "10.0.0.1:80".parse().unwrap();
        let value = one.key.seal([1; 12], "a/b:80", address).unwrap();
        assert_eq!(one.key.open("a/b:80", value.as_bytes()), Some(address));
        assert_eq!(two.key.open("a/b:80", value.as_bytes()), None);
        let given = Sticky::new(Some(&one.key)).unwrap();
        assert_eq!(given.key.open("a/b:80", value.as_bytes()), Some(address));
        assert!(one.is_random && !given.is_random);
    }
}

//! The certificates that one host pattern has.

use std::{slice, sync::Arc};

use rustls::server::ClientHello;

use super::{
    CertIdentity,
    entry::{Abilities, Entry},
};

/// One certificate or several, in the order they are tried; never none.
#[derive(Clone, Debug)]
pub(super) enum Candidates {
    One(Arc<Entry>),
    Several(Arc<Entry>, Box<[Arc<Entry>]>),
}

impl Candidates {
    /// Sorts the certificates of one pattern: ECDSA first, among one key type the lowest rank; `None` when there is none.
    pub(super) fn of(mut entries: Vec<Arc<Entry>>) -> Option<Self> {
        entries.sort_by(|one, other| one.order().cmp(&other.order()));
        let mut entries = entries.into_iter();
        let first = entries.next()?;
        let rest: Box<[_]> = entries.collect();
        Some(if rest.is_empty() {
            Self::One(first)
        } else {
            Self::Several(first, rest)
        })
    }

    /// The first certificate that the client can verify; the first of all when it can verify none, so that the
    /// handshake fails with the alert that says so.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> &Arc<Entry> {
        match self {
            Self::One(entry) => entry,
            Self::Several(first, rest) => {
                let client = Abilities::of(hello);
                if first.suits(client) {
                    return first;
                }
                rest.iter().find(|entry| entry.suits(client)).unwrap_or(first)
            }
        }
    }

    pub(super) fn contains(&self, identity: &CertIdentity) -> bool {
        self.iter().any(|entry| entry.identity() == identity)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let (first, rest) = match self {
            Self::One(first) => (first, [].as_slice()),
            Self::Several(first, rest) => (first, &**rest),
        };
        slice::from_ref(first).iter().chain(rest)
    }
}

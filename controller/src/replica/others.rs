//! What the Leases of other replicas tell, as long as they are renewed. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use propylon_kit::clock::Monotonic;
use propylon_wire::{Generation, StateVersion};

use super::{ACKNOWLEDGED, Told};
use crate::live::Elsewhere;

/// The other replicas, by the name of their Lease.
#[derive(Debug)]
pub(super) struct Others {
    lasts: Duration,
    replicas: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The version of the Lease, and when it was first seen: no clock of another machine counts.
    version: String,
    since: Monotonic,
    is_fresh: bool,
    told: BTreeMap<String, Told>,
}

impl Others {
    /// Nobody is known; the word of a replica lasts so long.
    pub(super) fn new(lasts: Duration) -> Self {
        Self {
            lasts,
            replicas: HashMap::new(),
        }
    }

    /// Takes all Leases of other replicas as they are now.
    pub(super) fn look<'a>(&mut self, leases: impl Iterator<Item = &'a Lease>, now: Monotonic) {
        for seen in self.replicas.values_mut() {
            seen.is_fresh = false;
        }
        for lease in leases {
            let version = lease.resource_version().unwrap_or_default();
            let name = lease.name_any();
            match self.replicas.get_mut(&name) {
                Some(seen) if seen.version == version => seen.is_fresh = now.since(seen.since) < self.lasts,
                _ => {
                    let seen = Seen {
                        version,
                        since: now,
                        is_fresh: true,
                        told: of_lease(lease),
                    };
                    self.replicas.insert(name, seen);
                }
            }
        }
    }

    /// The Leases that have not been renewed for so long.
    pub(super) fn silent(&self, silence: Duration, now: Monotonic) -> Vec<String> {
        let silent = self
            .replicas
            .iter()
            .filter(|(_, seen)| now.since(seen.since) >= silence);
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets a Lease that is deleted.
    pub(super) fn forget(&mut self, name: &str) {
        self.replicas.remove(name);
    }

    /// The proxies of the replicas whose word counts.
    pub(super) fn proxies(&self, place: impl Fn(StateVersion) -> Option<Generation>) -> BTreeMap<String, Elsewhere> {
        let fresh = self.replicas.values().filter(|seen| seen.is_fresh);
        fresh
            .flat_map(|seen| &seen.told)
            .map(|(name, told)| {
                let generation = place(told.version);
                (name.clone(), Elsewhere { generation })
            })
            .collect()
    }
}

/// What a Lease tells; nothing where its annotation does not parse.
fn of_lease(lease: &Lease) -> BTreeMap<String, Told> {
    let annotation = lease.annotations().get(ACKNOWLEDGED);
    annotation
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use propylon_kit::clock;

    use super::*;

    fn lease(name: &str, version: &str, acknowledged: &str) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        lease.metadata.resource_version = Some(version.to_owned());
        lease.metadata.annotations = Some([(ACKNOWLEDGED.to_owned(), acknowledged.to_owned())].into());
        lease
    }

    #[test]
    fn a_replica_counts_while_its_lease_is_renewed() {
        let zero = StateVersion::EMPTY;
        let text = format!(r#"{{"p/a": {{"node": "n", "version": "{zero}", "unix": 7}}}}"#);
        let place = |version| (version == zero).then_some(Generation(3));
        let start = clock::now();
        let second = Duration::from_secs(1);
        let mut others = Others::new(30 * second);
        others.look([&lease("r", "1", &text)].into_iter(), start);
        let proxies = others.proxies(place);
        assert_eq!(proxies["p/a"].generation, Some(Generation(3)));
        others.look([&lease("r", "1", &text)].into_iter(), start + 29 * second);
        assert_eq!(others.proxies(place).len(), 1);
        others.look([&lease("r", "1", &text)].into_iter(), start + 31 * second);
        assert_eq!(others.proxies(place).len(), 0);
        others.look([&lease("r", "2", &text)].into_iter(), start + 40 * second);
        assert_eq!(others.proxies(place).len(), 1);
        others.look(std::iter::empty(), start + 41 * second);
        assert_eq!(others.proxies(place).len(), 0);
        assert_eq!(others.silent(60 * second, start + 99 * second), Vec::<String>::new());
        assert_eq!(others.silent(60 * second, start + 100 * second), ["r"]);
        others.forget("r");
        assert_eq!(others.silent(60 * second, start + 100 * second), Vec::<String>::new());
    }

    #[test]
    fn an_annotation_that_does_not_parse_tells_nothing() {
        let mut others = Others::new(Duration::from_secs(30));
        others.look([&lease("r", "1", "nonsense")].into_iter(), clock::now());
        assert!(others.proxies(|_| None).is_empty());
    }
}

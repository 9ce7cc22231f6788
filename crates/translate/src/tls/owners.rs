//! Which namespace a host belongs to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::Ingress;
use propylon_model::{HostName, HostPattern};

use crate::{classes::Served, world::Key};

/// The oldest Ingress that names each host, in a rule or in `tls`: the host belongs to its namespace.
pub(crate) struct Owners<'a> {
    by_host: BTreeMap<HostPattern, &'a Key>,
    /// By the suffix of each wildcard: the exact hosts below it that belong to another namespace than it does.
    foreign: BTreeMap<HostName, Vec<(HostName, &'a Key)>>,
}

impl<'a> Owners<'a> {
    /// Finds the owners. `served` is in order of age.
    pub(crate) fn of(served: &[Served<'a>]) -> Self {
        let mut by_host = BTreeMap::new();
        for ingress in served {
            for host in named(ingress.ingress) {
                by_host.entry(host).or_insert(ingress.key);
            }
        }
        let foreign = foreign(&by_host);
        Self { by_host, foreign }
    }

    /// The owner of a host, where that is another namespace.
    pub(crate) fn other_than(&self, namespace: &str, host: &HostPattern) -> Option<&'a Key> {
        let owner = self.by_host.get(host).copied();
        owner.filter(|owner| *owner.namespace != *namespace)
    }

    /// The exact hosts below a wildcard, with their owners, that belong to another namespace than the wildcard; in order.
    pub(super) fn foreign_below(&self, host: &HostPattern) -> &[(HostName, &'a Key)] {
        match host {
            HostPattern::Wildcard(suffix) => self.foreign.get(suffix).map_or(&[], Vec::as_slice),
            HostPattern::Any | HostPattern::Exact(_) => &[],
        }
    }

    /// The exact hosts one label below a wildcard that some Ingress names, without those of `except`; in order.
    pub(crate) fn below(&self, host: &HostPattern, except: &BTreeSet<HostPattern>) -> Vec<HostName> {
        let HostPattern::Wildcard(suffix) = host else {
            return Vec::new();
        };
        let exact = self.by_host.keys().filter(|other| !except.contains(other));
        let below = exact.filter_map(|other| match other {
            HostPattern::Exact(name) if name.as_str().split_once('.')?.1 == suffix.as_str() => Some(name.clone()),
            _ => None,
        });
        below.collect()
    }
}

/// The hosts that an Ingress names, in a rule or in `tls`.
pub(crate) fn named(ingress: &Ingress) -> impl Iterator<Item = HostPattern> {
    let spec = ingress.spec.as_ref();
    let rules = spec
        .into_iter()
        .flat_map(|spec| spec.rules.iter().flatten())
        .filter_map(|rule| rule.host.as_deref());
    let tls = spec.into_iter().flat_map(|spec| spec.tls.iter().flatten());
    let tls = tls.flat_map(|tls| tls.hosts.iter().flatten()).map(String::as_str);
    rules.chain(tls).filter_map(|text| HostPattern::parse(text).ok())
}

fn foreign<'a>(by_host: &BTreeMap<HostPattern, &'a Key>) -> BTreeMap<HostName, Vec<(HostName, &'a Key)>> {
    let wildcards: BTreeMap<&str, (&HostName, &Key)> = by_host
        .iter()
        .filter_map(|(host, owner)| match host {
            HostPattern::Wildcard(suffix) => Some((suffix.as_str(), (suffix, *owner))),
            HostPattern::Any | HostPattern::Exact(_) => None,
        })
        .collect();
    let mut foreign: BTreeMap<HostName, Vec<_>> = BTreeMap::new();
    for (host, owner) in by_host {
        let HostPattern::Exact(name) = host else { continue };
        let above = name.as_str().split_once('.');
        match above.and_then(|(_, suffix)| wildcards.get(suffix)) {
            Some((suffix, of_wildcard)) if of_wildcard.namespace != owner.namespace => {
                let hosts = foreign.entry((*suffix).clone()).or_default();
                hosts.push((name.clone(), *owner));
            }
            _ => {}
        }
    }
    foreign
}

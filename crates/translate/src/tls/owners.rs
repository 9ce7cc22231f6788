//! Which Ingresses name a host, and which namespace it belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::Ingress;
use propylon_model::{HostName, HostPattern};

use crate::{classes::Age, engine::Index, world::Key};

/// The Ingresses that name each host, in a rule or in `tls`: it belongs to the namespace of the oldest.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    by_host: Index<HostPattern, Age>,
    /// By suffix: the exact hosts one label below it.
    below: BTreeMap<Arc<str>, BTreeSet<HostName>>,
}

impl Hosts {
    /// Adds an Ingress to the hosts that it names.
    pub(crate) fn add(&mut self, ingress: &Age, hosts: &BTreeSet<HostPattern>) {
        for host in hosts {
            self.by_host.insert(host.clone(), ingress.clone());
            if let Some((name, suffix)) = suffix(host) {
                let below = self.below.entry(suffix.into()).or_default();
                below.insert(name.clone());
            }
        }
    }

    /// Takes an Ingress away from the hosts that it named.
    pub(crate) fn remove(&mut self, ingress: &Age, hosts: &BTreeSet<HostPattern>) {
        for host in hosts {
            self.by_host.remove(host, ingress);
            let Some((name, suffix)) = suffix(host).filter(|_| !self.by_host.has(host)) else {
                continue;
            };
            if let Some(below) = self.below.get_mut(suffix) {
                below.remove(name);
                if below.is_empty() {
                    self.below.remove(suffix);
                }
            }
        }
    }

    /// The Ingresses that name a host, oldest first.
    pub(crate) fn namers(&self, host: &HostPattern) -> impl Iterator<Item = &Key> {
        self.by_host.of(host).map(|(_, _, key)| key)
    }

    /// The oldest Ingress that names a host.
    pub(crate) fn owner(&self, host: &HostPattern) -> Option<&Key> {
        self.namers(host).next()
    }

    /// The owner of a host, where that is another namespace.
    pub(crate) fn other_than(&self, namespace: &str, host: &HostPattern) -> Option<&Key> {
        self.owner(host).filter(|owner| *owner.namespace != *namespace)
    }

    /// The exact hosts below a wildcard, with their owners, that belong to another namespace than the wildcard; in order.
    pub(super) fn foreign_below(&self, host: &HostPattern) -> Vec<(HostName, &Key)> {
        let Some(of_wildcard) = self.owner(host) else {
            return Vec::new();
        };
        let below = self.all_below(host).filter_map(|name| {
            let owner = self.other_than(&of_wildcard.namespace, &HostPattern::Exact(name.clone()))?;
            Some((name.clone(), owner))
        });
        below.collect()
    }

    /// The exact hosts one label below a wildcard that some Ingress names; in order.
    pub(crate) fn all_below(&self, host: &HostPattern) -> impl Iterator<Item = &HostName> {
        let names = match host {
            HostPattern::Wildcard(suffix) => self.below.get(suffix.as_str()),
            HostPattern::Any | HostPattern::Exact(_) => None,
        };
        names.into_iter().flatten()
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

/// The wildcard one label above an exact host.
pub(crate) fn wildcard_above(host: &HostPattern) -> Option<HostPattern> {
    let (_, suffix) = suffix(host)?;
    HostPattern::parse(&format!("*.{suffix}")).ok()
}

fn suffix(host: &HostPattern) -> Option<(&HostName, &str)> {
    match host {
        HostPattern::Exact(name) => Some((name, name.as_str().split_once('.')?.1)),
        HostPattern::Any | HostPattern::Wildcard(_) => None,
    }
}

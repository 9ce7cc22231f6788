//! What is known of Services before the watch brings it: what was written, and what was listed when leading began.
//!
//! Without it an address that was just written for one Service could be given to another one.

use std::collections::HashMap;

use propylon_translate::Key;

use super::facts::ServiceFacts;

/// Services that are further than the store.
#[derive(Clone, Debug, Default)]
pub struct Ahead(HashMap<Key, Known>);

#[derive(Clone, Debug)]
struct Known {
    service: ServiceFacts,
    /// Whether the store had the Service in some version: without it there, it is gone.
    is_stored: bool,
}

impl Ahead {
    /// Takes a Service of a list, which the store need not have yet.
    pub fn listed(&mut self, service: ServiceFacts) {
        let is_stored = false;
        self.0.insert(service.key.clone(), Known { service, is_stored });
    }

    /// Takes a Service of the store that was written, as the API server gave it back.
    pub fn written(&mut self, service: ServiceFacts) {
        let is_stored = true;
        self.0.insert(service.key.clone(), Known { service, is_stored });
    }

    /// A Service that the API server says does not exist.
    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Whether the store is as far as what is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives up what the store never had: it was gone before the watch began.
    pub fn forget_unknown(&mut self) {
        self.0.retain(|_, known| known.is_stored);
    }

    /// The Services of the store, each as far as it is known; what the store has caught up with is forgotten, and so is what
    /// it had and has no longer. What was listed and has not come yet holds its addresses.
    pub fn merge(&mut self, store: Vec<ServiceFacts>) -> Vec<ServiceFacts> {
        let mut ahead = std::mem::take(&mut self.0);
        let merged = store.into_iter().map(|stored| match ahead.remove(&stored.key) {
            Some(known) if is_later(&known.service, &stored) => {
                self.written(known.service.clone());
                known.service
            }
            _ => stored,
        });
        let mut merged: Vec<ServiceFacts> = merged.collect();
        for (key, known) in ahead {
            if !known.is_stored && !known.service.present.is_empty() {
                merged.push(known.service.clone());
                self.0.insert(key, known);
            }
        }
        merged
    }
}

/// Whether one is later than the other. Versions are numbers that grow (KEP-5504); where they are none, what was written
/// counts until the store shows that very version.
fn is_later(known: &ServiceFacts, stored: &ServiceFacts) -> bool {
    let number = |service: &ServiceFacts| {
        service
            .resource_version
            .as_deref()
            .and_then(|version| version.parse::<u64>().ok())
    };
    match (number(known), number(stored)) {
        (Some(known), Some(stored)) => known > stored,
        _ => known.resource_version != stored.resource_version,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, version: &str, address: Option<&str>) -> ServiceFacts {
        let entries: Vec<_> = address.iter().map(|address| json!({"ip": address})).collect();
        let object = json!({"metadata": {"name": name, "resourceVersion": version}, "status": {"loadBalancer": {"ingress": entries}}});
        ServiceFacts::read(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_was_written_counts_until_the_store_has_it() {
        let mut ahead = Ahead::default();
        let written = service("a", "9", Some("192.0.2.1"));
        ahead.written(written.clone());
        let old = service("a", "7", None);
        assert_eq!(ahead.merge(vec![old]), [written]);
        let later = service("a", "10", None);
        assert_eq!(ahead.merge(vec![later.clone()]), [later]);
        assert!(ahead.is_empty());
    }

    #[test]
    fn what_was_listed_holds_its_address_before_the_watch_brings_it() {
        let mut ahead = Ahead::default();
        ahead.listed(service("a", "9", Some("192.0.2.1")));
        ahead.listed(service("b", "9", None));
        assert_eq!(ahead.merge(Vec::new()).len(), 1);
        ahead.forget_unknown();
        assert!(ahead.merge(Vec::new()).is_empty());
    }

    #[test]
    fn what_the_store_had_and_has_no_longer_is_gone() {
        let mut ahead = Ahead::default();
        ahead.written(service("written", "9", Some("192.0.2.1")));
        ahead.listed(service("listed", "9", Some("192.0.2.2")));
        assert_eq!(ahead.merge(vec![service("listed", "7", None)]).len(), 1);
        assert!(ahead.merge(Vec::new()).is_empty());
    }
}

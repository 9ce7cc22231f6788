//! What is known of Services before the watch brings it: what was written, and what was listed when leading began.
//!
//! Without it an address that was just written for one Service could be given to another one.

use std::collections::HashMap;

use propylon_translate::Key;

use super::facts::ServiceFacts;

/// Services that are further than the store.
#[derive(Clone, Debug, Default)]
pub struct Ahead(HashMap<Key, ServiceFacts>);

impl Ahead {
    /// Takes a Service as the API server has just given it.
    pub fn insert(&mut self, service: ServiceFacts) {
        self.0.insert(service.key.clone(), service);
    }

    /// A Service that the API server says does not exist.
    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Those that the store lacks.
    pub fn unknown_to(&self, is_stored: impl Fn(&Key) -> bool) -> Vec<Key> {
        self.0.keys().filter(|key| !is_stored(key)).cloned().collect()
    }

    /// Whether the store is as far as what is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The Services of the store, each as far as it is known; what the store has caught up with is forgotten. Of a Service that
    /// the store lacks, nothing is known: it is new, which the watch will tell, or gone.
    pub fn merge(&mut self, store: Vec<ServiceFacts>) -> Vec<ServiceFacts> {
        let mut ahead = std::mem::take(&mut self.0);
        let merged = store.into_iter().map(|stored| match ahead.remove(&stored.key) {
            Some(known) if is_later(&known, &stored) => {
                self.0.insert(known.key.clone(), known.clone());
                known
            }
            _ => stored,
        });
        let mut merged: Vec<ServiceFacts> = merged.collect();
        // What was listed and has not come yet holds its addresses.
        for (key, known) in ahead {
            if !known.present.is_empty() {
                merged.push(known.clone());
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
        ahead.insert(written.clone());
        let old = service("a", "7", None);
        assert_eq!(ahead.merge(vec![old]), [written]);
        let later = service("a", "10", None);
        assert_eq!(ahead.merge(vec![later.clone()]), [later]);
        assert!(ahead.is_empty());
    }

    #[test]
    fn what_was_listed_holds_its_address_before_the_watch_brings_it() {
        let mut ahead = Ahead::default();
        ahead.insert(service("a", "9", Some("192.0.2.1")));
        ahead.insert(service("b", "9", None));
        assert_eq!(ahead.merge(Vec::new()).len(), 1);
        ahead.remove(&Key::new("", "a"));
        assert!(ahead.merge(Vec::new()).is_empty());
    }
}

//! The last changes of the configuration, for people.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use propylon_model::{Delta, Endpoints, Resources};

/// One applied delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// When, Unix milliseconds.
    pub(crate) unix_ms: u64,
    /// The routes that are served since.
    pub(crate) generation: u64,
    /// What changed, at most [`MAX_ITEMS`].
    pub(crate) items: Vec<Item>,
    /// How much more changed.
    pub(crate) more: usize,
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) verb: Verb,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// What about it; empty where there is nothing to add.
    pub(crate) detail: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Added,
    Changed,
    Removed,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

impl Change {
    /// Says what `delta` changes in `before`; none where it changes nothing.
    ///
    /// # Cost
    /// Linear in the delta; texts are made for at most [`MAX_ITEMS`] of it.
    pub(crate) fn of(before: &Resources, delta: &Delta) -> Option<Self> {
        let mut list = List::default();
        list.add("routes", &before.groups, &delta.groups, |old, new| {
            let group = new.or(old);
            let rules = |count: usize| format!("{count} {}", if count == 1 { "path" } else { "paths" });
            group.map_or_else(String::new, |group| {
                let host = group.host.to_string();
                let host = if host.is_empty() { "any host".to_owned() } else { host };
                format!("{host}: {}", rules(group.rules.len()))
            })
        });
        list.add("endpoints", &before.endpoints, &delta.endpoints, |old, new| {
            endpoints_detail(old, new)
        });
        list.add("certificate", &before.certificates, &delta.certificates, |_, _| {
            String::new()
        });
        list.add("Service port", &before.pools, &delta.pools, |_, _| String::new());
        list.add("layer 4 port", &before.l4, &delta.l4, |_, _| String::new());
        list.add("TLS passthrough", &before.passthrough, &delta.passthrough, |_, _| {
            String::new()
        });
        (!list.items.is_empty()).then_some(Self {
            unix_ms: 0,
            generation: 0,
            items: list.items,
            more: list.more,
        })
    }
}

#[derive(Default)]
struct List {
    items: Vec<Item>,
    more: usize,
}

impl List {
    fn add<K: Ord + ToString, T>(
        &mut self,
        kind: &'static str,
        before: &BTreeMap<K, Arc<T>>,
        changes: &BTreeMap<K, Option<Arc<T>>>,
        detail: impl Fn(Option<&T>, Option<&T>) -> String,
    ) {
        for (name, new) in changes {
            if self.items.len() >= MAX_ITEMS {
                self.more += 1;
                continue;
            }
            let old = before.get(name).map(Arc::as_ref);
            let verb = match (old, new) {
                (None, Some(_)) => Verb::Added,
                (Some(_), Some(_)) => Verb::Changed,
                (Some(_), None) => Verb::Removed,
                (None, None) => continue,
            };
            self.items.push(Item {
                verb,
                kind,
                name: name.to_string(),
                detail: detail(old, new.as_deref()),
            });
        }
    }
}

/// The addresses that came and went, or how many there are.
fn endpoints_detail(old: Option<&Endpoints>, new: Option<&Endpoints>) -> String {
    let list = |endpoints: Option<&Endpoints>| -> Vec<_> {
        let endpoints = endpoints.into_iter().flat_map(|endpoints| &endpoints.endpoints);
        endpoints.map(|endpoint| endpoint.address).collect()
    };
    let (old, new) = (list(old), list(new));
    let came = new.iter().filter(|address| old.binary_search(address).is_err());
    let went = old.iter().filter(|address| new.binary_search(address).is_err());
    let (came, went): (Vec<_>, Vec<_>) = (came.collect(), went.collect());
    let mut parts = vec![format!("{} in all", new.len())];
    for (sign, addresses) in [("+", came), ("-", went)] {
        parts.extend(
            addresses
                .iter()
                .take(MAX_ADDRESSES)
                .map(|address| format!("{sign}{address}")),
        );
        if addresses.len() > MAX_ADDRESSES {
            parts.push(format!("{sign}{} more", addresses.len() - MAX_ADDRESSES));
        }
    }
    parts.join(", ")
}

/// The last [`MAX_CHANGES`] changes, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Arc<Change>>);

impl Recent {
    pub(crate) fn push(&mut self, change: Change) {
        self.0.push_front(Arc::new(change));
        self.0.truncate(MAX_CHANGES);
    }

    pub(crate) fn list(&self) -> Vec<Arc<Change>> {
        self.0.iter().map(Arc::clone).collect()
    }
}

/// Changes that are kept.
const MAX_CHANGES: usize = 50;
/// Things that are named of one change.
const MAX_ITEMS: usize = 12;
/// Addresses that are named of one list that changed.
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use propylon_model::{Endpoint, EndpointsName};

    use super::*;

    fn resources(lists: &[(&str, &[&str])]) -> Resources {
        let endpoints = lists.iter().map(|(name, addresses)| {
            let list = addresses.iter().map(|address| Endpoint::new(address.parse().unwrap()));
            (EndpointsName::new(*name), Arc::new(Endpoints::new(list.collect())))
        });
        Resources {
            endpoints: endpoints.collect(),
            ..Resources::default()
        }
    }

    fn change(before: &Resources, after: &Resources) -> Option<Change> {
        Change::of(before, &Delta::between(before, after))
    }

    #[test]
    fn a_change_names_what_came_and_went() {
        let before = resources(&[("a/x:80", &["10.0.0.1:80", "10.0.0.2:80"]), ("a/z:80", &[])]);
        let after = resources(&[
            ("a/x:80", &["10.0.0.2:80", "10.0.0.3:80"]),
            ("a/y:80", &["10.0.0.9:80"]),
        ]);
        let texts: Vec<String> = change(&before, &after)
            .unwrap()
            .items
            .iter()
            .map(|item| format!("{} {} {}: {}", item.verb.as_str(), item.kind, item.name, item.detail))
            .collect();
        assert_eq!(
            texts,
            [
                "changed endpoints a/x:80: 2 in all, +10.0.0.3:80, -10.0.0.1:80",
                "added endpoints a/y:80: 1 in all, +10.0.0.9:80",
                "removed endpoints a/z:80: 0 in all",
            ]
        );
        assert_eq!(change(&after, &after), None);
    }

    #[test]
    fn a_large_change_and_many_changes_are_cut_off_and_counted() {
        let names: Vec<String> = (0..40).map(|number| format!("a/{number:02}:80")).collect();
        let addresses: Vec<String> = (1..10).map(|number| format!("10.0.0.{number}:80")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let lists: Vec<_> = names.iter().map(|name| (name.as_str(), addresses.as_slice())).collect();
        let change = change(&Resources::default(), &resources(&lists)).unwrap();
        assert_eq!((change.items.len(), change.more), (MAX_ITEMS, 28));
        assert!(
            change.items[0].detail.ends_with("+10.0.0.4:80, +5 more"),
            "{:?}",
            change.items[0]
        );
        let mut recent = Recent::default();
        for generation in 0..60 {
            let generation = Change {
                generation,
                ..change.clone()
            };
            recent.push(generation);
        }
        let kept: Vec<u64> = recent.list().iter().map(|change| change.generation).collect();
        assert_eq!(
            (kept.len(), kept.first(), kept.last()),
            (MAX_CHANGES, Some(&59), Some(&10))
        );
    }
}

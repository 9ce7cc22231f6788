//! The immutable table that requests are looked up in.

use std::{hash::BuildHasher, sync::Arc};

use propylon_model::{HostName, HostPattern, PathMatch, path::RequestPath};

use crate::{host_map::HostMap, host_table::HostTable, route::Route};

/// All routes of a moment; cheap to clone, never changes. [`crate::Compiler`] makes it.
pub struct RouteTable<T> {
    root: Arc<Root<T>>,
}

/// What the table says about a request.
#[derive(Debug)]
pub enum Found<'a, T> {
    /// Backends may read the path as one of another rule (400).
    Ambiguous,
    /// No rule names the host, and there is none without a host (404).
    NoHost,
    /// The host has rules, but none for the path and no default backend (404).
    NoPath,
    /// The route.
    Route(&'a Arc<Route<T>>),
}

impl<T> RouteTable<T> {
    /// Finds the route of a request. `host` is canonical: lower-case, no port, no trailing dot; empty for none.
    ///
    /// The host is matched exactly, else as a one-label wildcard, else the rules without a host apply; only the rules of
    /// the first of these that exist are looked at. An exact path wins over the longest prefix, that over the default
    /// backend.
    pub fn find(&self, host: &str, path: &RequestPath<'_>) -> Found<'_, T> {
        let Some(table) = self.host_table(host) else {
            return Found::NoHost;
        };
        let route = table.find(path.normal());
        if path.has_encoded_slash() {
            let selected = route.map(Arc::as_ptr);
            if path
                .readings()
                .iter()
                .any(|reading| table.find(reading).map(Arc::as_ptr) != selected)
            {
                return Found::Ambiguous;
            }
        }
        route.map_or(Found::NoPath, Found::Route)
    }

    /// Every route, by host (exact ones, wildcards, none), then in match order.
    ///
    /// # Cost
    /// Sorts the hosts first.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route<T>>> {
        let root = &self.root;
        let tables = root
            .exact
            .sorted()
            .into_iter()
            .chain(root.wildcards.sorted())
            .chain(&root.any);
        tables.flat_map(|table| table.routes())
    }

    /// The host patterns that have rules.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostPattern> {
        let root = &self.root;
        let named = |table: &Arc<HostTable<T>>| HostName::parse(std::str::from_utf8(table.host()).ok()?).ok();
        let exact = root.exact.sorted().into_iter().filter_map(named);
        let wildcards = root.wildcards.sorted().into_iter().filter_map(named);
        exact
            .map(HostPattern::Exact)
            .chain(wildcards.map(HostPattern::Wildcard))
            .chain(root.any.iter().map(|_| HostPattern::Any))
    }

    /// What the rules match that are looked at for a host; a default backend matches everything and is left out.
    pub(crate) fn paths_of(&self, host: &str) -> impl Iterator<Item = &PathMatch> {
        let routes = self.host_table(host).into_iter().flat_map(|table| table.routes());
        routes.filter_map(|route| route.path.as_ref())
    }

    /// Puts the table of a host in, or removes it; copies what other clones of this table hold.
    pub(crate) fn set(&mut self, host: &HostPattern, table: Option<Arc<HostTable<T>>>) {
        let root = Arc::make_mut(&mut self.root);
        match host {
            HostPattern::Any => root.any = table,
            HostPattern::Exact(name) => root
                .exact
                .set(root.hasher.hash_one(name.as_str()), name.as_str(), table),
            HostPattern::Wildcard(suffix) => {
                root.wildcards
                    .set(root.hasher.hash_one(suffix.as_str()), suffix.as_str(), table);
            }
        }
    }

    fn host_table(&self, host: &str) -> Option<&Arc<HostTable<T>>> {
        let root = &self.root;
        let exact = root.exact.get(root.hasher.hash_one(host), host);
        let wildcard = || match host.split_once('.') {
            Some((label, suffix)) if !label.is_empty() => root.wildcards.get(root.hasher.hash_one(suffix), suffix),
            _ => None,
        };
        exact.or_else(wildcard).or(root.any.as_ref())
    }
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
        }
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self {
            root: Arc::new(Root::default()),
        }
    }
}

struct Root<T> {
    /// The same in every version, since shards are sorted by the hash.
    hasher: foldhash::fast::RandomState,
    exact: HostMap<T>,
    /// By suffix.
    wildcards: HostMap<T>,
    any: Option<Arc<HostTable<T>>>,
}

impl<T> Clone for Root<T> {
    fn clone(&self) -> Self {
        Self {
            hasher: self.hasher.clone(),
            exact: self.exact.clone(),
            wildcards: self.wildcards.clone(),
            any: self.any.clone(),
        }
    }
}

impl<T> Default for Root<T> {
    fn default() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            exact: HostMap::default(),
            wildcards: HostMap::default(),
            any: None,
        }
    }
}

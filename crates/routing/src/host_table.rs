//! The routes of one host.

use std::sync::Arc;

use propylon_model::{Action, PathMatch, RouteGroup, RoutePolicy};

use crate::{
    merge::merge,
    paths::{Entry, ExactPaths, PrefixPaths},
    route::Route,
};

/// What the rules of one host pattern make of a path.
pub(crate) struct HostTable<T> {
    exact: ExactPaths<T>,
    prefixes: PrefixPaths<T>,
    default_backend: Option<Arc<Route<T>>>,
}

impl<T> HostTable<T> {
    /// Compiles the groups of one host.
    pub(crate) fn new<'a>(
        groups: impl IntoIterator<Item = &'a RouteGroup>,
        make: &mut dyn FnMut(&RouteGroup, &Action) -> T,
    ) -> Self {
        let merged = merge(groups);
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for winner in merged.rules {
            let rule = winner.rule;
            let route = Arc::new(route(
                winner.group,
                Some(&rule.path),
                (&rule.action, &rule.policy),
                make,
            ));
            match &rule.path {
                PathMatch::Exact(path) => exact.push(Entry {
                    path: path.to_shared(),
                    route,
                }),
                PathMatch::Prefix(path) => prefixes.push(Entry {
                    path: path.to_shared_prefix(),
                    route,
                }),
            }
        }
        let default_backend = merged.default_backend.and_then(|group| {
            let (action, policy) = group.default_backend.as_ref()?;
            Some(Arc::new(route(group, None, (action, policy), make)))
        });
        Self {
            exact: ExactPaths::new(exact),
            prefixes: PrefixPaths::new(prefixes),
            default_backend,
        }
    }

    /// The route of a path in normal form: exact, else the longest prefix, else the default backend.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route<T>>> {
        self.exact
            .find(path)
            .or_else(|| self.prefixes.find(path))
            .or(self.default_backend.as_ref())
    }

    /// The routes in match order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route<T>>> {
        let entries = self.exact.entries().iter().chain(self.prefixes.entries());
        entries.map(|entry| &entry.route).chain(&self.default_backend)
    }
}

fn route<T>(
    group: &RouteGroup,
    path: Option<&PathMatch>,
    (action, policy): (&Action, &RoutePolicy),
    make: &mut dyn FnMut(&RouteGroup, &Action) -> T,
) -> Route<T> {
    Route {
        source: group.source.clone(),
        host: group.host.clone(),
        path: path.cloned(),
        action: action.clone(),
        policy: policy.clone(),
        redirect_https: group.redirect_https,
        target: make(group, action),
    }
}

//! The routes of one host.

use std::sync::Arc;

use propylon_model::{Action, HostPattern, PathMatch, RouteGroup, RoutePolicy, Rule};

use crate::{
    index::Index,
    merge::merge,
    route::{Claim, Route},
};

/// What the rules of one host pattern make of a path.
///
/// Laid out for a lookup that finds nothing in the caches: the texts that it compares stand side by side.
pub(crate) struct HostTable<T> {
    /// The host (a wildcard's suffix), then the paths of the rules, prefixes without their trailing slash.
    text: Box<[u8]>,
    /// In match order: exact ones, then prefixes, the longest first.
    rules: Box<[CompiledRule<T>]>,
    host_length: usize,
    exact_count: usize,
    /// Only where there are many rules.
    index: Option<Box<Index>>,
    default_backend: Option<Arc<Route<T>>>,
}

impl<T> HostTable<T> {
    /// Compiles the groups of one host.
    pub(crate) fn new<'a>(
        host: &HostPattern,
        groups: impl IntoIterator<Item = &'a RouteGroup>,
        make: &mut dyn FnMut(&RouteGroup, Claim<'_>) -> T,
    ) -> Self {
        let host = match host {
            HostPattern::Any => "",
            HostPattern::Exact(name) | HostPattern::Wildcard(name) => name.as_str(),
        };
        let merged = merge(groups);
        let paths: Vec<&str> = merged.rules.iter().map(|winner| text(&winner.rule.path)).collect();
        let exact_count = merged
            .rules
            .iter()
            .take_while(|winner| is_exact(&winner.rule.path))
            .count();
        let mut end = host.len();
        let rules = merged.rules.iter().zip(&paths).map(|(winner, path)| {
            let rule = winner.rule;
            end += path.len();
            let route = Arc::new(route(winner.group, Some(rule), (&rule.action, &rule.policy), make));
            CompiledRule { end, route }
        });
        let rules: Box<[_]> = rules.collect();
        let default_backend = merged.default_backend.and_then(|group| {
            let (action, policy) = group.default_backend.as_ref()?;
            Some(Arc::new(route(group, None, (action, policy), make)))
        });
        // An index that cannot be built is no reason to lose a host: the scan gives the same answers.
        let index = Index::is_worthwhile(exact_count, paths.len() - exact_count)
            .then(|| Index::new(&paths, exact_count).ok().map(Box::new))
            .flatten();
        let text = [&[host], paths.as_slice()].concat().concat().into_bytes().into();
        Self {
            text,
            rules,
            host_length: host.len(),
            exact_count,
            index,
            default_backend,
        }
    }

    /// The host, or the suffix of a wildcard; empty for none.
    pub(crate) fn host(&self) -> &[u8] {
        self.text.get(..self.host_length).unwrap_or_default()
    }

    /// The route of a path in normal form: exact, else the longest prefix, else the default backend.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route<T>>> {
        let rule = match &self.index {
            Some(index) => index.find(path).and_then(|position| self.rules.get(position)),
            None => self.scan(path.as_bytes()),
        };
        rule.map(|rule| &rule.route).or(self.default_backend.as_ref())
    }

    /// The routes in match order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route<T>>> {
        self.rules.iter().map(|rule| &rule.route).chain(&self.default_backend)
    }

    fn scan(&self, path: &[u8]) -> Option<&CompiledRule<T>> {
        let mut start = self.host_length;
        self.rules.iter().enumerate().find_map(|(position, rule)| {
            let length = rule.end - start;
            let range = start..rule.end;
            start = rule.end;
            let ends_well = match path.get(length) {
                None => length == path.len(),
                Some(next) => *next == b'/' && position >= self.exact_count,
            };
            (ends_well && path.get(..length) == self.text.get(range)).then_some(rule)
        })
    }
}

struct CompiledRule<T> {
    /// Where its path ends in the text; it starts where the one before ends.
    end: usize,
    route: Arc<Route<T>>,
}

fn is_exact(path: &PathMatch) -> bool {
    matches!(path, PathMatch::Exact(_))
}

fn text(path: &PathMatch) -> &str {
    match path {
        PathMatch::Exact(path) => path.as_str(),
        PathMatch::Prefix(path) => path.without_trailing_slash(),
    }
}

fn route<T>(
    group: &RouteGroup,
    rule: Option<&Rule>,
    (action, policy): (&Action, &RoutePolicy),
    make: &mut dyn FnMut(&RouteGroup, Claim<'_>) -> T,
) -> Route<T> {
    Route {
        source: group.source.clone(),
        host: group.host.clone(),
        path: rule.map(|rule| rule.path.clone()),
        position: rule.map(|rule| rule.position),
        action: action.clone(),
        policy: policy.clone(),
        redirect_https: group.redirect_https,
        target: make(
            group,
            Claim {
                path: rule.map(|rule| &rule.path),
                action,
            },
        ),
    }
}

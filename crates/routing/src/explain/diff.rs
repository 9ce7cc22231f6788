//! What two configurations do differently, for every request there can be.

use std::{collections::BTreeMap, sync::Arc};

use propylon_model::{Action, ObjectRef, Pool, Refusal, Resources, RouteGroup, path::RequestPath};

use super::classes::{Class, Classes};
use crate::{
    compiler::Compiler,
    route::Route,
    table::{Found, RouteTable},
};

/// The pool that a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The pool; none where requests are refused.
    pub pool: Option<Arc<Pool>>,
    /// Whether the pool has an endpoint, or a name that gives some.
    pub has_endpoints: bool,
}

/// A class of requests that the two configurations treat differently.
#[derive(Clone, Debug)]
pub struct Change {
    /// The requests.
    pub class: Class,
    /// What the old configuration does with them; none: 404.
    pub old: Option<Arc<Route<Served>>>,
    /// What the new one does.
    pub new: Option<Arc<Route<Served>>>,
    /// In what they differ, never nothing, in order.
    pub differences: Vec<Difference>,
}

/// In what two routes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Difference {
    /// No rule served the class, and now one does.
    Appears,
    /// Another Service or port serves, or a refusal comes or goes.
    Backend,
    /// The Service has endpoints where it had none, or none where it had some.
    Endpoints,
    /// Timeouts, retries, the protocol towards the backend, its TLS or its balancing.
    Policy,
    /// The redirect to HTTPS comes or goes.
    Redirect,
    /// Another rule serves. Where this is the only difference, requests are served as before, but those with an encoded
    /// slash may become ambiguous (400), or cease to be.
    Rule,
    /// A rule served the class, and now none does.
    Vanishes,
}

impl Difference {
    /// The word of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appears => "appears",
            Self::Backend => "backend",
            Self::Endpoints => "endpoints",
            Self::Policy => "policy",
            Self::Redirect => "redirect",
            Self::Rule => "rule",
            Self::Vanishes => "vanishes",
        }
    }
}

/// The classes of requests that two configurations treat differently, by host, then path.
///
/// Every request whose backend differs is in one of them; one with an encoded slash is in the classes of all its
/// [readings](RequestPath::readings). Certificates and what is forwarded unread are not compared.
///
/// # Cost
/// n log n in the rules of both.
pub fn diff(old: &Resources, new: &Resources) -> Vec<Change> {
    let (old, new) = (table(old), table(new));
    let changes = Classes::of(&old, &new);
    let changes = changes.examples().filter_map(|(class, host, path)| {
        let (old, new) = (find(&old, &host, &path), find(&new, &host, &path));
        let differences = differences(old.as_deref(), new.as_deref());
        (!differences.is_empty()).then_some(Change {
            class,
            old,
            new,
            differences,
        })
    });
    changes.collect()
}

fn table(resources: &Resources) -> RouteTable<Served> {
    let groups: BTreeMap<_, _> = resources
        .groups
        .iter()
        .map(|(name, group)| (name.clone(), Some(Arc::clone(group))))
        .collect();
    Compiler::new().apply(&groups, &mut |_: &RouteGroup, claim| served(resources, claim.action))
}

fn served(resources: &Resources, action: &Action) -> Served {
    let pool = match action {
        Action::Forward(name) => resources.pools.get(name),
        Action::Refuse(_) => None,
    };
    let endpoints = pool.and_then(|pool| resources.endpoints.get(&pool.endpoints));
    Served {
        pool: pool.map(Arc::clone),
        has_endpoints: endpoints.is_some_and(|list| !list.endpoints.is_empty() || list.external.is_some()),
    }
}

fn find(table: &RouteTable<Served>, host: &str, path: &str) -> Option<Arc<Route<Served>>> {
    match table.find(host, &RequestPath::parse(path).ok()?) {
        Found::Route(route) => Some(Arc::clone(route)),
        // An example holds no encoded slash, as no rule does.
        Found::Ambiguous | Found::NoHost | Found::NoPath => None,
    }
}

fn differences(old: Option<&Route<Served>>, new: Option<&Route<Served>>) -> Vec<Difference> {
    let (old, new) = match (old, new) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![Difference::Appears],
        (Some(_), None) => return vec![Difference::Vanishes],
        (Some(old), Some(new)) => (old, new),
    };
    let same_backend = backend(old) == backend(new);
    let found = [
        (Difference::Backend, !same_backend),
        (
            Difference::Endpoints,
            same_backend && old.target.has_endpoints != new.target.has_endpoints,
        ),
        (
            Difference::Policy,
            old.policy != new.policy || has_other_settings(old, new),
        ),
        (Difference::Redirect, old.redirect_https != new.redirect_https),
        (Difference::Rule, (&old.source, &old.path) != (&new.source, &new.path)),
    ];
    let found = found.into_iter().filter(|(_, differs)| *differs);
    found.map(|(difference, _)| difference).collect()
}

/// Where requests go, as people name it.
#[derive(PartialEq, Eq)]
enum Backend<'a> {
    Pool(&'a str),
    Refused(&'a Refusal),
    Service(&'a ObjectRef, u16),
}

fn backend(route: &Route<Served>) -> Backend<'_> {
    match (&route.action, &route.target.pool) {
        (Action::Refuse(refusal), _) => Backend::Refused(refusal),
        (Action::Forward(_), Some(pool)) => Backend::Service(&pool.service, pool.port),
        (Action::Forward(name), None) => Backend::Pool(name.as_str()),
    }
}

/// Whether the same Service port is spoken to in another way.
fn has_other_settings(old: &Route<Served>, new: &Route<Served>) -> bool {
    match (&old.target.pool, &new.target.pool) {
        (Some(old), Some(new)) => {
            (&old.service, old.port) == (&new.service, new.port)
                && (old.protocol, &old.tls, &old.policy) != (new.protocol, &new.tls, &new.policy)
        }
        _ => false,
    }
}

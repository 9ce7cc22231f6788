//! How each watch fares, for readiness, metrics, the log and `propylon check`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

/// One watch: a resource, everywhere or in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// The kind, such as `Ingress`.
    pub kind: &'static str,
    /// The resource as rules of roles name it, such as `ingresses`.
    pub resource: &'static str,
    /// The API group, empty for the core group.
    pub group: &'static str,
    /// The namespace; none: the whole cluster.
    pub namespace: Option<String>,
    /// The name of the one object that is watched.
    pub name: Option<String>,
}

/// `Ingress`, `Secret in NAMESPACE`, or `Secret NAMESPACE/NAME`.
impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(formatter, "{} {namespace}/{name}", self.kind),
            (Some(namespace), None) => write!(formatter, "{} in {namespace}", self.kind),
            (None, _) => formatter.write_str(self.kind),
        }
    }
}

impl Scope {
    /// The resource with its group, as `kubectl auth can-i` takes it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            return self.resource.to_owned();
        }
        format!("{}.{}", self.resource, self.group)
    }

    /// What to do where the right to list and watch it is missing.
    pub fn hint(&self) -> String {
        let resource = self.qualified();
        match &self.namespace {
            Some(namespace) => format!(
                "the Role of the controller in namespace {namespace} needs the verbs get, list and watch on {resource}; \
                 `helm upgrade` restores it, `kubectl auth can-i list {resource} -n {namespace} --as \
                 system:serviceaccount:RELEASE_NAMESPACE:propylon-controller` tells whether it has them"
            ),
            None => format!(
                "the ClusterRole of the controller needs the verbs get, list and watch on {resource}; `helm upgrade` restores \
                 it, `kubectl auth can-i list {resource} --as system:serviceaccount:RELEASE_NAMESPACE:propylon-controller` \
                 tells whether it has them"
            ),
        }
    }
}

/// How a watch fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum State {
    /// The first list has not ended.
    Listing,
    /// The first list came back empty, or a later one with less than half: it waits for a second one.
    Doubting {
        /// How many objects stay although the list missed them.
        held: usize,
    },
    /// It is followed.
    Following,
    /// The right is missing.
    Denied {
        /// What the API server says.
        message: String,
    },
    /// The API server does not know the resource.
    Absent,
    /// The API server cannot be reached, or fails.
    Failing {
        /// What goes wrong.
        message: String,
    },
}

/// What waits for a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Need {
    /// Nothing is published before it was listed.
    Required,
    /// Nothing is published before it was listed, or found to be forbidden or unknown to the API server.
    Awaited,
    /// Nothing waits for it.
    #[default]
    Optional,
}

/// What is known of one watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which.
    #[serde(flatten)]
    pub scope: Scope,
    /// How it fares.
    #[serde(flatten)]
    pub state: State,
    /// Whether a list was believed since the start.
    pub is_listed: bool,
    /// What waits for it.
    pub need: Need,
    /// Objects that are believed to exist.
    pub objects: usize,
    /// Those of them that do not decode.
    pub malformed: usize,
    /// Lists that were asked for since the start.
    pub lists: u64,
}

impl Report {
    /// Why readiness waits for it; none: it does not.
    pub fn fault(&self) -> Option<String> {
        self.blocks().then(|| self.state.to_string())
    }

    /// Whether nothing may be published because of it.
    fn blocks(&self) -> bool {
        let is_hopeless = matches!(self.state, State::Denied { .. } | State::Absent);
        match self.need {
            Need::Required => !self.is_listed,
            Need::Awaited => !self.is_listed && !is_hopeless,
            Need::Optional => false,
        }
    }
}

/// All watches of the process.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    watches: Mutex<BTreeMap<Scope, Report>>,
    changed: watch::Sender<u64>,
}

impl Health {
    /// No watch yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every watch as it fares now.
    pub fn reports(&self) -> Vec<Report> {
        self.lock().values().cloned().collect()
    }

    /// Changes whenever a watch fares otherwise.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Adds a watch, or changes what is known of it.
    pub fn update(&self, scope: &Scope, update: impl FnOnce(&mut Report)) {
        let mut watches = self.lock();
        let report = watches.entry(scope.clone()).or_insert_with(|| Report {
            scope: scope.clone(),
            state: State::Listing,
            is_listed: false,
            need: Need::Optional,
            objects: 0,
            malformed: 0,
            lists: 0,
        });
        let before = (report.state.clone(), report.is_listed);
        update(report);
        let is_other = before != (report.state.clone(), report.is_listed);
        drop(watches);
        if is_other {
            self.0.changed.send_modify(|count| *count += 1);
        }
    }

    /// Forgets a watch that has ended.
    pub fn forget(&self, scope: &Scope) {
        self.lock().remove(scope);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Why nothing may be published yet; none: everything that is needed was listed.
    pub fn missing(&self) -> Option<String> {
        let watches = self.lock();
        let missing: Vec<String> = watches
            .values()
            .filter(|report| report.blocks())
            .map(|report| format!("{} ({})", report.scope, report.state))
            .collect();
        if watches.is_empty() {
            return Some("no watch has begun".to_owned());
        }
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Report>> {
        self.0.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listing => formatter.write_str("being listed"),
            Self::Doubting { held: 0 } => formatter.write_str("the list is empty and waits for a second one"),
            Self::Doubting { held } => {
                write!(formatter, "the list misses {held} objects and waits for a second one")
            }
            Self::Following => formatter.write_str("followed"),
            Self::Denied { message } => write!(formatter, "forbidden: {message}"),
            Self::Absent => formatter.write_str("the API server does not know it"),
            Self::Failing { message } => write!(formatter, "failing: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(kind: &'static str, resource: &'static str) -> Scope {
        Scope {
            kind,
            resource,
            group: "networking.k8s.io",
            namespace: None,
            name: None,
        }
    }

    #[test]
    fn what_is_needed_and_not_listed_is_named_with_its_reason() {
        let health = Health::new();
        assert!(health.missing().is_some());
        let (ingress, class) = (scope("Ingress", "ingresses"), scope("IngressClass", "ingressclasses"));
        health.update(&ingress, |report| report.need = Need::Required);
        health.update(&class, |report| {
            report.need = Need::Awaited;
            report.state = State::Denied {
                message: "no".to_owned(),
            };
        });
        assert_eq!(health.missing().as_deref(), Some("Ingress (being listed)"));
        health.update(&ingress, |report| report.is_listed = true);
        assert_eq!(health.missing(), None);
        assert!(class.hint().contains("ClusterRole") && class.hint().contains("ingressclasses.networking.k8s.io"));
    }
}

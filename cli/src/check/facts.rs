//! What is in the cluster, as plain data.

use std::collections::BTreeMap;

use propylon_controller::replica::Told;

/// Everything that a check looks at. What could not be read is in `unread`.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The namespace that was looked in.
    pub(super) namespace: String,
    /// Version of Kubernetes.
    pub(super) kubernetes: String,
    /// Seconds that this machine's clock is ahead of the API server's.
    pub(super) ahead_s: Option<i64>,
    /// The API server's time, or this machine's, Unix seconds.
    pub(super) now_unix_s: i64,
    /// The controller's and the proxies' workloads.
    pub(super) workloads: Vec<Workload>,
    /// Their pods.
    pub(super) pods: Vec<PodFact>,
    /// The Lease of the leader.
    pub(super) leader: Option<Leader>,
    /// What each replica of the controller tells of its proxies.
    pub(super) replicas: Vec<Replica>,
    /// The classes of the cluster.
    pub(super) classes: Vec<Class>,
    /// How many pools there are; none where the custom resource is not defined.
    pub(super) pools: Option<usize>,
    /// Rights that the controller needs and does not have.
    pub(super) denied: Vec<String>,
    /// End of validity of the authority that proxies trust.
    pub(super) authority_end_unix_s: Option<i64>,
    /// Ends of validity of certificates in Secrets, by `NAMESPACE/NAME`.
    pub(super) certificates: Vec<(String, i64)>,
    /// What could not be read, and why.
    pub(super) unread: Vec<(&'static str, String)>,
}

/// A Deployment or `DaemonSet` of the release.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// `controller` or `proxy`.
    pub(super) component: String,
    /// `KIND NAME`.
    pub(super) title: String,
    /// Pods that there should be.
    pub(super) desired: i32,
    /// Pods that are ready.
    pub(super) ready: i32,
    /// Pods of the newest template.
    pub(super) updated: i32,
    /// `app.kubernetes.io/version`.
    pub(super) version: String,
}

/// A pod of the release.
#[derive(Clone, Debug)]
pub(super) struct PodFact {
    /// Its name.
    pub(super) name: String,
    /// `controller` or `proxy`.
    pub(super) component: String,
    /// Its node; empty while it has none.
    pub(super) node: String,
    /// Whether it is ready.
    pub(super) is_ready: bool,
    /// Whether it is being deleted.
    pub(super) is_ending: bool,
    /// Why a container of it waits, or a condition of it does not hold.
    pub(super) trouble: Option<String>,
    /// How often its containers have started again.
    pub(super) restarts: i32,
}

/// The Lease `propylon-controller`.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Who leads; empty when the Lease was given back.
    pub(super) holder: String,
    /// When it was renewed last, Unix seconds by the holder's clock.
    pub(super) renewed_unix_s: i64,
    /// How long it counts.
    pub(super) duration_s: i64,
}

/// A Lease `propylon-replica-POD`.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// The pod.
    pub(super) pod: String,
    /// Its proxies by `NAMESPACE/POD`; an error where the annotation cannot be read.
    pub(super) told: Result<BTreeMap<String, Told>, String>,
}

/// An `IngressClass`.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Its name.
    pub(super) name: String,
    /// Its controller.
    pub(super) controller: String,
    /// Whether Ingresses without a class get it.
    pub(super) is_default: bool,
}

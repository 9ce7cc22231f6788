//! Which nodes run a ready proxy on the host's network, without flapping.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use propylon_wire::Generation;

use crate::{
    context::Context,
    replica::{ACKNOWLEDGED, LEASE_PREFIX, Told},
};

/// How long a node counts as ready after it last was, and how long after the start of the process a proxy need not have said
/// anything yet: the time in which a proxy restarts, or finds another controller.
pub const HOLD: Duration = Duration::from_secs(30);

/// A pod of our own proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPod {
    /// The node that it runs on.
    pub node: String,
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Whether it is on the host's network.
    pub is_on_host: bool,
    /// Whether its condition `Ready` is true, and it is not being deleted.
    pub is_ready: bool,
}

impl ProxyPod {
    /// Reads a pod; none where it runs on no node yet.
    pub fn read(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let metadata = &pod.metadata;
        Some(Self {
            node: spec.node_name.clone().filter(|node| !node.is_empty())?,
            name: format!(
                "{}/{}",
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default()
            ),
            is_on_host: spec.host_network == Some(true),
            is_ready: is_ready && metadata.deletion_timestamp.is_none(),
        })
    }
}

/// Remembers when each node was last ready. Times are those since any fixed moment.
#[derive(Clone, Debug)]
pub struct Readiness {
    start: Duration,
    last: BTreeMap<String, Duration>,
}

impl Readiness {
    /// Nothing is known yet.
    pub const fn new(now: Duration) -> Self {
        Self {
            start: now,
            last: BTreeMap::new(),
        }
    }

    /// Takes the pods, and the names (`NAMESPACE/NAME`) of those that have acknowledged a state; the nodes that are ready.
    ///
    /// A node is ready while a pod on it is and has acknowledged something, and for [`HOLD`] after that.
    pub fn look(&mut self, pods: &[ProxyPod], acknowledged: &BTreeSet<String>, now: Duration) -> BTreeSet<String> {
        let is_starting = now.saturating_sub(self.start) < HOLD;
        for pod in pods.iter().filter(|pod| pod.is_on_host && pod.is_ready) {
            if is_starting || acknowledged.contains(&pod.name) {
                self.last.insert(pod.node.clone(), now);
            }
        }
        self.last.retain(|_, last| now.saturating_sub(*last) < HOLD);
        self.last.keys().cloned().collect()
    }
}

/// The proxies (`NAMESPACE/NAME` of their pods) that have acknowledged a state, to this replica or to another one.
pub(crate) fn acknowledged(context: &Context) -> BTreeSet<String> {
    let here = context.publisher.proxies();
    let here = here.iter().filter(|proxy| proxy.acknowledged > Generation(0));
    let here = here.map(|proxy| format!("{}/{}", proxy.identity.namespace, proxy.identity.pod));
    let leases = context.stores.leases.state();
    let told = leases.iter().filter(|lease| {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        name.starts_with(LEASE_PREFIX)
    });
    let told = told.filter_map(|lease| {
        let text = lease.metadata.annotations.as_ref()?.get(ACKNOWLEDGED)?;
        serde_json::from_str::<BTreeMap<String, Told>>(text).ok()
    });
    here.chain(told.flat_map(BTreeMap::into_keys)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pod(node: &str, is_ready: bool) -> ProxyPod {
        ProxyPod {
            node: node.to_owned(),
            name: format!("p/{node}"),
            is_on_host: true,
            is_ready,
        }
    }

    #[test]
    fn a_node_without_a_ready_proxy_leaves_after_a_while_and_not_at_once() {
        let acknowledged: BTreeSet<String> = ["p/a", "p/b"].map(str::to_owned).into();
        let mut readiness = Readiness::new(at(0));
        let mut look = |ready: bool, seconds| {
            readiness
                .look(&[pod("a", true), pod("b", ready)], &acknowledged, at(seconds))
                .len()
        };
        assert_eq!(look(true, 100), 2);
        assert_eq!(look(false, 110), 2);
        assert_eq!(look(false, 131), 1);
        assert_eq!(look(true, 132), 2);
    }

    #[test]
    fn who_leads_anew_believes_the_pods_until_the_proxies_had_time_to_say_something() {
        let nobody = BTreeSet::new();
        let mut readiness = Readiness::new(at(50));
        let pods = [pod("a", true), pod("b", false)];
        assert_eq!(
            readiness.look(&pods, &nobody, at(51)).into_iter().collect::<Vec<_>>(),
            ["a"]
        );
        assert_eq!(readiness.look(&pods, &nobody, at(79)).len(), 1);
        assert_eq!(readiness.look(&pods, &nobody, at(110)).len(), 0);
        let mut in_deployment = pod("a", true);
        in_deployment.is_on_host = false;
        assert!(Readiness::new(at(0)).look(&[in_deployment], &nobody, at(1)).is_empty());
    }
}

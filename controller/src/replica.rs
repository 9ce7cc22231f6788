//! What this replica's proxies have acknowledged, told in its own Lease (`propylon-replica-POD`), and what the other replicas
//! tell: together the generation that is live everywhere.

mod others;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use propylon_kit::{
    clock::{self, Monotonic},
    tasks::StopSignal,
};
use propylon_wire::{Generation, ProxyState, StateVersion};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};

use crate::{
    compile::Timed,
    context::Context,
    leader,
    live::{self, Live},
};
use others::Others;

/// What the name of a replica's Lease begins with.
pub const LEASE_PREFIX: &str = "propylon-replica-";
/// The annotation of a replica's Lease: [`Told`] by `NAMESPACE/POD` of the proxy, as JSON.
pub const ACKNOWLEDGED: &str = "propylon.dev/acknowledged";
/// Field manager of what the controller applies.
const MANAGER: &str = "propylon-controller";
/// Shortest time between two writes.
const WRITE: Duration = Duration::from_secs(1);
/// Longest time between two writes.
const RENEW: Duration = Duration::from_secs(10);
/// How long a replica's word counts without a renewal.
const LASTS: Duration = Duration::from_secs(35);
/// A replica that is silent for so long is gone for good: the leader deletes its Lease.
const SILENCE: Duration = Duration::from_mins(5);
/// How often the Leases of the others are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(5);

/// What a replica tells of one of its proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The node of the proxy; empty where unknown.
    #[serde(default)]
    pub node: String,
    /// The version of the state that it has acknowledged.
    pub version: StateVersion,
    /// Since when, Unix seconds.
    #[serde(default)]
    pub unix: u64,
}

/// Tells and listens until it is told to stop; then the Lease is deleted. `live` follows.
pub async fn run(context: Context, live: watch::Sender<Live>, timed: Timed, mut stop: StopSignal) {
    let mut replica = Replica {
        api: Api::namespaced(context.client.clone(), &context.config.namespace),
        name: format!("{LEASE_PREFIX}{}", context.config.pod_name),
        others: Others::new(LASTS),
        told: BTreeMap::new(),
        written: None,
        has_failed: false,
        live,
        timed,
        context,
    };
    let mut acknowledged = replica.context.publisher.acknowledged();
    loop {
        replica.listen();
        if replica.due() <= clock::now() {
            tokio::select! {
                () = stop.stopped() => break,
                () = replica.write() => {}
            }
            tokio::select! {
                () = stop.stopped() => break,
                () = replica.prune() => {}
            }
        }
        let next = replica.due().min(clock::now() + LOOK);
        tokio::select! {
            () = stop.stopped() => break,
            changed = acknowledged.changed() => if changed.is_err() { break },
            () = sleep_until(next.to_tokio()) => {}
        }
    }
    // The proxies go to other replicas; what is told here counts no longer.
    let deleted = timeout(REQUEST, replica.api.delete(&replica.name, &DeleteParams::default())).await;
    drop(deleted);
}

struct Replica {
    context: Context,
    api: Api<Lease>,
    name: String,
    others: Others,
    /// What is to be told.
    told: BTreeMap<String, Told>,
    /// When the Lease was written last, and what it told.
    written: Option<(Monotonic, BTreeMap<String, Told>)>,
    has_failed: bool,
    live: watch::Sender<Live>,
    timed: Timed,
}

impl Replica {
    /// Looks at what the proxies acknowledged and what the others tell.
    fn listen(&mut self) {
        let proxies = self.context.publisher.proxies();
        self.told = told(&proxies, &self.told, clock::unix_now().as_secs());
        if let Some(slowest) = proxies.iter().map(|proxy| proxy.acknowledged).min() {
            for since in self.timed.take(slowest) {
                self.context.registry.control().record_propagation(since.elapsed());
            }
        } else {
            // Without a proxy nothing is on its way.
            drop(self.timed.take(Generation(u64::MAX)));
        }
        let leases = self.context.stores.leases.state();
        let others = leases.iter().filter(|lease| lease.name_any() != self.name);
        let others = others.filter(|lease| lease.name_any().starts_with(LEASE_PREFIX));
        self.others.look(others.map(AsRef::as_ref), clock::now());
        let publisher = &self.context.publisher;
        let elsewhere = self.others.proxies(|version| publisher.generation_of(version));
        let now = live::of(&proxies, &elsewhere);
        self.live.send_if_modified(|before| {
            let is_other = *before != now;
            *before = now;
            is_other
        });
    }

    /// When to write next.
    fn due(&self) -> Monotonic {
        let Some((at, told)) = &self.written else {
            return clock::now();
        };
        *at + if *told == self.told { RENEW } else { WRITE }
    }

    async fn write(&mut self) {
        let lease = self.lease();
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&lease);
        let result = timeout(REQUEST, self.api.patch(&self.name, &params, &patch)).await;
        let told = self.told.clone();
        let error = match result {
            Ok(Ok(_)) => {
                self.has_failed = false;
                self.written = Some((clock::now(), told));
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_late) => "no answer".to_owned(),
        };
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(
                lease = self.name,
                error,
                "the Lease of this replica cannot be written: the leader does not learn what its proxies have"
            );
        }
        // Again after the longer time.
        self.written = Some((clock::now(), told));
    }

    /// Deletes the Leases of replicas that are gone for good, such as those that were killed.
    async fn prune(&mut self) {
        if !*self.context.is_leader.borrow() {
            return;
        }
        for name in self.others.silent(SILENCE, clock::now()) {
            let deleted = timeout(REQUEST, self.api.delete(&name, &DeleteParams::default())).await;
            if let Ok(Err(error)) = &deleted {
                tracing::debug!(%error, lease = name, "the Lease of a replica that is gone is not deleted");
            }
            self.others.forget(&name);
        }
    }

    fn lease(&self) -> Lease {
        let annotation = serde_json::to_string(&self.told).unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(leader::labels()),
                annotations: Some([(ACKNOWLEDGED.to_owned(), annotation)].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.context.config.pod_name.clone()),
                lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
                renew_time: Some(MicroTime(leader::now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// What there is to tell of proxies; the time of what was told before stays.
fn told(proxies: &[ProxyState], before: &BTreeMap<String, Told>, now_unix_s: u64) -> BTreeMap<String, Told> {
    let told = proxies
        .iter()
        .filter(|proxy| proxy.acknowledged > Generation::default());
    told.map(|proxy| {
        let name = proxy.identity.to_string();
        let same = before.get(&name).filter(|before| before.version == proxy.version);
        let told = Told {
            node: proxy.identity.node.to_string(),
            version: proxy.version,
            unix: same.map_or(now_unix_s, |before| before.unix),
        };
        (name, told)
    })
    .collect()
}

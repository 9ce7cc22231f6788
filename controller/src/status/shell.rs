//! Writes the status of Ingresses, on the leader.

mod requests;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt as _;
use propylon_kit::{
    clock::{self, Monotonic},
    tasks::StopSignal,
};
use propylon_model::{Kind, ObjectRef};
use propylon_translate::{Key, ReportsByObject, is_ours};
use propylon_wire::Generation;
use tokio::time::sleep;

use super::{
    nodes::{ProxyPod, Readiness, acknowledged},
    plan::{Address, Decision, Facts, Present, decide, errors},
    published::published,
};
use crate::{
    addresses::facts::NodeFacts,
    config::{Settings, StatusMode},
    context::Context,
    events::{
        Recorder,
        record::{EventType, Record, Regarding},
        reference,
    },
    seen::{Seen, is_listed},
};
use requests::Outcome;

/// How often is looked at what no compile tells of: pods, proxies, the published Service.
const TICK: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// After a request that failed, all is looked at again.
const RETRY: Duration = Duration::from_secs(2);
/// Ingresses that are written at a time.
const AT_ONCE: usize = 16;
/// What this duty is called among those that say something.
const DUTY: &str = "status";

/// Writes the status of Ingresses while this replica leads.
pub async fn run(context: Context, recorder: Recorder, mut stop: StopSignal) {
    let mut is_leader = context.is_leader.clone();
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            led = is_leader.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        let leading = Leading {
            context: &context,
            recorder: &recorder,
            origin: clock::now(),
            readiness: Readiness::new(Duration::ZERO),
            waiting: HashMap::new(),
            yielded: HashMap::new(),
            not_ours: HashSet::new(),
            seen: None,
            retry: None,
        };
        tokio::select! {
            () = stop.stopped() => return,
            _ = is_leader.wait_for(|leads| !*leads) => {}
            () = leading.run() => {}
        }
    }
}

struct Leading<'c> {
    context: &'c Context,
    recorder: &'c Recorder,
    origin: Monotonic,
    readiness: Readiness,
    /// Ingresses that no proxy has as they are yet.
    waiting: HashMap<Key, Waiting>,
    /// Ingresses that another controller owns, with the version in which it did.
    yielded: HashMap<Key, Option<String>>,
    /// Versions of Ingresses of other classes whose status is not ours though it looks like it.
    not_ours: HashSet<(Key, Option<String>)>,
    seen: Option<Inputs>,
    retry: Option<Monotonic>,
}

/// An Ingress that was changed.
struct Waiting {
    /// `metadata.uid` and `metadata.generation`: what makes it another one.
    version: (Option<String>, Option<i64>),
    /// The change that the compile must have.
    sequence: u64,
    /// The generation that has it, once there is one.
    generation: Option<Generation>,
    is_live: bool,
}

/// What tells whether anything changed that the status depends on.
#[derive(Debug)]
struct Inputs {
    ingresses: Seen<Ingress>,
    classes: Seen<IngressClass>,
    reports: Arc<ReportsByObject>,
    published: Vec<Address>,
    settings: Arc<Settings>,
    progress: Progress,
}

/// How far the compile and the proxies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// The change that the stores have.
    stored: u64,
    /// The change that is compiled, and the generation that has it.
    compiled: (u64, Generation),
    /// The newest generation that some proxy has.
    somewhere: Generation,
}

impl Inputs {
    /// Whether there is nothing to decide anew. The progress counts only while something waits for it.
    fn is_same(&self, other: &Self, is_waiting: bool) -> bool {
        self.ingresses == other.ingresses
            && self.classes == other.classes
            && Arc::ptr_eq(&self.reports, &other.reports)
            && self.published == other.published
            && Arc::ptr_eq(&self.settings, &other.settings)
            && (!is_waiting || self.progress == other.progress)
    }
}

/// One Ingress that is to be written.
pub(super) struct Due {
    key: Key,
    ingress: Arc<Ingress>,
    facts: Facts,
    decision: Decision,
}

impl Leading<'_> {
    /// Never ends.
    async fn run(mut self) {
        let stores = &self.context.stores;
        let listed = tokio::join!(
            is_listed(&stores.ingresses),
            is_listed(&stores.ingress_classes),
            is_listed(&stores.nodes),
            is_listed(&stores.proxy_pods),
        );
        if listed != (true, true, true, true) {
            return;
        }
        let mut compiled = self.context.compiled.clone();
        let mut live = self.context.live.clone();
        let mut settings = self.context.settings.clone();
        loop {
            self.look().await;
            tokio::select! {
                _ = compiled.changed() => {}
                _ = live.changed() => {}
                _ = settings.changed() => {}
                () = sleep(TICK) => {}
            }
            sleep(GATHER).await;
        }
    }

    /// Decides and writes, where anything changed.
    async fn look(&mut self) {
        let now = clock::now();
        let settings = self.context.settings.borrow().clone();
        let stores = &self.context.stores;
        let compiled = self.context.compiled.borrow().clone();
        let seen = Inputs {
            ingresses: Seen::of(&stores.ingresses),
            classes: Seen::of(&stores.ingress_classes),
            reports: Arc::clone(&compiled.reports),
            published: self.published(&settings),
            settings,
            progress: Progress {
                // Read after the stores: what they hold is not newer.
                stored: stores.sequence(),
                compiled: (compiled.sequence, compiled.generation),
                somewhere: self.context.live.borrow().somewhere,
            },
        };
        let is_due = self.retry.is_some_and(|retry| retry <= now);
        let is_waiting = self.waiting.values().any(|waiting| !waiting.is_live);
        let is_same = self
            .seen
            .as_ref()
            .is_some_and(|before| before.is_same(&seen, is_waiting));
        if is_same && !is_due {
            return;
        }
        self.retry = None;
        let due = self.due(&seen);
        let is_written = self.write(due, seen.settings.status_mode).await;
        self.record_yielded();
        // While something waits for a proxy, or failed, nothing else may tell that it is time to look again.
        if !is_written || self.waiting.values().any(|waiting| !waiting.is_live) {
            self.retry = Some(now + RETRY);
        }
        self.seen = Some(seen);
    }

    /// Where clients reach the proxies.
    fn published(&mut self, settings: &Settings) -> Vec<Address> {
        let stores = &self.context.stores;
        let pods: Vec<ProxyPod> = stores
            .proxy_pods
            .state()
            .iter()
            .filter_map(|pod| ProxyPod::read(pod))
            .collect();
        let ready = self
            .readiness
            .look(&pods, &acknowledged(self.context), self.origin.elapsed());
        let nodes = stores.nodes.state();
        let nodes = nodes
            .iter()
            .filter(|node| node.metadata.name.as_ref().is_some_and(|name| ready.contains(name)));
        let nodes: BTreeSet<IpAddr> = nodes.flat_map(|node| NodeFacts::read(node, true).published).collect();
        let service = settings.publish_service.as_ref().map(|key| {
            let object = ObjectRef::new(Kind::Service, Arc::clone(&key.namespace), Arc::clone(&key.name));
            stores.services.get(&reference(&object))
        });
        published(
            &settings.publish_addresses,
            service.as_ref().map(|service| service.as_deref()),
            &nodes,
        )
    }

    /// The Ingresses that are to be written.
    fn due(&mut self, seen: &Inputs) -> Vec<Due> {
        let classes = seen.classes.objects().iter();
        let classes: BTreeMap<Key, Arc<IngressClass>> = classes
            .map(|class| (Key::new("", class.name_any()), Arc::clone(class)))
            .collect();
        let options = seen.settings.options();
        let ingresses = seen.ingresses.objects();
        let keys: HashSet<Key> = ingresses.iter().map(|ingress| key(ingress)).collect();
        self.waiting.retain(|key, _| keys.contains(key));
        self.yielded.retain(|key, _| keys.contains(key));
        self.not_ours.retain(|(key, _)| keys.contains(key));
        let mut due = Vec::new();
        for ingress in ingresses {
            let key = key(ingress);
            let object = ObjectRef::new(Kind::Ingress, Arc::clone(&key.namespace), Arc::clone(&key.name));
            let reports = seen.reports.get(&object).map(|reports| &**reports).unwrap_or_default();
            let has_tls = ingress
                .spec
                .as_ref()
                .is_some_and(|spec| spec.tls.as_ref().is_some_and(|tls| !tls.is_empty()));
            let facts = Facts {
                present: Present::read(ingress),
                is_ours: is_ours(ingress, &classes, &options) && ingress.metadata.deletion_timestamp.is_none(),
                is_live: self.is_live(&key, ingress, seen.progress),
                errors: errors(reports, has_tls),
            };
            let decision = decide(&facts, &seen.published, seen.settings.status_mode);
            let version = &ingress.metadata.resource_version;
            let is_settled = match decision {
                Decision::Leave => true,
                Decision::Write(_) => self.yielded.get(&key).is_some_and(|yielded| yielded == version),
                Decision::Withdraw => self.not_ours.contains(&(key.clone(), version.clone())),
            };
            if !is_settled {
                due.push(Due {
                    key,
                    ingress: Arc::clone(ingress),
                    facts,
                    decision,
                });
            }
        }
        due
    }

    /// Whether some ready proxy has the Ingress as it is.
    fn is_live(&mut self, key: &Key, ingress: &Ingress, progress: Progress) -> bool {
        let version = (ingress.metadata.uid.clone(), ingress.metadata.generation);
        let is_same = self.waiting.get(key).is_some_and(|waiting| waiting.version == version);
        if !is_same {
            let waiting = Waiting {
                version,
                sequence: progress.stored,
                generation: None,
                is_live: false,
            };
            self.waiting.insert(key.clone(), waiting);
        }
        let Some(waiting) = self.waiting.get_mut(key) else {
            return false;
        };
        let (sequence, generation) = progress.compiled;
        if waiting.generation.is_none() && sequence >= waiting.sequence && generation > Generation(0) {
            waiting.generation = Some(generation);
        }
        waiting.is_live |= waiting
            .generation
            .is_some_and(|generation| progress.somewhere >= generation);
        waiting.is_live
    }

    /// Writes several Ingresses at a time; whether all of it could be done.
    async fn write(&mut self, due: Vec<Due>, mode: StatusMode) -> bool {
        let context = self.context;
        let outcomes: Vec<(Due, Outcome)> = stream::iter(due)
            .map(|due| async move {
                let outcome = requests::write(context, &due, mode).await;
                (due, outcome)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut is_written = true;
        for (due, outcome) in outcomes {
            let version = due.ingress.metadata.resource_version.clone();
            match outcome {
                Outcome::Failed => is_written = false,
                Outcome::Gone => {}
                Outcome::NotOurs => {
                    self.not_ours.retain(|(key, _)| *key != due.key);
                    self.not_ours.insert((due.key, version));
                }
                Outcome::Written => {
                    self.yielded.remove(&due.key);
                    self.record_programmed(&due);
                }
                Outcome::Yielded => {
                    self.yielded.insert(due.key, version);
                }
            }
        }
        is_written
    }

    /// Says where a new Ingress is served.
    fn record_programmed(&self, due: &Due) {
        let Decision::Write(addresses) = &due.decision else {
            return;
        };
        if !due.facts.present.addresses.is_empty() || !due.facts.errors.is_empty() {
            return;
        }
        let addresses: Vec<String> = addresses.iter().take(4).map(ToString::to_string).collect();
        let note = format!("served at {}", addresses.join(", "));
        self.recorder.once(record(
            &due.key,
            due.ingress.uid(),
            EventType::Normal,
            ("Programmed", note),
        ));
    }

    /// Says which Ingresses another controller owns.
    fn record_yielded(&self) {
        let records = self.yielded.keys().map(|key| {
            let object = ObjectRef::new(Kind::Ingress, Arc::clone(&key.namespace), Arc::clone(&key.name));
            let uid = self.context.stores.ingresses.get(&reference(&object)).and_then(|ingress| ingress.uid());
            let note = "status.loadBalancer: another controller wrote it, so it stays as it is (status.mode: Yield); the Ingress is \
                        served all the same. Set status.mode: Always once the other controller does not serve it any more";
            record(key, uid, EventType::Warning, ("StatusOwnedByOther", note.to_owned()))
        });
        self.recorder.hold(DUTY, records.collect());
    }
}

fn record(key: &Key, uid: Option<String>, type_: EventType, (reason, note): (&'static str, String)) -> Record {
    Record {
        regarding: Regarding {
            api_version: "networking.k8s.io/v1",
            kind: "Ingress",
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid,
        },
        type_,
        reason: Cow::Borrowed(reason),
        note,
        action: "UpdateStatus",
        settle: Duration::ZERO,
    }
}

fn key(ingress: &Ingress) -> Key {
    Key::new(ingress.namespace().unwrap_or_default(), ingress.name_any())
}

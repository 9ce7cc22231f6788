//! Leader election on the Lease `propylon-controller`; [`state`] decides.

pub mod state;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use propylon_kit::{
    clock::{self, Monotonic},
    tasks::StopSignal,
};
use tokio::{sync::watch, time::timeout};

use crate::config::Config;
use state::{Act, Answer, Candidate, Claim, Now, Record, Timing};

/// The Lease of the leader.
pub const LEASE: &str = "propylon-controller";
/// Longest time for one request: well within a renewal.
const REQUEST: Duration = Duration::from_secs(4);

/// Takes part in the election until it is told to stop, then gives the Lease back. `is_leader` follows.
pub async fn run(client: Client, config: Arc<Config>, is_leader: watch::Sender<bool>, mut stop: StopSignal) {
    if !config.leader_election {
        is_leader.send_replace(true);
        stop.stopped().await;
        return;
    }
    let mut election = Election {
        api: Api::namespaced(client, &config.namespace),
        identity: config.pod_name.clone(),
        candidate: Candidate::new(config.pod_name.clone(), Timing::default()),
        origin: clock::now(),
        acquired: None,
        is_leader,
        has_failed: false,
    };
    // Cancelled between two requests, or during one: what it did is read again.
    tokio::select! {
        () = stop.stopped() => {}
        () = election.take_part() => {}
    }
    election.release().await;
}

struct Election {
    api: Api<Lease>,
    identity: String,
    candidate: Candidate,
    origin: Monotonic,
    acquired: Option<Timestamp>,
    is_leader: watch::Sender<bool>,
    has_failed: bool,
}

impl Election {
    fn now(&self) -> Now {
        self.origin.elapsed()
    }

    async fn take_part(&mut self) {
        loop {
            self.tell();
            match self.candidate.act(self.now()) {
                Act::Wait(until) => self.wait(until).await,
                act => {
                    let began = self.now();
                    let ends = self.candidate.leads_until();
                    // A request may hang: leading ends in time all the same.
                    let asked = self.ask(act);
                    let answer = match ends.map(|ends| ends.saturating_sub(began)) {
                        Some(left) if left < REQUEST => timeout(left, asked).await.unwrap_or(Answer::Failed),
                        _ => timeout(REQUEST, asked).await.unwrap_or(Answer::Failed),
                    };
                    let now = self.now();
                    self.candidate.answer(answer, began, now);
                }
            }
        }
    }

    /// Waits, but not beyond the end of leading.
    async fn wait(&self, until: Now) {
        let ends = self.candidate.leads_until().filter(|ends| *ends > self.now());
        let until = ends.map_or(until, |ends| until.min(ends));
        tokio::time::sleep_until((self.origin + until).to_tokio()).await;
    }

    fn tell(&self) {
        let leads = self.candidate.is_leader(self.now());
        self.is_leader.send_if_modified(|before| {
            let is_other = *before != leads;
            *before = leads;
            is_other
        });
    }

    async fn ask(&mut self, act: Act) -> Answer {
        let result = match act {
            Act::Wait(_) => return Answer::Failed,
            Act::Read => {
                return match self.api.get_opt(LEASE).await {
                    Ok(lease) => {
                        self.succeed();
                        Answer::Read(lease.map(|lease| reading(&lease)))
                    }
                    Err(error) => self.fail(&error),
                };
            }
            Act::Create(claim) => {
                let lease = self.lease(claim, &self.identity.clone(), None);
                self.api.create(&PostParams::default(), &lease).await
            }
            Act::Update(claim, version) => {
                let lease = self.lease(claim, &self.identity.clone(), Some(version));
                self.api.replace(LEASE, &PostParams::default(), &lease).await
            }
        };
        match result {
            Ok(lease) => {
                self.succeed();
                let (record, version) = reading(&lease);
                Answer::Written(record, version)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Answer::Conflict,
            Err(error) => self.fail(&error),
        }
    }

    fn succeed(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            tracing::info!("the Lease of the leader can be read and written again");
        }
    }

    fn fail(&mut self, error: &kube::Error) -> Answer {
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(
                %error,
                "the Lease of the leader cannot be read or written; the Role of the controller needs get, create and update on \
                 leases.coordination.k8s.io in the namespace of the release"
            );
        }
        Answer::Failed
    }

    fn lease(&mut self, claim: Claim, holder: &str, version: Option<String>) -> Lease {
        let now = now();
        if claim.is_new {
            self.acquired = Some(now);
        }
        let timing = Timing::default();
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                resource_version: version,
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(timing.lease.as_secs()).ok(),
                acquire_time: self.acquired.map(MicroTime),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(claim.transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the Lease back, so that another replica leads within its next attempt.
    async fn release(&mut self) {
        self.is_leader.send_replace(false);
        let Some((claim, version)) = self.candidate.release() else {
            return;
        };
        let mut lease = self.lease(claim, "", Some(version));
        if let Some(spec) = &mut lease.spec {
            // As client-go does it: a Lease of a second.
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        let released = timeout(REQUEST, self.api.replace(LEASE, &params, &lease)).await;
        match released {
            Ok(Ok(_)) => tracing::info!("the Lease of the leader is released"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease of the leader is not released; it expires in 15 s"),
            Err(_late) => tracing::warn!("the Lease of the leader is not released in time; it expires in 15 s"),
        }
    }
}

/// Labels of our Leases.
pub(crate) fn labels() -> std::collections::BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "propylon"),
        ("app.kubernetes.io/component", "controller"),
        ("app.kubernetes.io/managed-by", "propylon-controller"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The time of the machine, for what people read.
pub(crate) fn now() -> Timestamp {
    let now = clock::unix_now();
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn reading(lease: &Lease) -> (Record, String) {
    let spec = lease.spec.clone().unwrap_or_default();
    let lasts = spec.lease_duration_seconds.unwrap_or_default();
    let text = |time: Option<MicroTime>| time.map(|time| time.0.to_string()).unwrap_or_default();
    let record = Record {
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        lease: Duration::from_secs(u64::try_from(lasts).unwrap_or_default()),
        renewed: text(spec.renew_time),
        acquired: text(spec.acquire_time),
    };
    (record, lease.metadata.resource_version.clone().unwrap_or_default())
}

//! One watch: kube's watcher, with the fallback, the guard and the pauses around it.

use std::{collections::HashSet, fmt::Debug, pin::pin, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::watcher::{self, Event, watcher},
};
use propylon_kit::{backoff::Backoff, tasks::StopSignal};
use propylon_translate::Key;
use tokio::time::{sleep, timeout};

use super::{
    belief::{Belief, Change, Outcome, Seen},
    health::{Health, Need, Scope, State},
    strategy::{Answer, Mode, SILENCE, Strategy, Verdict},
    trim::Trim,
};

/// First and longest pause after a failure; random below (full jitter).
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Pause before what is forbidden or unknown is asked for again.
const LONG_PAUSE: Duration = Duration::from_secs(20);
/// Shortest pause before a list that was doubted is asked for again; the longest is thrice that.
const DOUBT: Duration = Duration::from_secs(1);
/// Objects of one page.
const PAGE: u32 = 500;

/// Where believed changes go.
pub trait Target<K>: Send {
    /// Takes a change.
    fn change(&mut self, change: Change<K>) -> impl Future<Output = ()> + Send;

    /// Everything that exists has been set; said after every list.
    fn listed(&mut self) -> impl Future<Output = ()> + Send;
}

/// What one watch follows.
#[derive(Clone, Debug)]
pub struct Follow<K> {
    /// Where it lists and watches.
    pub api: Api<DeserializeGuard<K>>,
    /// What it is called.
    pub scope: Scope,
    /// Field selector.
    pub fields: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// What waits for it.
    pub need: Need,
    /// Where it says how it fares.
    pub health: Health,
}

/// How one run of the watcher ended.
enum End {
    /// The process ends.
    Stopped,
    /// Begin again.
    Anew,
}

/// What an event of the watcher led to.
enum Next {
    Go,
    Anew,
}

struct Following<'f, K, T> {
    follow: &'f Follow<K>,
    target: T,
    belief: Belief,
    strategy: Strategy,
    malformed: HashSet<Key>,
    backoff: Backoff,
    rng: fastrand::Rng,
    /// Whether the present watcher has not ended its list.
    is_listing: bool,
    /// Whether the list broke off with an error, which was counted.
    is_broken: bool,
}

/// Follows until it is told to stop. Failures are logged, counted and tried again for ever; they remove nothing.
pub async fn follow<K, T>(follow: Follow<K>, target: T, stop: StopSignal)
where
    K: Resource<DynamicType = ()> + Trim + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Target<K>,
{
    follow.health.update(&follow.scope, |report| report.need = follow.need);
    let mut following = Following {
        follow: &follow,
        target,
        belief: Belief::new(),
        strategy: Strategy::new(),
        malformed: HashSet::new(),
        backoff: Backoff::new(PAUSE.0, PAUSE.1),
        rng: fastrand::Rng::new(),
        is_listing: true,
        is_broken: false,
    };
    let mut stop = stop;
    while let End::Anew = following.run(&mut stop).await {}
}

impl<K, T> Following<'_, K, T>
where
    K: Resource<DynamicType = ()> + Trim + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Target<K>,
{
    /// Runs one watcher.
    async fn run(&mut self, stop: &mut StopSignal) -> End {
        let config = self.config();
        let mut events = pin!(watcher(self.follow.api.clone(), config));
        self.is_listing = true;
        self.is_broken = false;
        loop {
            let silence = if self.is_listing { SILENCE } else { Duration::MAX };
            let event = tokio::select! {
                () = stop.stopped() => return End::Stopped,
                event = timeout(silence, events.next()) => event,
            };
            let next = match event {
                Ok(Some(Ok(event))) => self.event(event, stop).await,
                Ok(Some(Err(error))) => self.failed(answer(&error), &told(&error), stop).await,
                Ok(None) => Next::Anew,
                Err(_silent) => {
                    self.failed(Answer::Nothing, "the list does not go on", stop).await;
                    Next::Anew
                }
            };
            if matches!(next, Next::Anew) {
                return End::Anew;
            }
        }
    }

    fn config(&self) -> watcher::Config {
        let mut config = watcher::Config {
            field_selector: self.follow.fields.clone(),
            label_selector: self.follow.labels.clone(),
            page_size: Some(PAGE),
            ..watcher::Config::default()
        };
        if self.strategy.mode(self.belief.is_doubting()) == Mode::Streaming {
            config = config.streaming_lists();
        }
        config
    }

    async fn event(&mut self, event: Event<DeserializeGuard<K>>, stop: &mut StopSignal) -> Next {
        if matches!(event, Event::Init) {
            // kube begins a streaming list again without a word when its connection ended.
            if self.belief.is_listing() && self.is_listing && !self.is_broken {
                let next = self.failed(Answer::Nothing, "the list broke off", stop).await;
                if matches!(next, Next::Anew) {
                    return next;
                }
            }
            self.is_listing = true;
            self.is_broken = false;
            self.follow
                .health
                .update(&self.follow.scope, |report| report.lists += 1);
        }
        let outcome = self.belief.step(self.seen(event));
        match outcome {
            Outcome::Nothing => Next::Go,
            Outcome::Changed(change) => {
                self.change(change).await;
                Next::Go
            }
            Outcome::Listed { removed } => {
                self.remove(removed).await;
                self.is_listing = false;
                self.strategy.listed();
                self.backoff.reset();
                self.say(&State::Following);
                self.target.listed().await;
                Next::Go
            }
            Outcome::Doubted { removed, held, known } => {
                self.remove(removed).await;
                self.doubt(held, known, stop).await;
                Next::Anew
            }
        }
    }

    async fn remove(&mut self, keys: Vec<Key>) {
        for key in keys {
            self.change(Change::Remove(key)).await;
        }
    }

    async fn change(&mut self, change: Change<K>) {
        match &change {
            Change::Set(key, _) | Change::Remove(key) => {
                self.malformed.remove(key);
            }
            Change::Malformed(key, message) => {
                tracing::warn!(kind = self.follow.scope.kind, object = %key, reason = message, "an object does not decode; the last good version of it stays in force");
                self.malformed.insert(key.clone());
            }
        }
        self.target.change(change).await;
        if !self.is_listing {
            self.count();
        }
    }

    fn count(&self) {
        self.follow.health.update(&self.follow.scope, |report| {
            report.objects = self.belief.len();
            report.malformed = self.malformed.len();
        });
    }

    async fn doubt(&mut self, held: usize, known: usize, stop: &mut StopSignal) {
        self.say(&State::Doubting { held });
        if held == 0 {
            return;
        }
        tracing::warn!(
            watch = %self.follow.scope, held, known,
            "a list misses most of what existed; nothing is withdrawn until a second list agrees"
        );
        let pause = DOUBT + DOUBT.mul_f64(2.0 * self.rng.f64());
        wait(pause, stop).await;
    }

    async fn failed(&mut self, answer: Answer, message: &str, stop: &mut StopSignal) -> Next {
        let scope = &self.follow.scope;
        let verdict = self.strategy.failed(answer, self.is_listing);
        self.is_broken = true;
        match verdict {
            Verdict::Pages => {
                tracing::info!(watch = %scope, reason = message, "the API server has no streaming lists; pages are read instead");
                return Next::Anew;
            }
            Verdict::Again => {
                self.say(&State::Failing {
                    message: message.to_owned(),
                });
                let pause = self.backoff.pause(&mut self.rng);
                wait(pause, stop).await;
            }
            Verdict::Denied => {
                self.say(&State::Denied {
                    message: message.to_owned(),
                });
                wait(LONG_PAUSE, stop).await;
            }
            Verdict::Absent => {
                self.say(&State::Absent);
                wait(LONG_PAUSE, stop).await;
            }
        }
        Next::Go
    }

    /// Notes how the watch fares; logged where it fares otherwise than before.
    fn say(&self, state: &State) {
        let mut before = None;
        self.follow.health.update(&self.follow.scope, |report| {
            report.objects = self.belief.len();
            report.malformed = self.malformed.len();
            before = Some(std::mem::replace(&mut report.state, state.clone()));
        });
        let is_same = before.is_some_and(|before| std::mem::discriminant(&before) == std::mem::discriminant(state));
        if !is_same {
            log(&self.follow.scope, state, self.belief.len());
        }
    }

    fn seen(&self, event: Event<DeserializeGuard<K>>) -> Event<Seen<K>> {
        let hides = self.follow.scope.kind == "Secret";
        match event {
            Event::Apply(guard) => Event::Apply(seen(guard, hides)),
            Event::Delete(guard) => Event::Delete(seen(guard, hides)),
            Event::Init => Event::Init,
            Event::InitApply(guard) => Event::InitApply(seen(guard, hides)),
            Event::InitDone => Event::InitDone,
        }
    }
}

#[expect(
    clippy::cognitive_complexity,
    reason = "each line of the log counts as a branch; it is one match"
)]
fn log(scope: &Scope, state: &State, objects: usize) {
    match state {
        State::Denied { message } => {
            let hint = scope.hint();
            tracing::error!(watch = %scope, reason = message, hint, "a right is missing; everything else goes on without it");
        }
        State::Failing { message } => {
            tracing::warn!(watch = %scope, reason = message, "a watch fails; what is known stays in force and it is tried again");
        }
        State::Absent => tracing::info!(watch = %scope, "the API server does not know this kind"),
        State::Following => tracing::info!(watch = %scope, objects, "followed"),
        State::Listing | State::Doubting { .. } => {}
    }
}

async fn wait(pause: Duration, stop: &mut StopSignal) {
    tokio::select! {
        () = stop.stopped() => {}
        () = sleep(pause) => {}
    }
}

/// What the API server answered.
fn answer(error: &watcher::Error) -> Answer {
    let of_client = |error: &kube::Error| match error {
        kube::Error::Api(status) => Answer::Status(status.code),
        _ => Answer::Nothing,
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of_client(error),
        watcher::Error::WatchError(status) => Answer::Status(status.code),
        watcher::Error::NoResourceVersion => Answer::Nothing,
    }
}

/// What the API server says, or what is wrong with the way to it.
fn told(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => format!("{} (status {})", status.message, status.code),
        other => other.to_string(),
    }
}

/// The object without what is not kept; `hides` where what does not decode may tell a secret.
fn seen<K: Resource<DynamicType = ()> + Trim>(guard: DeserializeGuard<K>, hides: bool) -> Seen<K> {
    let metadata = guard.meta();
    let key = Key::new(metadata.namespace.clone().unwrap_or_default(), guard.name_any());
    let version = metadata.resource_version.clone().unwrap_or_default();
    let object = match guard.0 {
        Ok(mut object) => {
            object.trim();
            Ok(object)
        }
        Err(_) if hides => Err("the object does not decode (what it holds is not shown)".to_owned()),
        Err(invalid) => Err(invalid.error),
    };
    Seen { key, version, object }
}

#[cfg(test)]
mod tests;

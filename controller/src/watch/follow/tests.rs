mod fake;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use propylon_kit::{
    metrics::{Registry, RegistryConfig},
    tasks::Tasks,
};
use tokio::sync::watch;

use super::*;
use crate::watch::cluster;
use fake::{Fake, Reply};

/// Far above what any of this takes on the paused clock.
const PATIENCE: Duration = Duration::from_hours(3);

/// What a target holds: data of the object, or what is wrong with it.
type State = BTreeMap<String, Result<String, String>>;

struct Recorder {
    state: watch::Sender<(State, usize)>,
}

impl Target<ConfigMap> for Recorder {
    async fn change(&mut self, change: Change<ConfigMap>) {
        self.state.send_modify(|(state, _)| match change {
            Change::Set(key, object) => {
                let data = object.data.unwrap_or_default().remove("key").unwrap_or_default();
                state.insert(key.name.to_string(), Ok(data));
            }
            Change::Malformed(key, message) => drop(state.insert(key.name.to_string(), Err(message))),
            Change::Remove(key) => drop(state.remove(&*key.name)),
        });
    }

    async fn listed(&mut self) {
        self.state.send_modify(|(_, lists)| *lists += 1);
    }
}

struct Running {
    fake: Fake,
    state: watch::Receiver<(State, usize)>,
    health: Health,
    scope: Scope,
    _tasks: Tasks,
}

fn start(fake: Fake) -> Running {
    let (sender, state) = watch::channel((State::new(), 0));
    let scope = cluster::<ConfigMap>("ConfigMap", "configmaps");
    let health = Health::new();
    let what = Follow::<ConfigMap> {
        api: Api::all(fake.client()),
        scope: scope.clone(),
        fields: None,
        labels: None,
        need: Need::Required,
        health: health.clone(),
    };
    let tasks = Tasks::new(std::sync::Arc::new(Registry::new(RegistryConfig::default())));
    tasks.spawn("watch", follow(what, Recorder { state: sender }, tasks.stop_signal()));
    Running {
        fake,
        state,
        health,
        scope,
        _tasks: tasks,
    }
}

impl Running {
    async fn until(&mut self, holds: impl FnMut(&(State, usize)) -> bool) -> State {
        let reached = timeout(PATIENCE, self.state.wait_for(holds)).await.ok();
        let reached = reached.map(|state| state.unwrap().0.clone());
        reached.unwrap_or_else(|| panic!("never; {:?}; {:?}", self.health.reports(), self.fake.requests()))
    }

    async fn listed(&mut self) -> State {
        self.until(|(_, lists)| *lists > 0).await
    }

    async fn health_until(&self, mut holds: impl FnMut(&super::super::health::State) -> bool) {
        let mut changes = self.health.changes();
        let wait = async {
            loop {
                let reports = self.health.reports();
                let report = reports.iter().find(|report| report.scope == self.scope);
                if report.is_some_and(|report| holds(&report.state)) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.expect("it fares so at last");
    }

    fn names(&self) -> Vec<String> {
        self.state.borrow().0.keys().cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_is_followed_by_changes() {
    let mut running = start(Fake::of(&["a", "b"]));
    assert_eq!(running.listed().await.len(), 2);
    running.fake.set("c", "1");
    running.until(|(state, _)| state.len() == 3).await;
    running.fake.set("a", "2");
    running.until(|(state, _)| state["a"] == Ok("2".to_owned())).await;
    running.fake.delete("b");
    running.until(|(state, _)| state.len() == 2).await;
    assert!(
        running
            .fake
            .requests()
            .iter()
            .all(|request| request.contains("watch=true"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_on_etcd_3_4_is_asked_for_pages() {
    let fake = Fake::of(&["a", "b"]);
    fake.without_streaming_lists(Reply::Event(
        500,
        "required storage feature RequestWatchProgress is disabled",
    ));
    let mut running = start(fake);
    assert_eq!(running.listed().await.len(), 2);
    running.fake.set("c", "1");
    running.until(|(state, _)| state.len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_feature_is_asked_for_pages() {
    let fake = Fake::of(&["a", "b"]);
    fake.without_streaming_lists(Reply::Status(
        422,
        "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
    ));
    let mut running = start(fake);
    assert_eq!(running.listed().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_parameter_is_asked_for_pages_in_the_end() {
    let fake = Fake::of(&["a", "b"]);
    fake.without_streaming_lists(Reply::Silence);
    let mut running = start(fake);
    assert_eq!(running.listed().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_api_server_withdraws_nothing() {
    let mut running = start(Fake::of(&["a", "b", "c"]));
    running.listed().await;
    let before = running.fake.requests().len();
    running.fake.set_away(true);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(running.names(), ["a", "b", "c"]);
    let asked = running.fake.requests().len() - before;
    assert!((700..4000).contains(&asked), "{asked} attempts in an hour");
    running.fake.set("d", "1");
    running.fake.delete("a");
    running.fake.set_away(false);
    running
        .until(|(state, _)| state.contains_key("d") && !state.contains_key("a"))
        .await;
    assert_eq!(running.names(), ["b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_listed_again() {
    let mut running = start(Fake::of(&["a", "b", "c"]));
    running.listed().await;
    running.fake.set_away(true);
    running.fake.compact();
    running.fake.set("d", "1");
    running.fake.delete("c");
    running.fake.set_away(false);
    running
        .until(|(state, _)| state.contains_key("d") && !state.contains_key("c"))
        .await;
    assert_eq!(running.names(), ["a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn one_empty_list_after_a_restart_withdraws_nothing() {
    let mut running = start(Fake::of(&["a", "b", "c"]));
    running.listed().await;
    running.fake.compact();
    running.fake.empty_lists(1);
    running.fake.disconnect();
    running.fake.set("d", "1");
    running.until(|(state, lists)| *lists > 1 && state.len() == 4).await;
    // Every state in between is in the history of the target: nothing was removed.
    running.fake.delete("d");
    running.until(|(state, _)| state.len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_two_lists_miss_is_gone() {
    let mut running = start(Fake::of(&["a", "b", "c"]));
    running.listed().await;
    running.fake.compact();
    running.fake.set_away(true);
    for name in ["a", "b", "c"] {
        running.fake.delete(name);
    }
    running.fake.set_away(false);
    running.until(|(state, _)| state.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_objects_is_listed_after_two_lists() {
    let mut running = start(Fake::of(&[]));
    assert!(running.listed().await.is_empty());
    assert_eq!(running.health.reports()[0].lists, 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_and_mended() {
    let fake = Fake::of(&["a"]);
    fake.refuse(Some((403, "configmaps is forbidden: User \"u\" cannot list resource")));
    let mut running = start(fake);
    running
        .health_until(
            |state| matches!(state, super::super::health::State::Denied { message } if message.contains("cannot list")),
        )
        .await;
    assert!(running.health.missing().unwrap().contains("forbidden"));
    running.fake.refuse(None);
    assert_eq!(running.listed().await.len(), 1);
    // A right that is taken away later takes nothing away.
    running.fake.refuse(Some((403, "no")));
    running.fake.disconnect();
    running
        .health_until(|state| matches!(state, super::super::health::State::Denied { .. }))
        .await;
    assert_eq!(running.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_decode_is_told_and_the_rest_goes_on() {
    let fake = Fake::of(&["a", "b"]);
    fake.set_raw("bad", &serde_json::json!({"data": 7}));
    let mut running = start(fake);
    let state = running.listed().await;
    assert_eq!(state["a"], Ok(String::new()));
    assert!(
        state["bad"]
            .as_ref()
            .is_err_and(|message| message.contains("Invalid type")),
        "{state:?}"
    );
    assert_eq!(running.health.reports()[0].malformed, 1);
    running.fake.set("bad", "mended");
    running
        .until(|(state, _)| state["bad"] == Ok("mended".to_owned()))
        .await;
}

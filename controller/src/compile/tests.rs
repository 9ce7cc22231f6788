use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use propylon_kit::{metrics::RegistryConfig, tasks::Tasks};
use propylon_translate::Key;
use serde_json::json;

use super::*;
use crate::{
    config::ConfigFile,
    watch::{
        health::{Need, Scope, State},
        inputs::{Inputs, queue},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The loop on a thread of its own, and what drives it.
struct Driven {
    inputs: Inputs,
    health: Health,
    compiled: watch::Receiver<Arc<Compiled>>,
    wanted: watch::Receiver<Wanted>,
    publisher: Publisher,
    _settings: watch::Sender<Arc<Settings>>,
    tasks: Tasks,
}

fn scope(kind: &'static str) -> Scope {
    Scope {
        kind,
        resource: "things",
        group: "",
        namespace: None,
        name: None,
    }
}

fn drive(kinds: &[&'static str]) -> Driven {
    let (inputs, receiver) = queue();
    let health = Health::new();
    for kind in kinds {
        health.update(&scope(kind), |report| report.need = Need::Awaited);
    }
    let registry = Arc::new(Registry::new(RegistryConfig::default()));
    let (settings, settings_receiver) = watch::channel(Arc::new(Settings::new(ConfigFile::default()).unwrap()));
    let (compiled, compiled_receiver) = watch::channel(Arc::default());
    let (wanted, wanted_receiver) = watch::channel(Wanted::new());
    let publisher = Publisher::new();
    let parts = Parts {
        inputs: receiver,
        health: health.clone(),
        settings: settings_receiver,
        publisher: publisher.clone(),
        compiled,
        wanted,
        timed: Timed::default(),
        registry: Arc::clone(&registry),
        on_first: Box::new(|| {}),
    };
    let tasks = Tasks::new(registry);
    spawn(parts, tasks.stop_signal()).unwrap();
    Driven {
        inputs,
        health,
        compiled: compiled_receiver,
        wanted: wanted_receiver,
        publisher,
        _settings: settings,
        tasks,
    }
}

impl Driven {
    async fn listed(&self, kind: &'static str) {
        self.inputs.send(What::Listed(scope(kind))).await;
    }

    /// Waits for what is wanted, and says that it is kept.
    async fn keep(&mut self) -> Vec<String> {
        let wanted = tokio::time::timeout(PATIENCE, self.wanted.changed()).await;
        wanted.expect("asked in time").unwrap();
        let wanted = self.wanted.borrow_and_update().clone();
        self.inputs.send(What::Kept(wanted.clone())).await;
        wanted.iter().map(|(_, key)| key.to_string()).collect()
    }

    async fn until(&mut self, mut holds: impl FnMut(&Compiled) -> bool) -> Arc<Compiled> {
        let waited = tokio::time::timeout(PATIENCE, self.compiled.wait_for(|compiled| holds(compiled))).await;
        Arc::clone(&*waited.expect("compiled in time").unwrap())
    }

    async fn published(&mut self) -> Arc<Compiled> {
        self.until(|compiled| compiled.generation > Generation(0)).await
    }
}

fn class() -> Object {
    let class: IngressClass = serde_json::from_value(json!({
        "metadata": {"name": "propylon"}, "spec": {"controller": "propylon.dev/ingress-controller"},
    }))
    .unwrap();
    Object::IngressClass(Box::new(class))
}

fn ingress(name: &str, secret: &str) -> Object {
    let ingress: Ingress = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n"},
        "spec": {
            "ingressClassName": "propylon",
            "tls": [{"hosts": [format!("{name}.example")], "secretName": secret}],
            "rules": [{"host": format!("{name}.example"), "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}],
        },
    }))
    .unwrap();
    Object::Ingress(Box::new(ingress))
}

fn service() -> Object {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n"}, "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
    }))
    .unwrap();
    Object::Service(Box::new(service))
}

fn slice(address: &str) -> Object {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": [address]}],
    }))
    .unwrap();
    Object::EndpointSlice(Box::new(slice))
}

#[tokio::test]
async fn nothing_is_published_before_every_needed_kind_was_listed_and_what_it_names_was_read() {
    let mut driven = drive(&["Ingress", "Secret"]);
    driven.inputs.send(What::Set(class())).await;
    driven.inputs.send(What::Set(ingress("a", "opaque"))).await;
    driven.inputs.send(What::Set(service())).await;
    driven.listed("Ingress").await;
    assert_eq!(driven.publisher.generation(), Generation(0));
    // The right to read Secrets is missing: it is not waited for.
    driven.health.update(&scope("Secret"), |report| {
        report.state = State::Denied { message: String::new() };
    });
    assert_eq!(driven.keep().await, ["n/opaque"]);
    let first = driven.published().await;
    assert_eq!(first.sequence, 5);
    assert!(driven.publisher.size().0 > 0);
    driven.tasks.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_change_is_compiled_and_numbered() {
    let mut driven = drive(&["Ingress"]);
    driven.listed("Ingress").await;
    assert_eq!(driven.keep().await, Vec::<String>::new());
    let first = driven.published().await;
    for object in [class(), ingress("a", "cert"), service(), slice("10.0.0.1")] {
        driven.inputs.send(What::Set(object)).await;
    }
    let sequence = driven.inputs.sequence();
    let second = driven.until(|compiled| compiled.sequence >= sequence).await;
    assert!(second.generation > first.generation);
    let size = driven.publisher.size().0;
    driven
        .inputs
        .send(What::Remove(Kind::Ingress, Key::new("n", "a")))
        .await;
    let sequence = driven.inputs.sequence();
    driven.until(|compiled| compiled.sequence >= sequence).await;
    assert!(driven.publisher.size().0 < size);
    driven.tasks.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn what_does_not_decode_is_reported_and_its_last_good_version_stays() {
    let mut driven = drive(&["Ingress"]);
    for object in [class(), ingress("a", "cert"), service()] {
        driven.inputs.send(What::Set(object)).await;
    }
    driven.listed("Ingress").await;
    driven.keep().await;
    driven.published().await;
    let size = driven.publisher.size();
    let object = ObjectRef::new(Kind::Ingress, "n", "a");
    driven
        .inputs
        .send(What::Malformed(object.clone(), "invalid type".to_owned()))
        .await;
    let told = driven
        .until(|compiled| {
            compiled
                .reports
                .get(&object)
                .is_some_and(|reports| reports[0].reason == ReportReason::InvalidObject)
        })
        .await;
    assert!(told.reports[&object][0].message.contains("invalid type"));
    assert_eq!(driven.publisher.size(), size);
    driven.inputs.send(What::Set(ingress("a", "cert"))).await;
    let is_invalid = |reports: &BTreeMap<ObjectRef, Arc<[Report]>>| {
        reports.get(&object).is_some_and(|reports| {
            reports
                .iter()
                .any(|report| report.reason == ReportReason::InvalidObject)
        })
    };
    driven.until(|compiled| !is_invalid(&compiled.reports)).await;
    driven.tasks.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_certificate_is_not_dropped_with_the_watch_of_its_name() {
    let mut driven = drive(&["Ingress"]);
    for object in [class(), ingress("a", "cert"), service()] {
        driven.inputs.send(What::Set(object)).await;
    }
    driven.listed("Ingress").await;
    assert_eq!(driven.keep().await, ["n/cert"]);
    driven.published().await;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "cert", "namespace": "n"}, "type": "kubernetes.io/tls",
    }))
    .unwrap();
    driven.inputs.send(What::Set(Object::Secret(Box::new(secret)))).await;
    // It comes with the watch of all certificates: none of its own is wanted any more.
    assert_eq!(driven.keep().await, Vec::<String>::new());
    driven
        .inputs
        .send(What::Dropped(Kind::Secret, Key::new("n", "cert")))
        .await;
    let sequence = driven.inputs.sequence();
    driven.inputs.send(What::Set(slice("10.0.0.9"))).await;
    let last = driven.until(|compiled| compiled.sequence > sequence).await;
    let reports = last.reports.values().flat_map(|reports| reports.iter());
    let reasons: Vec<ReportReason> = reports.map(|report| report.reason).collect();
    assert!(reasons.contains(&ReportReason::TLSSecretInvalid), "{reasons:?}");
    assert!(!reasons.contains(&ReportReason::TLSSecretNotFound), "{reasons:?}");
    driven.tasks.shutdown(PATIENCE).await;
}

//! Updates under load: of an application, and of Propylon itself.

use propylon_e2e::{
    load::{Load, Outcome, Target},
    stage::{App, Stage, ingress},
};

use crate::{
    stage,
    streams::{Held, Streams},
};

/// Requests a second, half of them on connections of their own.
const RATE: u32 = 200;

fn load(stage: &Stage, host: &str) -> Load {
    let target = Target {
        addresses: stage.http(),
        host: host.to_owned(),
        path: "/headers".to_owned(),
    };
    Load::spread(target, RATE / 2, RATE / 2)
}

fn assert_none_failed(what: &str, outcome: &Outcome) {
    println!(
        "{what}: {} answers in {:.1} s ({:.0} a second), {} failed, slowest {} ms",
        outcome.new + outcome.kept,
        outcome.lasted.as_secs_f64(),
        outcome.rate(),
        outcome.failures,
        outcome.slowest.as_millis()
    );
    assert_eq!(outcome.failures, 0, "{what}: {:#?}", outcome.described);
    assert!(
        outcome.rate() > f64::from(RATE) * 0.9,
        "{what}: the load was not kept up: {:.0}",
        outcome.rate()
    );
}

#[test]
fn an_application_is_updated_without_a_failed_request() {
    let stage = stage();
    let space = stage.namespace("rolling");
    let (host, app) = ("app.rolling.example", App::new("app", 4));
    space.deploy(&app);
    space.apply(&ingress("app", host, "app", None).to_string());
    stage.until_status(host, "/", 200);
    let before: Vec<_> = space.pods(&app).into_iter().map(|pod| pod.metadata.name).collect();

    let load = load(&stage, host);
    stage.until("the load is under way", propylon_e2e::stage::PATIENCE, || {
        load.answers() > 200
    });
    let kubectl = |arguments: &[&str]| {
        stage
            .objects
            .kubectl(&[&["--namespace", &space.name], arguments].concat())
    };
    kubectl(&["rollout", "restart", "deployment/app"]);
    kubectl(&["rollout", "status", "deployment/app", "--timeout=180s"]);
    // The last old pod ends after the roll-out is called done.
    stage.until("the old pods are gone", propylon_e2e::stage::PATIENCE, || {
        let now: Vec<k8s_openapi::api::core::v1::Pod> = stage.objects.list(&space.name, "app=app");
        now.iter().all(|pod| !before.contains(&pod.metadata.name))
    });
    assert_none_failed("rolling update of the application", &load.stop());
}

#[test]
fn propylon_is_upgraded_without_a_failed_request() {
    let stage = stage();
    let space = stage.namespace("upgrade");
    let host = "app.upgrade.example";
    space.deploy(&App::new("app", 2));
    let grpc = App {
        speaks_h2c: true,
        ..App::new("grpc", 2)
    };
    space.deploy(&grpc);
    space.apply(&ingress("app", host, "app", None).to_string());
    space.apply(&ingress("grpc", "grpc.upgrade.example", "grpc", None).to_string());
    stage.until_status(host, "/", 200);
    stage.until_status("grpc.upgrade.example", "/", 200);

    let next = format!("{}-next", stage.chart_version().unwrap());
    stage.import_propylon(&next).unwrap();
    let before: Vec<_> = ["controller", "proxy"]
        .iter()
        .flat_map(|component| stage.pods_of(component))
        .collect();
    let streams = Streams::open(&stage.http(), host, "grpc.upgrade.example");
    let load = load(&stage, host);
    stage.until("the load is under way", propylon_e2e::stage::PATIENCE, || {
        load.answers() > 200
    });
    stage.upgrade(&next);
    let outcome = load.stop();
    let Held { kept, drained, cut } = streams.close();
    println!("WebSockets and gRPC streams over the upgrade: {kept} kept, {drained} drained, {cut} cut");
    assert_none_failed("rolling upgrade of Propylon", &outcome);
    for component in ["controller", "proxy"] {
        for pod in stage.pods_of(component) {
            let image = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.containers[0].image.clone())
                .unwrap_or_default();
            assert!(image.ends_with(&next), "{component} runs {image}");
            assert!(
                before.iter().all(|old| old.metadata.uid != pod.metadata.uid),
                "{component} was replaced"
            );
        }
    }
    stage.upgrade(&stage.chart_version().unwrap());
}

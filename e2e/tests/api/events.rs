//! Events on the objects of users.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::leading::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_is_said_once_whoever_leads() {
    let stand = Stand::new().await;
    let first = stand.controller("first", &["--publish-address=192.0.2.1"]).await;
    stand.ingress("broken", "propylon").await;
    let annotations = json!({"metadata": {"annotations": {"propylon.dev/retries": "many"}}});
    stand
        .ingresses()
        .patch("broken", &PatchParams::default(), &Patch::Merge(annotations))
        .await
        .unwrap();
    let wanted = ["AnnotationInvalid", "BackendServiceNotFound"];
    stand
        .until("it is said", async || {
            let events = stand.events(&stand.namespace, "broken").await;
            wanted.iter().all(|reason| events.contains_key(*reason))
        })
        .await;
    let events: Api<Event> = Api::namespaced(stand.client.clone(), &stand.namespace);
    let all = events.list(&ListParams::default()).await.unwrap().items;
    let uid = stand.ingresses().get("broken").await.unwrap().metadata.uid;
    for event in &all {
        let regarding = event.regarding.as_ref().unwrap();
        assert_eq!((regarding.kind.as_deref(), &regarding.uid), (Some("Ingress"), &uid));
        assert_eq!(event.reporting_controller.as_deref(), Some("propylon.dev/controller"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
    first.stop().await;
    let second = stand.controller("second", &["--publish-address=192.0.2.1"]).await;
    // Something new of the second tells that it has said all that it has to say.
    stand.ingress("fence", "propylon").await;
    stand
        .until("it goes on", async || {
            stand
                .events(&stand.namespace, "fence")
                .await
                .contains_key("BackendServiceNotFound")
        })
        .await;
    let again = stand.events(&stand.namespace, "broken").await;
    assert!(again.values().all(|notes| notes.len() == 1), "{again:?}");
    let of_broken =
        |event: &&Event| event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some("broken");
    let after = events.list(&ListParams::default()).await.unwrap().items;
    assert!(
        after.iter().filter(of_broken).all(|event| event.series.is_none()),
        "{after:?}"
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_that_is_well_is_said_to_be_served() {
    let stand = Stand::new().await;
    let controller = stand.controller("only", &["--publish-address=192.0.2.1"]).await;
    let proxy = stand.proxy(&controller, "p", "n");
    // Ready endpoints, so that there is nothing to complain about.
    let object = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    stand
        .services()
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(object).unwrap(),
        )
        .await
        .unwrap();
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.5.5.5"], "conditions": {"ready": true}}],
    });
    let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
        Api::namespaced(stand.client.clone(), &stand.namespace);
    slices
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(slice).unwrap(),
        )
        .await
        .unwrap();
    stand
        .until("the endpoints are known", async || {
            controller.context().publisher.generation().0 > 0
        })
        .await;
    stand.ingress("web", "propylon").await;
    stand
        .until("it is served", async || {
            let events = stand.events(&stand.namespace, "web").await;
            events
                .get("Programmed")
                .is_some_and(|notes| *notes == ["served at 192.0.2.1"])
        })
        .await;
    drop(proxy);
    controller.stop().await;
}

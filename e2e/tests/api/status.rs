//! Status of Ingresses.

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::leading::{Stand, metrics};

const PUBLISHED: [&str; 2] = ["--publish-address=192.0.2.10", "--publish-address=2001:db8::10"];

#[tokio::test(flavor = "multi_thread")]
async fn the_status_comes_once_a_proxy_has_the_ingress_and_outlives_the_leader() {
    let stand = Stand::new().await;
    let first = stand.controller("first", &PUBLISHED).await;
    stand.ingress("web", "propylon").await;
    stand.ingress("other", "nginx").await;
    let generation = || first.context().publisher.generation();
    stand.until("it is compiled", async || generation().0 > 0).await;
    assert_eq!(stand.ingress_addresses("web").await, [""; 0], "no proxy has it");
    let proxy = stand.proxy(&first, "p", "n");
    stand
        .until("the status is written", async || {
            stand.ingress_addresses("web").await == ["192.0.2.10", "2001:db8::10"]
        })
        .await;
    assert_eq!(stand.ingress_addresses("other").await, [""; 0]);
    let written = stand.ingresses().get("web").await.unwrap();
    let error = written.status.unwrap().load_balancer.unwrap().ingress.unwrap()[0]
        .ports
        .clone();
    assert_eq!(
        error.and_then(|ports| ports[0].error.clone()).as_deref(),
        Some("propylon.dev/BackendServiceNotFound")
    );
    drop(proxy);
    first.stop().await;
    let version = written.metadata.resource_version.clone();
    // The next one knows no proxy yet: nothing is cleared, and what is right is not written again.
    let second = stand.controller("second", &PUBLISHED).await;
    stand
        .until("it leads", async || *second.context().is_leader.borrow())
        .await;
    let proxy = stand.proxy(&second, "p", "n");
    stand.ingress("later", "propylon").await;
    stand
        .until("it writes", async || !stand.ingress_addresses("later").await.is_empty())
        .await;
    assert_eq!(
        stand.ingresses().get("web").await.unwrap().metadata.resource_version,
        version
    );
    assert!(metrics(&second).contains(r#"propylon_status_writes_total{kind="Ingress",result="written"}"#));
    drop(proxy);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn always_replaces_what_another_controller_left() {
    let stand = Stand::new().await;
    stand.ingress("stale", "propylon").await;
    stand
        .write_status("stale", "nginx-ingress-controller", "198.51.100.1")
        .await;
    let controller = stand.controller("only", &PUBLISHED[..1]).await;
    let proxy = stand.proxy(&controller, "p", "n");
    stand
        .until("it is replaced", async || {
            stand.ingress_addresses("stale").await == ["192.0.2.10"]
        })
        .await;
    // Ours no longer: what we wrote goes, what somebody else writes then stays.
    let class = json!({"spec": {"ingressClassName": "nginx"}});
    stand
        .ingresses()
        .patch("stale", &PatchParams::default(), &Patch::Merge(class))
        .await
        .unwrap();
    stand
        .until("it is withdrawn", async || {
            stand.ingress_addresses("stale").await.is_empty()
        })
        .await;
    stand
        .write_status("stale", "nginx-ingress-controller", "192.0.2.10")
        .await;
    stand.ingress("fence", "propylon").await;
    stand
        .until("the controller has gone on", async || {
            !stand.ingress_addresses("fence").await.is_empty()
        })
        .await;
    assert_eq!(stand.ingress_addresses("stale").await, ["192.0.2.10"]);
    drop(proxy);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yield_leaves_it_to_the_other_controller_and_says_so_once() {
    let stand = Stand::new().await;
    stand.ingress("shared", "propylon").await;
    stand.write_status("shared", "other-controller", "198.51.100.1").await;
    let controller = stand.controller("only", &["--status-mode=Yield", PUBLISHED[0]]).await;
    let proxy = stand.proxy(&controller, "p", "n");
    stand.ingress("free", "propylon").await;
    stand
        .until("the free one is ours", async || {
            stand.ingress_addresses("free").await == ["192.0.2.10"]
        })
        .await;
    stand
        .until("it is said", async || {
            stand
                .events(&stand.namespace, "shared")
                .await
                .contains_key("StatusOwnedByOther")
        })
        .await;
    assert_eq!(stand.ingress_addresses("shared").await, ["198.51.100.1"]);
    let yielded = r#"propylon_status_writes_total{kind="Ingress",result="yielded"} 1"#;
    assert!(metrics(&controller).contains(yielded), "{}", metrics(&controller));
    // The other one changes its mind: we yield again, and there is no second Event.
    stand.write_status("shared", "other-controller", "198.51.100.2").await;
    stand
        .until("looked at again", async || {
            metrics(&controller).contains(r#"propylon_status_writes_total{kind="Ingress",result="yielded"} 2"#)
        })
        .await;
    assert_eq!(stand.ingress_addresses("shared").await, ["198.51.100.2"]);
    assert_eq!(
        stand.events(&stand.namespace, "shared").await["StatusOwnedByOther"].len(),
        1
    );
    drop(proxy);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_writes_nothing() {
    let stand = Stand::new().await;
    stand.ingress("web", "propylon").await;
    let controller = stand.controller("only", &["--status-mode=Never", PUBLISHED[0]]).await;
    let proxy = stand.proxy(&controller, "p", "n");
    let live = controller.context().live.clone();
    stand
        .until("the proxy has it", async || live.borrow().somewhere.0 > 0)
        .await;
    stand
        .until("it is reported all the same", async || {
            stand
                .events(&stand.namespace, "web")
                .await
                .contains_key("BackendServiceNotFound")
        })
        .await;
    assert_eq!(stand.ingress_addresses("web").await, [""; 0]);
    drop(proxy);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_published_and_followed() {
    let stand = Stand::new().await;
    let object = json!({"metadata": {"name": "front"}, "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/lb", "ports": [{"port": 80}]}});
    let services: Api<Service> = stand.services();
    services
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let flag = format!("--publish-service={}/front", stand.namespace);
    let controller = stand.controller("only", &[&flag]).await;
    let proxy = stand.proxy(&controller, "p", "n");
    stand.ingress("web", "propylon").await;
    for (entry, text) in [
        (json!({"ip": "192.0.2.33"}), "192.0.2.33"),
        (json!({"hostname": "lb.example.com"}), "lb.example.com"),
    ] {
        let patch = json!({"status": {"loadBalancer": {"ingress": [entry]}}});
        services
            .patch_status("front", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        stand
            .until("it is followed", async || {
                stand.ingress_addresses("web").await == [text]
            })
            .await;
    }
    // A Service without an address says nothing: what is there stays.
    let patch = json!({"status": {"loadBalancer": {"ingress": null}}});
    services
        .patch_status("front", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    stand.ingress("fence", "propylon").await;
    stand
        .until("the controller has gone on", async || {
            stand
                .events(&stand.namespace, "fence")
                .await
                .contains_key("BackendServiceNotFound")
        })
        .await;
    assert_eq!(stand.ingress_addresses("web").await, ["lb.example.com"]);
    drop(proxy);
    controller.stop().await;
}

//! Addresses of Services.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::leading::{Stand, metrics};

const KERNEL: &str = "kernel";

fn on_kernel() -> serde_json::Value {
    json!({"propylon.dev/lb-path": KERNEL})
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_kept_by_whoever_leads_next() {
    let stand = Stand::new().await;
    stand.pool("public", json!({"addresses": ["192.0.2.8/30"]})).await;
    let first = stand.controller("first", &[]).await;
    for name in ["a", "b"] {
        stand.service(name, on_kernel(), 9000).await;
    }
    stand
        .until("both have an address", async || {
            !stand.addresses("a").await.is_empty() && !stand.addresses("b").await.is_empty()
        })
        .await;
    let (a, b) = (stand.addresses("a").await, stand.addresses("b").await);
    assert_ne!(a, b);
    let service = stand.services().get("a").await.unwrap();
    assert_eq!(service.finalizers(), ["service.kubernetes.io/load-balancer-cleanup"]);
    stand
        .until("it is said once", async || {
            stand.events(&stand.namespace, "a").await.contains_key("IPAllocated")
        })
        .await;
    // The next leader is already there when the first goes; a Service comes in between.
    let second = stand.controller("second", &[]).await;
    stand.service("c", on_kernel(), 9000).await;
    first.stop().await;
    stand
        .until("the third has one", async || !stand.addresses("c").await.is_empty())
        .await;
    assert_eq!((stand.addresses("a").await, stand.addresses("b").await), (a.clone(), b));
    // A deleted Service is let go, and its address is given out again.
    stand.services().delete("a", &DeleteParams::default()).await.unwrap();
    stand
        .until("it is gone", async || {
            stand.services().get_opt("a").await.unwrap().is_none()
        })
        .await;
    stand.service("d", on_kernel(), 9000).await;
    stand.service("e", on_kernel(), 9000).await;
    stand
        .until("the last two addresses are given out", async || {
            !stand.addresses("d").await.is_empty() && !stand.addresses("e").await.is_empty()
        })
        .await;
    let mut all = Vec::new();
    for name in ["b", "c", "d", "e"] {
        all.extend(stand.addresses(name).await);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4, "{all:?}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_used_up_says_so_and_so_does_the_service() {
    let stand = Stand::new().await;
    stand.pool("tiny", json!({"addresses": ["198.51.100.7"]})).await;
    let controller = stand.controller("only", &[]).await;
    stand.service("lucky", on_kernel(), 9000).await;
    stand
        .until("it has the address", async || {
            stand.addresses("lucky").await == ["198.51.100.7"]
        })
        .await;
    stand.service("late", on_kernel(), 9000).await;
    stand
        .until("the pool says so", async || {
            let status = stand.pool_status("tiny").await;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| {
                condition["type"] == "Exhausted"
                    && condition["status"] == "True"
                    && condition["observedGeneration"] == 1
            }) && status["ipv4"] == json!({"total": 1, "assigned": 1, "available": 0})
        })
        .await;
    stand
        .until("the Service is told", async || {
            let events = stand.events(&stand.namespace, "late").await;
            events
                .get("AllocationFailed")
                .is_some_and(|notes| notes[0].contains("no IPv4 address is free in IPAddressPool tiny"))
        })
        .await;
    stand
        .until("so is the pool", async || {
            stand
                .events("default", "tiny")
                .await
                .contains_key("AddressPoolExhausted")
        })
        .await;
    let text = metrics(&controller);
    assert!(
        text.contains(r#"propylon_lb_pool_addresses{pool="tiny",family="IPv4",state="available"} 0"#),
        "{text}"
    );
    assert_eq!(stand.addresses("late").await, [""; 0]);
    // Room helps at once.
    let pools: Api<propylon_crds::IPAddressPool> = Api::all(stand.client.clone());
    let patch = json!({"spec": {"addresses": ["198.51.100.7-198.51.100.8"]}});
    pools
        .patch("tiny", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    stand
        .until("it has the other", async || {
            stand.addresses("late").await == ["198.51.100.8"]
        })
        .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_controller_wrote_is_not_overwritten() {
    let stand = Stand::new().await;
    stand.pool("ours", json!({"addresses": ["203.0.113.0/29"]})).await;
    let entry = |ingress: serde_json::Value| json!({"status": {"loadBalancer": {"ingress": [ingress]}}});
    let foreign = [
        ("cloud", json!({"hostname": "lb.example.com"})),
        ("metal", json!({"ip": "10.9.8.7"})),
    ];
    for (name, status) in &foreign {
        stand
            .service(name, json!({"propylon.dev/address-pool": "ours"}), 9000)
            .await;
        stand
            .services()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(entry(status.clone())))
            .await
            .unwrap();
    }
    let controller = stand.controller("only", &["--lb-default-path=kernel"]).await;
    stand.service("own", json!({}), 9000).await;
    stand
        .until("ours is served", async || !stand.addresses("own").await.is_empty())
        .await;
    for (name, status) in &foreign {
        stand
            .until("it is said", async || {
                stand
                    .events(&stand.namespace, name)
                    .await
                    .contains_key("StatusOwnedByOther")
            })
            .await;
        let service = stand.services().get(name).await.unwrap();
        let there = json!(service.status.unwrap().load_balancer.unwrap().ingress.unwrap()[0]);
        for (field, value) in status.as_object().unwrap() {
            assert_eq!(there[field], *value);
        }
        assert!(service.metadata.finalizers.is_none(), "{name}");
    }
    // The path is recorded, so that another default later moves nobody.
    let own = stand.services().get("own").await.unwrap();
    assert_eq!(own.annotations()["propylon.dev/lb-path"], "kernel");
    controller.stop().await;
}

/// A node and a ready pod of a proxy on its network.
async fn node(stand: &Stand, name: &str, address: &str) {
    let object =
        json!({"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    let nodes: Api<Node> = Api::all(stand.client.clone());
    nodes
        .create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap())
        .await
        .unwrap();
    nodes
        .patch_status(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": object.get("status")})),
        )
        .await
        .unwrap();
    let object = json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "propylon", "app.kubernetes.io/component": "proxy"}},
        "spec": {"nodeName": name, "hostNetwork": true, "serviceAccountName": "propylon-proxy",
                 "containers": [{"name": "proxy", "image": "propylon"}]},
    });
    let pods: Api<Pod> = Api::namespaced(stand.client.clone(), "propylon");
    pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(ready))
        .await
        .unwrap();
}

async fn without_nodes(stand: &Stand, names: &[&str]) {
    for name in names {
        let now = DeleteParams::default().grace_period(0);
        Api::<Pod>::namespaced(stand.client.clone(), "propylon")
            .delete(name, &now)
            .await
            .unwrap();
        Api::<Node>::all(stand.client.clone()).delete(name, &now).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxies_path_serves_allowed_ports_on_the_nodes() {
    let stand = Stand::new().await;
    node(&stand, "n1", "10.77.0.1").await;
    node(&stand, "n2", "10.77.0.2").await;
    let controller = stand.controller("only", &[]).await;
    let proxies = [
        stand.proxy(&controller, "n1", "n1"),
        stand.proxy(&controller, "n2", "n2"),
    ];
    stand.service("db", json!({}), 5432).await;
    stand.service("low", json!({}), 22).await;
    stand.service("kubelet", json!({}), 10250).await;
    stand.pool("nodes", json!({"nodeAddresses": true})).await;
    stand
        .until("it is served on both nodes", async || {
            stand.addresses("db").await == ["10.77.0.1", "10.77.0.2"]
        })
        .await;
    let db = stand.services().get("db").await.unwrap();
    let entries = db
        .status
        .as_ref()
        .unwrap()
        .load_balancer
        .clone()
        .unwrap()
        .ingress
        .unwrap();
    assert!(
        entries.iter().all(|entry| entry.ip_mode.as_deref() == Some("Proxy")),
        "{entries:?}"
    );
    assert_eq!(db.annotations()["propylon.dev/lb-path"], "proxy");
    for name in ["low", "kubelet"] {
        stand
            .until("the author is told", async || {
                stand.events(&stand.namespace, name).await.contains_key("PortNotServed")
            })
            .await;
        assert_eq!(stand.addresses(name).await, [""; 0]);
    }
    // The proxies get the port on every address of their node, and the ones that are not allowed never.
    stand
        .until("the proxies listen", async || {
            let publisher = &controller.context().publisher;
            publisher
                .proxies()
                .iter()
                .all(|proxy| proxy.acknowledged == publisher.generation())
        })
        .await;
    drop(proxies);
    controller.stop().await;
    without_nodes(&stand, &["n1", "n2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_of_the_settings_are_applied_and_removed() {
    let stand = Stand::new().await;
    stand.pool("by-hand", json!({"addresses": ["192.0.2.0/24"]})).await;
    let folder = std::env::temp_dir().join(format!("propylon-settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("propylon.yaml");
    std::fs::write(
        &file,
        "lb: {pools: [{name: of-settings, addresses: [198.51.100.0/24]}]}\n",
    )
    .unwrap();
    let flag = format!("--config={}", file.display());
    let controller = stand.controller("first", &[&flag]).await;
    let names = async || {
        let pools = Api::<propylon_crds::IPAddressPool>::all(stand.client.clone());
        let mut names: Vec<String> = pools
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        names.sort();
        names
    };
    stand
        .until("it is applied", async || names().await == ["by-hand", "of-settings"])
        .await;
    std::fs::write(&file, "lb: {pools: []}\n").unwrap();
    stand
        .until("it is removed", async || names().await == ["by-hand"])
        .await;
    controller.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_pools_that_cannot_be_meant() {
    let stand = Stand::new().await;
    let pools: Api<propylon_crds::IPAddressPool> = Api::all(stand.client.clone());
    for (spec, part) in [
        (json!({}), "give either addresses or nodeAddresses"),
        (
            json!({"addresses": ["192.0.2.0/24"], "nodeAddresses": true}),
            "give either addresses or nodeAddresses",
        ),
        (json!({"addresses": ["web"]}), "every entry is a CIDR"),
        (json!({"addresses": ["192.0.2.1-web"]}), "every entry is a CIDR"),
    ] {
        let object = json!({"apiVersion": "propylon.dev/v1alpha1", "kind": "IPAddressPool", "metadata": {"name": "wrong"}, "spec": spec});
        let refused = pools
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await;
        let error = refused.expect_err("it is refused").to_string();
        assert!(error.contains(part), "{error}");
    }
    stand
        .pool(
            "right",
            json!({"addresses": ["192.0.2.0/24", "192.0.3.1 - 192.0.3.9", "2001:db8::1"]}),
        )
        .await;
}

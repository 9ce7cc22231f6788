//! Resources survive the wire, whatever they hold; what is missing reads as the default; keys are not printed.

use std::sync::Arc;

use proptest::{prelude::*, test_runner::Config};
use propylon_model::{Delta, Endpoints, Pool, PoolName, Resources, RouteGroup, RoutePolicy};
use propylon_wire::{Encoded, Publisher, ResourceKey, ResourceKind, Value};

use crate::{any, build};

proptest! {
    #![proptest_config(Config::with_cases(256))]

    #[test]
    fn what_is_written_reads_back(resources in any::resources()) {
        let json = serde_json::to_string(&resources).unwrap();
        let back: Resources = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &resources);
        // The same content has the same text, so that replicas agree on its version.
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), json);
        let delta = Delta::between(&Resources::default(), &resources);
        let back: Delta = serde_json::from_str(&serde_json::to_string(&delta).unwrap()).unwrap();
        prop_assert_eq!(back, delta);
    }

    #[test]
    fn replicas_agree_on_the_version(resources in any::resources(), others in any::resources()) {
        let (straight, detour) = (Publisher::new(), Publisher::new());
        straight.publish(&Delta::between(&Resources::default(), &resources));
        detour.publish(&Delta::between(&Resources::default(), &others));
        detour.publish(&Delta::between(&others, &resources));
        prop_assert_eq!(straight.version(), detour.version());
        prop_assert_eq!(straight.size(), detour.size());
    }
}

#[test]
fn what_an_older_controller_does_not_send_is_the_default() {
    let json = r#"{"service": {"kind": "service", "name": "web"}, "port": 80, "endpoints": "web:80",
        "protocol": "http1", "of a newer controller": {"a": [1, 2]}}"#;
    // Kinds of Kubernetes are spelled as Kubernetes does.
    let json = json.replace("\"service\", \"name\"", "\"Service\", \"name\"");
    let pool: Pool = serde_json::from_str(&json).unwrap();
    assert_eq!(pool.policy, propylon_model::PoolPolicy::default());
    let endpoints: Endpoints = serde_json::from_str(r#"{"endpoints": [{"address": "10.0.0.1:80"}]}"#).unwrap();
    assert_eq!(endpoints.endpoints[0].weight, 1);
    let group = r#"{"source": {"kind": "Ingress", "name": "web"}, "host": "*.a.test",
        "rules": [{"path": {"prefix": "/a"}, "action": {"forward": "web:80"}}]}"#;
    let group: RouteGroup = serde_json::from_str(group).unwrap();
    assert_eq!(group.rules[0].policy, RoutePolicy::default());
}

#[test]
fn names_that_are_none_are_refused() {
    for host in ["10.0.0.1", "a..b", "*."] {
        assert!(
            serde_json::from_str::<propylon_model::HostPattern>(&format!("\"{host}\"")).is_err(),
            "{host}"
        );
    }
    for path in ["a", "/%2f", "/%00"] {
        assert!(
            serde_json::from_str::<propylon_model::NormalPath>(&format!("\"{path}\"")).is_err(),
            "{path}"
        );
    }
}

#[test]
fn a_key_is_never_printed() {
    let certificate = Arc::new(build::certificate(b"the secret"));
    let value = Value::Certificate(Arc::clone(&certificate));
    let encoded = Encoded::new(ResourceKey::new(ResourceKind::Certificate, "shop/tls"), &value).unwrap();
    let json = String::from_utf8(encoded.payload.to_vec()).unwrap();
    let base64 = "dGhlIHNlY3JldA==";
    assert!(json.contains(base64), "{json}");
    let resource = propylon_wire::message::Resource {
        payload: encoded.payload.clone(),
        ..propylon_wire::message::Resource::default()
    };
    let response = propylon_wire::message::Response {
        resources: vec![resource],
        ..propylon_wire::message::Response::default()
    };
    for printed in [
        format!("{encoded:?}"),
        format!("{value:?}"),
        format!("{certificate:?}"),
        format!("{response:?}"),
    ] {
        assert!(
            !printed.contains(base64) && !printed.contains("the secret"),
            "{printed}"
        );
        assert!(!printed.contains("116, 104, 101"), "{printed}");
    }
    let broken = json.replace(base64, "the secret?");
    let error = serde_json::from_str::<propylon_model::Certificate>(&broken)
        .unwrap_err()
        .to_string();
    assert!(!error.contains("the secret"), "{error}");
}

#[test]
fn content_that_does_not_change_makes_no_generation() {
    let publisher = Publisher::new();
    let first = publisher.publish(&Delta::default());
    assert_eq!((first.0, publisher.version()), (1, propylon_wire::StateVersion::EMPTY));
    let second = publisher.publish(&build::world(3, 2));
    assert_eq!(second.0, 2);
    assert_eq!(publisher.publish(&build::world(3, 2)), second);
    let mut delta = Delta::default();
    delta.pools.insert(PoolName::new("never there"), None);
    assert_eq!(publisher.publish(&delta), second);
    assert_eq!(publisher.generation_of(publisher.version()), Some(second));
    assert_eq!(publisher.generation_of(propylon_wire::StateVersion::EMPTY), Some(first));
}

//! Where clients reach the proxies.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::Service;

use super::plan::Address;

/// The addresses for the status of Ingresses, in order: those that the operator gives, else those of the published Service,
/// else those of the nodes with a ready proxy. Empty: not known (yet).
pub fn published(given: &[String], service: Option<Option<&Service>>, nodes: &BTreeSet<IpAddr>) -> Vec<Address> {
    if !given.is_empty() {
        let addresses: BTreeSet<Address> = given.iter().map(|text| Address::read(text.trim())).collect();
        return addresses.into_iter().collect();
    }
    match service {
        Some(service) => service.map(of_service).unwrap_or_default().into_iter().collect(),
        None => nodes.iter().copied().map(Address::Ip).collect(),
    }
}

/// What the status of the Service says, else its external addresses; of one that has neither by its type, its own.
fn of_service(service: &Service) -> BTreeSet<Address> {
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let entries = status.flat_map(|status| status.ingress.iter().flatten());
    let of_status: BTreeSet<Address> = entries
        .filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()))
        .map(Address::read)
        .collect();
    let spec = service.spec.as_ref();
    let external = spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    let external: BTreeSet<Address> = external.map(|text| Address::read(text)).collect();
    let is_load_balancer = spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    if !of_status.is_empty() || !external.is_empty() || is_load_balancer {
        return of_status.into_iter().chain(external).collect();
    }
    let own = spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    own.filter(|text| *text != "None")
        .map(|text| Address::read(text))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(addresses: &[Address]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "json!() is written where it is passed")]
    fn service(spec: serde_json::Value, ingress: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}))
            .unwrap()
    }

    #[test]
    fn what_is_given_goes_before_the_service_and_that_before_the_nodes() {
        let nodes: BTreeSet<IpAddr> = ["2001:db8::1", "10.0.0.2", "10.0.0.1"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(
            texts(&published(&[], None, &nodes)),
            ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
        );
        assert_eq!(
            texts(&published(
                &["lb.example.com".into(), "192.0.2.1".into()],
                Some(None),
                &nodes
            )),
            ["192.0.2.1", "lb.example.com"]
        );
        assert!(
            published(&[], Some(None), &nodes).is_empty(),
            "a Service that is not there yet is waited for"
        );
    }

    #[test]
    fn a_service_publishes_its_status_its_external_addresses_or_its_own() {
        let of = |spec, ingress| texts(&published(&[], Some(Some(&service(spec, ingress))), &BTreeSet::new()));
        assert_eq!(
            of(
                json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]}),
                json!([{"ip": "192.0.2.7"}])
            ),
            ["192.0.2.7"]
        );
        assert!(of(json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]}), json!([])).is_empty());
        assert_eq!(
            of(json!({"type": "NodePort", "externalIPs": ["192.0.2.8"]}), json!([])),
            ["192.0.2.8"]
        );
        assert_eq!(
            of(json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"]}), json!([])),
            ["10.96.0.1"]
        );
    }
}

//! What is kept of objects in memory: what some part of the controller reads, and no more.

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, Node, Pod, PodSpec, PodStatus, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use propylon_crds::IPAddressPool;

/// The manifest that `kubectl apply` leaves on an object, as large as the object itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The data of Secrets that are read.
const SECRET_KEYS: &[&str] = &["tls.crt", "tls.key", "ca.crt"];

/// Drops what is not read of an object.
pub trait Trim {
    /// Drops what is not read.
    fn trim(&mut self);
}

impl Trim for Ingress {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for IngressClass {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for Service {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for ConfigMap {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.binary_data = None;
    }
}

impl Trim for IPAddressPool {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for Lease {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
    }
}

impl Trim for EndpointSlice {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
        for endpoint in &mut self.endpoints {
            endpoint.deprecated_topology = None;
            endpoint.hostname = None;
            if let Some(target) = &mut endpoint.target_ref {
                target.api_version = None;
                target.field_path = None;
                target.resource_version = None;
                target.uid = None;
            }
        }
    }
}

impl Trim for Secret {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
        self.string_data = None;
        if let Some(data) = &mut self.data {
            data.retain(|name, _| SECRET_KEYS.contains(&name.as_str()));
        }
    }
}

impl Trim for Namespace {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
        self.spec = None;
        self.status = None;
    }
}

impl Trim for Node {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
        if let Some(status) = self.status.take() {
            // Above all without the list of images.
            self.status = Some(k8s_openapi::api::core::v1::NodeStatus {
                addresses: status.addresses,
                conditions: status.conditions,
                ..Default::default()
            });
        }
    }
}

impl Trim for Pod {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
        if let Some(spec) = self.spec.take() {
            self.spec = Some(PodSpec {
                host_network: spec.host_network,
                node_name: spec.node_name,
                ..PodSpec::default()
            });
        }
        if let Some(status) = self.status.take() {
            self.status = Some(PodStatus {
                conditions: status.conditions,
                host_ip: status.host_ip,
                host_ips: status.host_ips,
                phase: status.phase,
                pod_ip: status.pod_ip,
                pod_ips: status.pod_ips,
                ..PodStatus::default()
            });
        }
    }
}

/// Drops what nobody reads of the metadata of any object.
pub fn trim_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn of_a_secret_only_certificate_key_and_authorities_stay() {
        let mut secret = Secret {
            data: Some(
                ["tls.crt", "tls.key", "ca.crt", "password"]
                    .map(|name| (name.to_owned(), ByteString(b"x".to_vec())))
                    .into(),
            ),
            ..Secret::default()
        };
        secret.metadata.managed_fields = Some(Vec::new());
        secret.trim();
        assert_eq!(
            secret.data.unwrap().into_keys().collect::<Vec<_>>(),
            ["ca.crt", "tls.crt", "tls.key"]
        );
        assert!(secret.metadata.managed_fields.is_none());
    }

    #[test]
    fn of_an_ingress_annotations_stay_without_the_applied_manifest() {
        let mut ingress = Ingress::default();
        let annotations = [(LAST_APPLIED, "{}"), ("propylon.dev/retries", "1")];
        ingress.metadata.annotations = Some(
            annotations
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        );
        ingress.trim();
        let left: Vec<String> = ingress.metadata.annotations.unwrap().into_keys().collect();
        assert_eq!(left, ["propylon.dev/retries"]);
    }
}

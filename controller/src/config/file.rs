//! The file of settings (`--config`), as it is written.

use serde::Deserialize;

use super::{StatusMode, settings::LbPath};

/// The file of settings: YAML, every field optional. A field that is unknown is an error, so that a slip of the pen does
/// not go unnoticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// `--ingress-class`.
    pub ingress_classes: Option<Vec<String>>,
    /// `--default-tls-secret`, `NAMESPACE/NAME`.
    pub default_tls_secret: Option<String>,
    /// `--tcp-services-configmap`, `NAMESPACE/NAME`.
    pub tcp_services_config_map: Option<String>,
    /// `--udp-services-configmap`, `NAMESPACE/NAME`.
    pub udp_services_config_map: Option<String>,
    /// `--external-name`.
    pub external_name: Option<bool>,
    /// `--allow-local-endpoints`.
    pub allow_local_endpoints: Option<bool>,
    /// `--cluster-domain`.
    pub cluster_domain: Option<String>,
    /// `--publish-service`, `NAMESPACE/NAME`.
    pub publish_service: Option<String>,
    /// `--publish-address`.
    pub publish_addresses: Option<Vec<String>>,
    /// How status is written.
    pub status: StatusFile,
    /// `LoadBalancer` Services.
    pub lb: LbFile,
}

/// `status` of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StatusFile {
    /// `--status-mode`.
    pub mode: Option<StatusMode>,
}

/// `lb` of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LbFile {
    /// `--lb-serve-classless`.
    pub serve_classless: Option<bool>,
    /// `--lb-default-path`.
    pub default_path: Option<LbPath>,
    /// `--lb-node-address-ports`, ranges such as `1024-29999`.
    pub node_address_ports: Option<Vec<String>>,
    /// Pools that the leader applies as `IPAddressPool`.
    pub pools: Vec<NamedSpec>,
    /// Advertisements that the leader applies as `L2Advertisement`.
    pub l2_advertisements: Vec<NamedSpec>,
    /// Peers that the leader applies as `BGPPeer`.
    pub bgp_peers: Vec<NamedSpec>,
    /// Advertisements that the leader applies as `BGPAdvertisement`.
    pub bgp_advertisements: Vec<NamedSpec>,
}

/// A custom resource that the release wants: a custom resource cannot be in the release that brings its definition, so
/// the leader applies it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedSpec {
    /// `metadata.name`.
    pub name: String,
    /// `spec`, as it is written beside the name; its owner reads it.
    #[serde(flatten)]
    pub spec: serde_json::Map<String, serde_json::Value>,
}

impl ConfigFile {
    /// Reads the text of a file; an empty one has no setting.
    ///
    /// # Errors
    /// When it is no YAML, or has a field that is unknown or of the wrong type; the text says where. Not retryable.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// This, and what `other` says where this says nothing. Lists of custom resources are those of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ingress_classes: self.ingress_classes.or(other.ingress_classes),
            default_tls_secret: self.default_tls_secret.or(other.default_tls_secret),
            tcp_services_config_map: self.tcp_services_config_map.or(other.tcp_services_config_map),
            udp_services_config_map: self.udp_services_config_map.or(other.udp_services_config_map),
            external_name: self.external_name.or(other.external_name),
            allow_local_endpoints: self.allow_local_endpoints.or(other.allow_local_endpoints),
            cluster_domain: self.cluster_domain.or(other.cluster_domain),
            publish_service: self.publish_service.or(other.publish_service),
            publish_addresses: self.publish_addresses.or(other.publish_addresses),
            status: StatusFile {
                mode: self.status.mode.or(other.status.mode),
            },
            lb: self.lb.or(other.lb),
        }
    }
}

impl LbFile {
    fn or(self, other: Self) -> Self {
        let both = |one: Vec<NamedSpec>, two: Vec<NamedSpec>| one.into_iter().chain(two).collect();
        Self {
            serve_classless: self.serve_classless.or(other.serve_classless),
            default_path: self.default_path.or(other.default_path),
            node_address_ports: self.node_address_ports.or(other.node_address_ports),
            pools: both(self.pools, other.pools),
            l2_advertisements: both(self.l2_advertisements, other.l2_advertisements),
            bgp_peers: both(self.bgp_peers, other.bgp_peers),
            bgp_advertisements: both(self.bgp_advertisements, other.bgp_advertisements),
        }
    }
}

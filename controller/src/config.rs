//! The controller's configuration: flags once at the start, and a file that may change while it runs.
//!
//! [`ControllerArgs`] is what the command line says, [`Config`] what stays for the life of the process, [`Settings`] what
//! a change of the file (`--config`, the chart's `ConfigMap`) changes. A flag wins over the file, the file over the default.

mod file;
mod settings;
mod values;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use propylon_translate::Key;

use crate::identity::{self, IdentityArgs};
use values::{parse_key, parse_ranges};

pub use file::{ConfigFile, LbFile, NamedSpec, StatusFile};
pub use settings::{LbPath, LbSettings, Settings};
pub use values::{PortRange, ValueError};

/// Namespace where neither a flag nor the pod says one.
const NAMESPACE: &str = "propylon";

/// Flags of `propylon-controller`; each is also an environment variable.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Namespace that Propylon is installed in: its Leases, its certificate authority, its Services
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = NAMESPACE)]
    pub namespace: String,
    /// Name of this pod (default: the name of the host)
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// Serve exactly these classes, whatever their controller (repeatable; default: the classes whose controller is ours)
    #[arg(long, value_name = "NAME", env = "PROPYLON_INGRESS_CLASS", value_delimiter = ',')]
    pub ingress_class: Vec<String>,
    /// Certificate where nothing matches (default: self-signed)
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_DEFAULT_TLS_SECRET", value_parser = parse_key)]
    pub default_tls_secret: Option<Key>,
    /// Service whose addresses go into the status of Ingresses
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_PUBLISH_SERVICE", value_parser = parse_key)]
    pub publish_service: Option<Key>,
    /// Address or host name that goes into the status of Ingresses (repeatable; wins over the Service)
    #[arg(long, value_name = "ADDR", env = "PROPYLON_PUBLISH_ADDRESS", value_delimiter = ',')]
    pub publish_address: Vec<String>,
    /// Whether the status of Ingresses is written: over whatever is there, unless another controller wrote it, or not at all
    /// (default: Always)
    #[arg(long, value_enum, env = "PROPYLON_STATUS_MODE")]
    pub status_mode: Option<StatusMode>,
    /// Whether Services of type `LoadBalancer` without a class are ours (default: true)
    #[arg(long, value_name = "BOOL", env = "PROPYLON_LB_SERVE_CLASSLESS")]
    pub lb_serve_classless: Option<bool>,
    /// Who serves a Service that says nothing (default: kernel where a node agent announces, else proxy)
    #[arg(long, value_enum, env = "PROPYLON_LB_DEFAULT_PATH")]
    pub lb_default_path: Option<LbPath>,
    /// Ports that a Service may have on the nodes' own addresses (default: 1024-29999 without those of Kubernetes and ours)
    #[arg(long, value_name = "PORT-PORT,...", env = "PROPYLON_LB_NODE_ADDRESS_PORTS", value_parser = parse_ranges)]
    pub lb_node_address_ports: Option<Ranges>,
    /// Whether one of several replicas is elected to write status; off: this one always does
    #[arg(long, value_enum, env = "PROPYLON_LEADER_ELECTION", default_value_t)]
    pub leader_election: Switch,
    /// Where the proxies' stream is served (mutual TLS)
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_STREAM",
        default_value = "0.0.0.0:7443"
    )]
    pub stream: SocketAddr,
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are served
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_STATUS",
        default_value = "0.0.0.0:8081"
    )]
    pub status: SocketAddr,
    /// Where what tells of the configuration is served: loopback only
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_ADMIN",
        default_value = "127.0.0.1:9902"
    )]
    pub admin: SocketAddr,
    /// Who is who on the stream
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// File of settings (YAML), read again when it changes
    #[arg(long, value_name = "FILE", env = "PROPYLON_CONFIG")]
    pub config: Option<PathBuf>,
    /// How to reach the API server from outside of a cluster (default: the pod's own account, else the usual files)
    #[arg(long, value_name = "FILE", env = "PROPYLON_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Read Secrets in these namespaces only (repeatable; default: in all)
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "PROPYLON_SECRETS_SCOPE",
        value_delimiter = ','
    )]
    pub secrets_scope: Vec<String>,
    /// `ConfigMap` of TCP ports in the form of ingress-nginx ("9000": "NS/SVC:PORT:PROXY:PROXY")
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_TCP_SERVICES_CONFIGMAP", value_parser = parse_key)]
    pub tcp_services_configmap: Option<Key>,
    /// `ConfigMap` of UDP ports in the form of ingress-nginx ("53": "NS/SVC:PORT")
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_UDP_SERVICES_CONFIGMAP", value_parser = parse_key)]
    pub udp_services_configmap: Option<Key>,
    /// Whether Services of type `ExternalName` are served (default: off)
    #[arg(long, value_enum, env = "PROPYLON_EXTERNAL_NAME", num_args = 0..=1, default_missing_value = "on")]
    pub external_name: Option<Switch>,
    /// Whether endpoints may be loopback and link-local addresses (default: off; for tests)
    #[arg(long, value_enum, env = "PROPYLON_ALLOW_LOCAL_ENDPOINTS", num_args = 0..=1, default_missing_value = "on")]
    pub allow_local_endpoints: Option<Switch>,
    /// DNS domain of the cluster, whose names no `ExternalName` Service may have (default: cluster.local)
    #[arg(long, value_name = "DOMAIN", env = "PROPYLON_CLUSTER_DOMAIN")]
    pub cluster_domain: Option<String>,
    /// What is logged to standard error: a level, or TARGET=LEVEL,...
    #[arg(
        long,
        value_name = "FILTER",
        env = "PROPYLON_LOG",
        default_value = "info,kube_runtime=error,kube_client=off"
    )]
    pub log: String,
}

/// Ranges of ports, as one value of a flag.
pub type Ranges = std::sync::Arc<[PortRange]>;

/// Whether the status of an Ingress is written where another controller may write it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum StatusMode {
    /// Written over whatever is there.
    #[default]
    Always,
    /// Not written where another controller wrote it.
    Yield,
    /// Not written.
    Never,
}

/// A feature that is on unless it is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// What stays as it is for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the release: Leases, certificate authority, our own Services.
    pub namespace: String,
    /// This pod's name; the identity in Leases and Events.
    pub pod_name: String,
    /// Whether one of several replicas is elected.
    pub leader_election: bool,
    /// Where the proxies' stream is served.
    pub stream: SocketAddr,
    /// Who is who there.
    pub identity: identity::Settings,
    /// Where probes and metrics are served.
    pub status: SocketAddr,
    /// Where what tells of the configuration is served.
    pub admin: SocketAddr,
    /// File of settings.
    pub file: Option<PathBuf>,
    /// How to reach the API server; none: the pod's own account, else the usual files.
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces in which Secrets are read; empty: all.
    pub secrets_scope: Vec<String>,
    /// What is logged.
    pub log: String,
    /// What the flags say of the settings; the file fills in the rest.
    pub flags: ConfigFile,
}

impl ControllerArgs {
    /// What the flags come to. `host_name` stands in for `--pod-name`.
    pub fn into_config(self, host_name: &str) -> Config {
        let flags = ConfigFile {
            ingress_classes: not_empty(self.ingress_class),
            default_tls_secret: self.default_tls_secret.as_ref().map(ToString::to_string),
            tcp_services_config_map: self.tcp_services_configmap.as_ref().map(ToString::to_string),
            udp_services_config_map: self.udp_services_configmap.as_ref().map(ToString::to_string),
            external_name: self.external_name.map(Switch::is_on),
            allow_local_endpoints: self.allow_local_endpoints.map(Switch::is_on),
            cluster_domain: self.cluster_domain,
            publish_service: self.publish_service.as_ref().map(ToString::to_string),
            publish_addresses: not_empty(self.publish_address),
            status: StatusFile { mode: self.status_mode },
            lb: LbFile {
                serve_classless: self.lb_serve_classless,
                default_path: self.lb_default_path,
                node_address_ports: self
                    .lb_node_address_ports
                    .map(|ranges| ranges.iter().map(ToString::to_string).collect()),
                ..LbFile::default()
            },
        };
        Config {
            identity: self.identity.into_settings(&self.namespace),
            namespace: self.namespace,
            pod_name: self.pod_name.unwrap_or_else(|| host_name.to_owned()),
            leader_election: self.leader_election.is_on(),
            stream: self.stream,
            status: self.status,
            admin: self.admin,
            file: self.config,
            kubeconfig: self.kubeconfig,
            secrets_scope: self.secrets_scope,
            log: self.log,
            flags,
        }
    }
}

fn not_empty(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests;

//! Who is who on the stream: the certificate authority, the controllers' own certificates, and those of the proxies.
//!
//! What it is: the leader keeps the authority in the Secret `propylon-ca` and publishes whom to trust in the `ConfigMap`
//! `propylon-trust` ([`Identity::keep`]); every replica reads the Secret, makes a server certificate for itself, and issues
//! client certificates to the proxies, for a token that the API server vouches for ([`Identity::follow`],
//! [`Identity::serve`]). When what is made or replaced is decided in [`plan`], without I/O.
//!
//! What it is not: it knows nothing of what travels on the stream.
//!
//! Start from [`Identity`]; `docs/identity.md` tells the whole course.

pub mod authority;
mod follow;
mod issue;
mod keep;
mod material;
pub mod plan;
pub mod review;
pub mod secret;
mod serve;

use std::{net::IpAddr, sync::Arc, time::Duration};

use clap::Args;
use kube::Client;
use propylon_model::duration::{DurationError, parse_duration, parse_duration_within};
use propylon_wire::Issuer;
use tokio::{net::TcpListener, sync::watch};

use issue::ProxyIssuer;
use material::{Material, Names};
use plan::Times;
use review::Expected;

/// The Secret of the authority, in the namespace of the release.
pub const SECRET: &str = "propylon-ca";
/// The `ConfigMap` of what is trusted, beside it.
pub const CONFIG_MAP: &str = "propylon-trust";
/// Its key.
pub const TRUST_KEY: &str = "ca.crt";
/// Annotation of the Secret that asks for a new authority; any value.
pub const ROTATE: &str = "propylon.dev/rotate";

/// Flags of the controller's identity; each is also an environment variable.
#[derive(Args, Clone, Debug)]
pub struct IdentityArgs {
    /// `ServiceAccount` of the proxies, in the namespace of the controller; only its pods get certificates
    #[arg(
        long,
        value_name = "NAME",
        env = "PROPYLON_PROXY_SERVICE_ACCOUNT",
        default_value = "propylon-proxy"
    )]
    pub proxy_service_account: String,
    /// How long an authority is valid; the next one is made when a third of that is left
    #[arg(long, value_name = "DURATION", env = "PROPYLON_CA_LIFETIME", default_value = "8760h", value_parser = parse_lifetime)]
    pub ca_lifetime: Duration,
    /// How long a new authority is published before it signs
    #[arg(long, value_name = "DURATION", env = "PROPYLON_CA_OVERLAP", default_value = "1h", value_parser = parse_duration)]
    pub ca_overlap: Duration,
    /// How long certificates of proxies and controllers are valid; they are renewed after two thirds of it
    #[arg(long, value_name = "DURATION", env = "PROPYLON_CERTIFICATE_LIFETIME", default_value = "24h", value_parser = parse_duration)]
    pub certificate_lifetime: Duration,
    /// Address of this pod, in its server certificate beside its names (downward API: `status.podIP`)
    #[arg(long, value_name = "ADDR", env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
}

/// What the identity of one controller is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the release.
    pub namespace: String,
    /// The `ServiceAccount` of the proxies.
    pub proxy_service_account: String,
    /// How long things last.
    pub times: Times,
    /// Addresses of this replica.
    pub addresses: Vec<IpAddr>,
}

impl IdentityArgs {
    /// The settings of a controller of this namespace.
    pub fn into_settings(self, namespace: &str) -> Settings {
        Settings {
            namespace: namespace.to_owned(),
            proxy_service_account: self.proxy_service_account,
            times: Times {
                authority: self.ca_lifetime,
                overlap: self.ca_overlap,
                leaf: self.certificate_lifetime,
            },
            addresses: self.pod_ip.into_iter().collect(),
        }
    }
}

impl Settings {
    fn expected(&self) -> Expected {
        Expected {
            namespace: self.namespace.clone(),
            service_account: self.proxy_service_account.clone(),
        }
    }

    fn names(&self) -> Names {
        Names {
            hosts: vec![server_name(&self.namespace), "localhost".to_owned()],
            addresses: self.addresses.clone(),
            leaf: self.times.leaf,
        }
    }
}

/// The name in the controllers' certificates: `propylon-controller.NAMESPACE.svc`, whatever the Service is called.
pub fn server_name(namespace: &str) -> String {
    format!("propylon-controller.{namespace}.svc")
}

/// The identity of one replica; clones are the same one.
#[derive(Clone, Debug)]
pub struct Identity {
    shared: Arc<Shared>,
}

/// What the parts share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// None before the authority was first read.
    material: watch::Sender<Option<Arc<Material>>>,
}

impl Identity {
    /// An identity that has no authority yet: [`Identity::follow`] finds it.
    pub fn new(settings: Settings) -> Self {
        let material = watch::Sender::new(None);
        Self {
            shared: Arc::new(Shared { settings, material }),
        }
    }

    /// Whether there is an authority: before, no proxy can connect.
    pub fn is_ready(&self) -> bool {
        self.shared.material.borrow().is_some()
    }

    /// Follows the Secret of the authority; never ends by itself.
    ///
    /// # Cancel safety
    /// Can be cancelled at any time.
    pub async fn follow(&self, client: Client) {
        follow::follow(client, Arc::clone(&self.shared)).await;
    }

    /// Keeps the authority and what is trusted; to be run on the leader, and cancelled when it leads no more. Never ends by
    /// itself.
    ///
    /// # Cancel safety
    /// Can be cancelled at any time; the next leader goes on.
    pub async fn keep(&self, client: Client) {
        keep::keep(client, &self.shared.settings).await;
    }

    /// Answers requests for certificates.
    pub fn issuer(&self, client: Client) -> Arc<dyn Issuer> {
        Arc::new(ProxyIssuer {
            shared: Arc::clone(&self.shared),
            client,
        })
    }

    /// Accepts connections, authenticates them, and has `server` serve them (with [`Identity::issuer`] as its issuer), until
    /// `stop`; then ends them.
    pub async fn serve(&self, listener: TcpListener, server: propylon_wire::Server, stop: impl Future<Output = ()>) {
        serve::serve(&self.shared, listener, server, stop).await;
    }
}

/// Of an authority: up to ten years.
fn parse_lifetime(text: &str) -> Result<Duration, DurationError> {
    parse_duration_within(text, Duration::from_secs(1), Duration::from_hours(87_600))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        identity: IdentityArgs,
    }

    #[test]
    fn the_defaults_are_within_their_ranges() {
        let flags = Flags::try_parse_from(["propylon-controller"]).unwrap();
        let times = flags.identity.into_settings("propylon-system").times;
        assert_eq!(times.authority, Duration::from_hours(8760));
        assert_eq!(
            (times.overlap, times.leaf),
            (Duration::from_hours(1), Duration::from_hours(24))
        );
    }
}

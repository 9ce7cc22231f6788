//! Services of type `ExternalName`: which names may be asked for, and which must not.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use propylon_model::ReportReason;

use super::port::Target;
use crate::{
    endpoints::{is_local, is_never_allowed},
    facts::Facts,
    world::{Key, Options},
};

/// Why an external name is not used.
pub(crate) enum Denied {
    /// `--external-name off`.
    Off,
    /// An address of the proxy's own node, or one that nothing can be sent to.
    Address(String),
    /// A name of the cluster's own domain: what it means is decided by who may create Services, not by DNS.
    Cluster(String),
    /// A name without a dot, or of the own host.
    Local(String),
    /// A name that ends in a number, which some readers take for an address.
    Numeric(String),
}

impl Denied {
    /// The reason of the report.
    pub(super) const fn reason(&self) -> ReportReason {
        match self {
            Self::Off => ReportReason::ExternalNameUnsupported,
            _ => ReportReason::ExternalNameDenied,
        }
    }

    /// The report on `field`.
    pub(super) fn message(&self, field: &str, key: &Key, outcome: &str) -> String {
        let (what, what_next) = match self {
            Self::Off => (
                "is of type ExternalName, and --external-name is off".to_owned(),
                "switch it on, use a Service with an EndpointSlice, or --map",
            ),
            Self::Address(name) => (
                format!("has spec.externalName {name}, an address of the proxy's own node or of nobody"),
                "if a local address is meant, give --allow-local-endpoints",
            ),
            Self::Cluster(name) => (
                format!("has spec.externalName {name}, a name of the cluster's own domain"),
                "name the Service itself as the backend",
            ),
            Self::Local(name) => (
                format!("has spec.externalName {name}, a name of the proxy's own host or without a dot"),
                "give the full name; for a local process use --map",
            ),
            Self::Numeric(name) => (
                format!("has spec.externalName {name}, which ends in a number and is no address"),
                "give a name, or an address with four numbers",
            ),
        };
        format!("{field}: Service {key} {what}, so {outcome}; {what_next}")
    }
}

impl Facts<'_> {
    /// Where an `ExternalName` Service leads; the port is its `targetPort` where it lists the port, as for ingress-nginx.
    pub(super) fn external(
        &self,
        service: &Service,
        number: u16,
        port: Option<&ServicePort>,
    ) -> Result<Target, Denied> {
        if !self.options.external_name {
            return Err(Denied::Off);
        }
        let target = match port.and_then(|port| port.target_port.as_ref()) {
            Some(IntOrString::Int(target)) => u16::try_from(*target).ok().filter(|target| *target > 0),
            _ => None,
        };
        let port = target.unwrap_or(number);
        let spec = service.spec.as_ref();
        let name = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            if is_never_allowed(address) || (is_local(address) && !self.options.allow_local_endpoints) {
                return Err(Denied::Address(name));
            }
            return Ok(Target::Address((address, port).into()));
        }
        allowed(&name, self.options)?;
        Ok(Target::External {
            host: Arc::from(name),
            port,
        })
    }
}

/// Whether a name (lower case, no trailing dot) may be asked for.
fn allowed(name: &str, options: &Options) -> Result<(), Denied> {
    let is_below = |domain: &str| {
        let rest = name.strip_suffix(domain);
        !domain.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let domain = options.cluster_domain.to_ascii_lowercase();
    if is_below("cluster.local") || is_below("svc") || is_below(domain.trim_matches('.')) {
        return Err(Denied::Cluster(name.to_owned()));
    }
    if !name.contains('.') || is_below("localhost") || is_below("localdomain") {
        return Err(Denied::Local(name.to_owned()));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = |text: &str| {
        text.strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if last.bytes().all(|byte| byte.is_ascii_digit()) || is_hex(last) {
        return Err(Denied::Numeric(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_cluster_and_of_the_own_host_are_refused() {
        let options = Options {
            cluster_domain: "Corp.Example".to_owned(),
            ..Options::default()
        };
        for name in [
            "web.default.svc.cluster.local",
            "cluster.local",
            "a.svc",
            "api.corp.example",
        ] {
            assert!(matches!(allowed(name, &options), Err(Denied::Cluster(_))), "{name}");
        }
        for name in ["localhost", "a.localhost", "web", "localhost.localdomain"] {
            assert!(matches!(allowed(name, &options), Err(Denied::Local(_))), "{name}");
        }
        for name in ["127.1", "0x7f.0x1", "1.2.3.4.5"] {
            assert!(matches!(allowed(name, &options), Err(Denied::Numeric(_))), "{name}");
        }
        for name in [
            "api.example.com",
            "mycluster.local.example.com",
            "notcluster.local",
            "svc.example.com",
        ] {
            assert!(allowed(name, &options).is_ok(), "{name}");
        }
    }
}

//! Which ports of a Service terminate TLS, and with what.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use propylon_model::{CertificateName, Kind, L4Protocol, ObjectRef, ReportReason};

use super::{Compile, services};
use crate::{
    annotations::{PREFIX, TLS_PORTS, TLS_SECRET},
    endpoints::is_of,
    grants,
    reports::Reports,
    settings::Settings,
    world::{Key, PortRef, World},
};

/// The Secret that the ports of a Service terminate TLS with.
pub(crate) fn secret(key: &Key, service: &Service, settings: &Settings, world: &World) -> Option<Key> {
    let name = settings.name(TLS_SECRET).filter(|_| services::is_ours(service))?;
    let secret = grants::named(&key.namespace, name);
    grants::allows(world, Kind::Service, &key.namespace, &secret).then_some(secret)
}

/// How the TCP ports of a Service treat TLS.
pub(super) struct Termination {
    /// The ports; none: all.
    ports: Option<Arc<[PortRef]>>,
    /// The certificate; else why there is none.
    certificate: Result<CertificateName, String>,
}

impl Compile<'_, '_> {
    /// How a Service terminates TLS; none where it does not.
    pub(super) fn termination(
        &mut self,
        key: &Key,
        settings: &Settings,
        ports: &[ServicePort],
        object: &ObjectRef,
    ) -> Option<Termination> {
        if !settings.has(TLS_SECRET) && !settings.has(TLS_PORTS) {
            return None;
        }
        let chosen = settings.tls_ports();
        report_unknown(chosen.as_deref().unwrap_or_default(), ports, object, self.reports);
        let field = format!("metadata.annotations[{PREFIX}{TLS_SECRET}]");
        let certificate = match settings.name(TLS_SECRET) {
            Some(secret) => {
                let secret = grants::named(&key.namespace, secret);
                let world = self.backends.facts.world;
                if !grants::allows(world, Kind::Service, &key.namespace, &secret) {
                    let by = (Kind::Service, &*key.namespace);
                    grants::report_denied(by, object, TLS_SECRET, &secret, self.reports);
                    Err(format!(
                        "{field} names a Secret of another namespace that it may not use; see there"
                    ))
                } else if self.certificates.has(&secret) {
                    Ok(CertificateName::new(secret.to_string()))
                } else if world.secrets.contains_key(&secret) {
                    Err(format!(
                        "Secret {secret} ({field}) holds no usable certificate and key; put them there"
                    ))
                } else {
                    Err(format!("Secret {secret} ({field}) does not exist; create it"))
                }
            }
            None if settings.has(TLS_SECRET) => Err(format!("{field} names no Secret; correct it")),
            None => Err(format!("there is no {field}; name the Secret of the certificate there")),
        };
        Some(Termination {
            ports: chosen,
            certificate,
        })
    }

    /// The certificate of a TCP port that terminates TLS, none for one that does not; an error for one that would and
    /// cannot, which is reported and must not be served in clear text.
    pub(super) fn certificate(
        &mut self,
        termination: Option<&Termination>,
        field: &str,
        port: &ServicePort,
        object: &ObjectRef,
    ) -> Result<Option<CertificateName>, ()> {
        let Some(termination) = termination else {
            return Ok(None);
        };
        let chosen = termination.ports.as_deref();
        if chosen.is_some_and(|ports| !ports.iter().any(|wanted| is_meant(wanted, port))) {
            return Ok(None);
        }
        match &termination.certificate {
            Ok(name) => Ok(Some(name.clone())),
            Err(why) => {
                let (why, what_next) = why.split_once("; ").unwrap_or((why, ""));
                let message = format!(
                    "{field}: terminates TLS, and {why}, so the port is closed rather than served in clear text; {what_next}"
                );
                self.reports.add(object, ReportReason::PortNotServed, message);
                Err(())
            }
        }
    }
}

fn is_meant(wanted: &PortRef, port: &ServicePort) -> bool {
    match wanted {
        PortRef::Name(name) => port.name.as_deref() == Some(&**name),
        PortRef::Number(number) => port.port == i32::from(*number),
    }
}

fn report_unknown(wanted: &[PortRef], ports: &[ServicePort], object: &ObjectRef, reports: &mut Reports) {
    let is_tcp = |port: &&ServicePort| is_of(port.protocol.as_deref(), L4Protocol::Tcp);
    for wanted in wanted {
        if !ports.iter().filter(is_tcp).any(|port| is_meant(wanted, port)) {
            let message = format!(
                "metadata.annotations[{PREFIX}{TLS_PORTS}]: the Service has no TCP port {wanted}; name one of spec.ports"
            );
            reports.add(object, ReportReason::AnnotationInvalid, message);
        }
    }
}

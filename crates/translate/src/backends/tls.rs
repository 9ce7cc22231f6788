//! How the certificates of TLS backends are verified.

use propylon_model::{BackendTls, Kind, Refusal, ReportReason};

use super::{Backends, Port, authorities, port::Target, service_object};
use crate::{
    annotations::{BACKEND_CA_SECRET, BACKEND_SERVER_NAME, PREFIX},
    classes::Served,
    grants,
    reports::Reports,
    world::Key,
};

impl Backends<'_> {
    /// Reports settings for TLS backends on an Ingress that has none: its author expects encryption that is not there.
    pub(crate) fn report_without_tls(&self, ingress: &Served<'_>, reports: &mut Reports) {
        if self.has_tls {
            return;
        }
        for name in [BACKEND_CA_SECRET, BACKEND_SERVER_NAME] {
            if ingress.settings.has(name) {
                let message = format!(
                    "metadata.annotations[{PREFIX}{name}]: has no effect, because no backend of this Ingress speaks TLS; set \
                     appProtocol: https on the Service port"
                );
                reports.add(&ingress.object, ReportReason::AnnotationUnsupported, message);
            }
        }
    }

    /// How the certificates of a TLS backend are verified; fails closed where that cannot be done as asked.
    pub(super) fn tls(
        &mut self,
        ingress: Option<&Served<'_>>,
        key: &Key,
        port: &Port,
        reports: &mut Reports,
    ) -> Result<BackendTls, Refusal> {
        let owner = ingress.map_or_else(|| service_object(key), |ingress| ingress.object.clone());
        let settings = [
            (Kind::Ingress, ingress.map(|ingress| &ingress.settings)),
            (Kind::Service, self.facts.services.get(key)),
        ];
        let settings = settings.map(|(kind, settings)| Some((kind, settings?)));
        let first = |annotation: &str| settings.iter().flatten().find(|(_, settings)| settings.has(annotation));
        let server_name = first(BACKEND_SERVER_NAME)
            .and_then(|(_, settings)| settings.name(BACKEND_SERVER_NAME))
            .cloned();
        // An external name is what its server has a certificate for.
        let server_name = server_name.or_else(|| match &port.target {
            Target::External { host, .. } => Some(host.clone()),
            Target::Address(_) | Target::Slices => None,
        });
        let Some((kind, settings)) = first(BACKEND_CA_SECRET) else {
            let message = format!(
                "port {}: the certificates of this TLS backend are not verified; name a Secret with ca.crt in \
                 {PREFIX}{BACKEND_CA_SECRET}",
                port.label
            );
            reports.add(&owner, ReportReason::BackendTLSUnverified, message);
            return Ok(BackendTls {
                ca_der: None,
                server_name,
            });
        };
        let secret = settings
            .name(BACKEND_CA_SECRET)
            .map(|name| grants::named(&owner.namespace, name))
            .filter(|secret| {
                let is_allowed = grants::allows(self.facts.world, *kind, &owner.namespace, secret);
                if !is_allowed {
                    let by = (*kind, &*owner.namespace);
                    grants::report_denied(by, &owner, BACKEND_CA_SECRET, secret, reports);
                }
                is_allowed
            });
        self.needs.secrets.extend(secret.clone());
        match secret.and_then(|key| authorities::of(self.facts.world, self.memory, &owner, &key, reports)) {
            Some(ca_der) => Ok(BackendTls {
                ca_der: Some(ca_der),
                server_name,
            }),
            None => Err(Refusal::RestrictionUnsupported(
                format!("{PREFIX}{BACKEND_CA_SECRET}").into(),
            )),
        }
    }
}

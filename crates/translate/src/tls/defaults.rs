//! Hosts for which the default certificate is served.

use propylon_model::ReportReason;

use super::{Certificates, hosts_of};
use crate::{
    classes::Served,
    reports::{Reports, name_some},
};

/// Reports the `tls` entries of an Ingress that leave hosts to a default certificate that does not cover them.
pub(crate) fn report(ingress: &Served<'_>, certificates: &Certificates, reports: &mut Reports) {
    let default = certificates.default();
    let entries = ingress.ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    for (index, tls) in entries.enumerate() {
        let hosts = hosts_of(ingress, tls);
        let has_secret = tls.secret_name.as_deref().is_some_and(|name| !name.is_empty());
        let by_default = |host: &_| default.is_some_and(|pair| pair.covers(host));
        let bare: Vec<_> = hosts
            .iter()
            .filter(|host| !certificates.cover(host) && !by_default(host))
            .collect();
        let message = if hosts.is_empty() && (has_secret || default.is_none()) {
            format!(
                "spec.tls[{index}]: names no host, and neither do the rules, so the default certificate is served; list the \
                 hosts in spec.tls[{index}].hosts"
            )
        } else if !bare.is_empty() && !has_secret {
            let which = match default {
                Some(_) => "that of --default-tls-secret",
                None => "a self-signed one",
            };
            format!(
                "spec.tls[{index}]: has no secretName, and the default certificate, {which}, does not cover {}; name a \
                 Secret, or give a --default-tls-secret that does",
                name_some(&bare)
            )
        } else {
            continue;
        };
        reports.add(&ingress.object, ReportReason::DefaultCertificateServed, message);
    }
}

//! Certificates: which Secret serves which hosts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::IngressTLS;
use propylon_model::{HostName, HostPattern, ReportReason};

use crate::{
    classes::Served,
    memory::Memory,
    reports::{Reports, name_some},
    world::{Key, Options, World},
};

mod certificates;
pub(crate) mod defaults;
pub(crate) mod owners;
pub(crate) mod pair;

pub(crate) use certificates::{Certificates, Moved, Used, Users};

use owners::Hosts;

/// What is served in the place of a Secret that is of no use.
const DEFAULT_INSTEAD: &str = "the default certificate is served for its hosts";

/// What an Ingress wants of one Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    hosts: BTreeSet<HostPattern>,
    not_for: BTreeSet<HostName>,
}

/// The Secrets that an Ingress names, whether they exist or not.
pub(crate) type Claims = BTreeMap<Key, Claim>;

/// Reads the `tls` entries of Ingresses.
pub(crate) struct Claimant<'a> {
    pub(crate) world: &'a World,
    pub(crate) options: &'a Options,
    pub(crate) hosts: &'a Hosts,
    pub(crate) memory: &'a mut Memory,
    pub(crate) reports: &'a mut Reports,
}

impl Claimant<'_> {
    /// What an Ingress wants of the Secrets that it names.
    pub(crate) fn claims(&mut self, ingress: &Served<'_>) -> Claims {
        let mut claims = Claims::new();
        let entries = ingress.ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
        for (index, tls) in entries.enumerate() {
            self.add(ingress, &format!("spec.tls[{index}]"), tls, &mut claims);
        }
        claims
    }

    fn add(&mut self, ingress: &Served<'_>, field: &str, tls: &IngressTLS, claims: &mut Claims) {
        let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            return;
        };
        let key = Key::new(ingress.key.namespace.clone(), name);
        let claim = claims.entry(key.clone()).or_default();
        let Some(secret) = self.world.secrets.get(&key) else {
            let message = format!(
                "{field}.secretName: Secret {key} does not exist; a self-signed or the default certificate is served until it \
                 does; create it, or let cert-manager do so"
            );
            return self
                .reports
                .add(&ingress.object, ReportReason::TLSSecretNotFound, message);
        };
        let hosts = self.owned_hosts(ingress, field, tls, &key);
        let Some(pair) = self.memory.pair(&key, secret).usable().cloned() else {
            return;
        };
        let (covered, uncovered): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| pair.covers(host));
        self.serve(ingress, field, &key, &covered, claim);
        claim.hosts.extend(covered);
        if !uncovered.is_empty() {
            let names = match pair.names.as_slice() {
                [] => "it has no subjectAltName, and the common name does not count".to_owned(),
                names => format!("it is for {}", name_some(names)),
            };
            let message = format!(
                "{field}: the certificate of Secret {key} does not cover {} ({names}), so it is not served there; issue one \
                 that does",
                name_some(&uncovered)
            );
            self.reports
                .add(&ingress.object, ReportReason::TLSHostMismatch, message);
        }
    }

    /// Leaves out of wildcards the hosts below them that belong to other namespaces.
    fn serve(&mut self, ingress: &Served<'_>, field: &str, secret: &Key, hosts: &[HostPattern], claim: &mut Claim) {
        let foreign: Vec<_> = hosts.iter().flat_map(|host| self.hosts.foreign_below(host)).collect();
        claim.not_for.extend(foreign.iter().map(|(host, _)| host.clone()));
        // As the default certificate it may be served there all the same.
        if foreign.is_empty() || self.options.default_tls_secret.as_ref() == Some(secret) {
            return;
        }
        let owned = |(host, owner): &(HostName, &Key)| {
            let namespace = &owner.namespace;
            format!("{host} (namespace {namespace}, whose Ingress {owner} is the oldest that names it)")
        };
        let message = format!(
            "{field}: a wildcard does not take the hosts of other namespaces, so Secret {secret} is not served for {}; let \
             their owners name a Secret, or use another host",
            name_some(foreign.iter().map(owned))
        );
        self.reports.add(&ingress.object, ReportReason::TLSHostDenied, message);
    }

    /// The hosts of a `tls` entry that belong to the Ingress's namespace.
    fn owned_hosts(&mut self, ingress: &Served<'_>, field: &str, tls: &IngressTLS, secret: &Key) -> Vec<HostPattern> {
        let mut hosts = hosts_of(ingress, tls);
        hosts.retain(|host| {
            let Some(owner) = self.hosts.other_than(&ingress.key.namespace, host) else {
                return true;
            };
            let message = format!(
                "{field}: the host {host} belongs to the namespace {}, whose Ingress {owner} is the oldest that names it, so \
                 Secret {secret} is not served for it; ask its owners to serve the certificate, or use another host",
                owner.namespace
            );
            self.reports.add(&ingress.object, ReportReason::TLSHostDenied, message);
            false
        });
        hosts
    }
}

/// The hosts of a `tls` entry; where it names none, those of the rules.
fn hosts_of(ingress: &Served<'_>, tls: &IngressTLS) -> Vec<HostPattern> {
    let named = tls.hosts.as_deref().unwrap_or_default();
    let rules = ingress.ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    let texts: Vec<&str> = if named.is_empty() {
        rules.filter_map(|rule| rule.host.as_deref()).collect()
    } else {
        named.iter().map(String::as_str).collect()
    };
    let hosts = texts.into_iter().filter_map(|text| HostPattern::parse(text).ok());
    hosts
        .filter(|host| *host != HostPattern::Any)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

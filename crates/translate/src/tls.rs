//! Certificates: which Secret serves which hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressTLS;
use propylon_model::{Certificate, CertificateName, HostName, HostPattern, Kind, ObjectRef, ReportReason};

use crate::{
    classes::{Served, age, created_unix_s},
    memory::Memory,
    reports::{Reports, name_some},
    world::{Key, Options, World},
};

mod defaults;
pub(crate) mod owners;
pub(crate) mod pair;

use owners::Owners;
use pair::Pair;

/// Certificates that end within this time are reported.
const EXPIRING_S: i64 = 21 * 24 * 3600;

/// What is served in the place of a Secret that is of no use.
const DEFAULT_INSTEAD: &str = "the default certificate is served for its hosts";

/// The certificates of a compile.
#[derive(Default)]
pub(crate) struct Certificates {
    pub(crate) by_name: BTreeMap<CertificateName, Arc<Certificate>>,
    hosts: BTreeSet<HostPattern>,
    /// Hosts that no wildcard serves. All certificates of a wildcard are of its owner's namespace, so one set is enough.
    not_for: BTreeSet<HostName>,
    /// The default certificate, where the operator gave one that is usable.
    default: Option<Arc<Pair>>,
}

impl Certificates {
    /// Whether a host has a certificate Secret of its own, exact or wildcard; the default certificate does not count.
    pub(crate) fn cover(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Any => false,
            HostPattern::Exact(name) => {
                let by_wildcard = || {
                    let (_, suffix) = name.as_str().split_once('.')?;
                    let wildcard = HostPattern::parse(&format!("*.{suffix}")).ok()?;
                    Some(self.hosts.contains(&wildcard) && !self.not_for.contains(name))
                };
                self.hosts.contains(host) || by_wildcard().unwrap_or(false)
            }
            HostPattern::Wildcard(_) => self.hosts.contains(host),
        }
    }
}

/// Who names Secrets.
pub(crate) struct Users<'a> {
    /// The Ingresses, in order of age.
    pub(crate) served: &'a [Served<'a>],
    pub(crate) owners: &'a Owners<'a>,
    /// The Secrets that L4 ports terminate TLS with.
    pub(crate) l4: &'a BTreeSet<Key>,
}

/// Decides which Secret serves which hosts.
pub(crate) fn compile(
    world: &World,
    options: &Options,
    users: &Users<'_>,
    memory: &mut Memory,
    reports: &mut Reports,
) -> Certificates {
    let served = users.served;
    let mut uses = Uses {
        world,
        owners: users.owners,
        memory,
        reports,
        secrets: BTreeMap::new(),
    };
    for key in users.l4 {
        if let Some(entry) = uses.secret(key, "the ports that terminate TLS with it are closed") {
            entry.by_l4 = true;
        }
    }
    if let Some(key) = &options.default_tls_secret {
        uses.add_default(key);
    }
    for ingress in served {
        for (index, tls) in ingress
            .ingress
            .spec
            .iter()
            .flat_map(|spec| spec.tls.iter().flatten())
            .enumerate()
        {
            uses.add(ingress, &format!("spec.tls[{index}]"), tls);
        }
    }
    let Uses { secrets, reports, .. } = uses;
    let certificates = ranked(secrets, options.now_unix_s, reports);
    defaults::report(served, &certificates, reports);
    certificates
}

/// One Secret that is used.
struct Use {
    pair: Arc<Pair>,
    created_unix_s: Option<i64>,
    hosts: BTreeSet<HostPattern>,
    not_for: BTreeSet<HostName>,
    /// Whether an L4 port terminates TLS with it, which gives it no host.
    by_l4: bool,
}

struct Uses<'a> {
    world: &'a World,
    owners: &'a Owners<'a>,
    memory: &'a mut Memory,
    reports: &'a mut Reports,
    secrets: BTreeMap<Key, Use>,
}

impl Uses<'_> {
    fn add_default(&mut self, key: &Key) {
        let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
        if !self.world.secrets.contains_key(key) {
            let message =
                "--default-tls-secret: does not exist; a self-signed certificate is served where no other fits";
            return self.reports.add(&object, ReportReason::TLSSecretNotFound, message);
        }
        if let Some(entry) = self.secret(key, DEFAULT_INSTEAD) {
            entry.hosts.insert(HostPattern::Any);
        }
    }

    fn add(&mut self, ingress: &Served<'_>, field: &str, tls: &IngressTLS) {
        let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            return;
        };
        let key = Key::new(ingress.key.namespace.clone(), name);
        if !self.world.secrets.contains_key(&key) {
            let message = format!(
                "{field}.secretName: Secret {key} does not exist; a self-signed or the default certificate is served until it \
                 does; create it, or let cert-manager do so"
            );
            return self
                .reports
                .add(&ingress.object, ReportReason::TLSSecretNotFound, message);
        }
        let hosts = self.owned_hosts(ingress, field, tls, &key);
        let Some(pair) = self.secret(&key, DEFAULT_INSTEAD).map(|entry| Arc::clone(&entry.pair)) else {
            return;
        };
        let (covered, uncovered): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| pair.covers(host));
        self.serve(ingress, field, &key, covered);
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

    /// Gives a usable Secret its hosts; a wildcard leaves out the hosts below it that belong to other namespaces.
    fn serve(&mut self, ingress: &Served<'_>, field: &str, secret: &Key, hosts: Vec<HostPattern>) {
        let Some(entry) = self.secrets.get_mut(secret) else {
            return;
        };
        let foreign = || hosts.iter().flat_map(|host| self.owners.foreign_below(host));
        entry.not_for.extend(foreign().map(|(host, _)| host.clone()));
        // As the default certificate it may be served there all the same.
        if foreign().next().is_some() && !entry.hosts.contains(&HostPattern::Any) {
            let owned = |(host, owner): &(HostName, &Key)| {
                let namespace = &owner.namespace;
                format!("{host} (namespace {namespace}, whose Ingress {owner} is the oldest that names it)")
            };
            let message = format!(
                "{field}: a wildcard does not take the hosts of other namespaces, so Secret {secret} is not served for {}; let \
                 their owners name a Secret, or use another host",
                name_some(foreign().map(owned))
            );
            self.reports.add(&ingress.object, ReportReason::TLSHostDenied, message);
        }
        entry.hosts.extend(hosts);
    }

    /// The hosts of a `tls` entry that belong to the Ingress's namespace.
    fn owned_hosts(&mut self, ingress: &Served<'_>, field: &str, tls: &IngressTLS, secret: &Key) -> Vec<HostPattern> {
        let mut hosts = hosts_of(ingress, tls);
        hosts.retain(|host| {
            let Some(owner) = self.owners.other_than(&ingress.key.namespace, host) else {
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

    /// The use of a Secret that exists; none where it holds nothing usable and never did, and what happens then.
    fn secret(&mut self, key: &Key, otherwise: &str) -> Option<&mut Use> {
        let secret = self.world.secrets.get(key)?;
        if !self.secrets.contains_key(key) {
            let reading = self.memory.pair(key, secret);
            let usable = reading.usable().cloned();
            if let Err(why) = &reading.now {
                let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
                let instead = match usable {
                    Some(_) => "the last good certificate is still served",
                    None => otherwise,
                };
                let message = format!("{why}; {instead}; put a matching PEM certificate chain and key there");
                self.reports.add(&object, ReportReason::TLSSecretInvalid, message);
            }
            let pair = usable?;
            let created_unix_s = created_unix_s(&secret.metadata);
            self.secrets.insert(
                key.clone(),
                Use {
                    pair,
                    created_unix_s,
                    hosts: BTreeSet::new(),
                    not_for: BTreeSet::new(),
                    by_l4: false,
                },
            );
        }
        self.secrets.get_mut(key)
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

/// Gives the used Secrets their ranks: valid before not valid now, then the oldest, then by name.
///
/// A rank counts the certificates before it that share a host, so that a new one changes only those that it meets.
fn ranked(secrets: BTreeMap<Key, Use>, now_unix_s: i64, reports: &mut Reports) -> Certificates {
    let mut order: Vec<(Key, Use)> = secrets
        .into_iter()
        .filter(|(_, used)| used.by_l4 || !used.hosts.is_empty())
        .collect();
    order.sort_by_cached_key(|(key, used)| (!used.pair.is_valid_at(now_unix_s), age(used.created_unix_s, key)));
    let mut next_rank: BTreeMap<HostPattern, u32> = BTreeMap::new();
    let mut result = Certificates::default();
    for (key, used) in order {
        report_validity(&key, &used, now_unix_s, reports);
        let rank = used
            .hosts
            .iter()
            .filter_map(|host| next_rank.get(host))
            .max()
            .copied()
            .unwrap_or(0);
        next_rank.extend(used.hosts.iter().map(|host| (host.clone(), rank.saturating_add(1))));
        result
            .hosts
            .extend(used.hosts.iter().filter(|host| **host != HostPattern::Any).cloned());
        result.not_for.extend(used.not_for.iter().cloned());
        if used.hosts.contains(&HostPattern::Any) {
            result.default = Some(Arc::clone(&used.pair));
        }
        let certificate = Certificate {
            hosts: used.hosts.into_iter().collect(),
            not_for: used.not_for.into_iter().collect(),
            chain_der: Arc::clone(&used.pair.chain_der),
            key: used.pair.key.clone(),
            not_after_unix_s: used.pair.not_after_unix_s,
            rank,
        };
        result
            .by_name
            .insert(CertificateName::new(key.to_string()), Arc::new(certificate));
    }
    result
}

fn report_validity(key: &Key, used: &Use, now_unix_s: i64, reports: &mut Reports) {
    let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
    let (begins, ends) = (time(used.pair.not_before_unix_s), time(used.pair.not_after_unix_s));
    let alone = if used.hosts.is_empty() {
        "it is served all the same, on L4 ports"
    } else {
        "it is served only where its hosts have no valid one"
    };
    if used.pair.not_after_unix_s < now_unix_s {
        let message = format!("data[tls.crt]: the certificate ended on {ends}; {alone}; renew it");
        reports.add(&object, ReportReason::CertificateExpired, message);
    } else if used.pair.not_before_unix_s > now_unix_s {
        let message = format!("data[tls.crt]: the certificate begins on {begins}; {alone}; check it and the clock");
        reports.add(&object, ReportReason::CertificateNotYetValid, message);
    } else if used.pair.not_after_unix_s.saturating_sub(now_unix_s) <= EXPIRING_S {
        let message = format!("data[tls.crt]: the certificate ends on {ends}, in less than 21 days; renew it");
        reports.add(&object, ReportReason::CertificateExpiring, message);
    }
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
}

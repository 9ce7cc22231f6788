//! Hosts: with TLS and without rules, with rules and without TLS, of two namespaces.

use std::collections::BTreeMap;

use propylon_model::{HostPattern, ReportReason};

use super::{View, pattern, rules, wildcard_above};
use crate::{
    classes::Served,
    reports::{Reports, name_some},
    spelling::nearest,
    world::Key,
};

pub(super) fn check(view: &View<'_>, reports: &mut Reports) {
    let mut owners: BTreeMap<HostPattern, &Key> = BTreeMap::new();
    for ingress in &view.served {
        tls_without_rule(view, ingress, reports);
        rule_without_tls(view, ingress, reports);
        shared(ingress, &mut owners, reports);
    }
}

/// Hosts of `spec.tls` for which no rule exists anywhere: the handshake succeeds, and every request is answered 404.
fn tls_without_rule(view: &View<'_>, ingress: &Served<'_>, reports: &mut Reports) {
    for (field, text, host) in tls_hosts(ingress) {
        let is_served = |host: &HostPattern| view.hosts.contains_key(host) || view.passthrough.contains(host);
        let has_narrower = || match &host {
            HostPattern::Wildcard(_) => view
                .hosts
                .keys()
                .any(|other| wildcard_above(other).as_ref() == Some(&host)),
            HostPattern::Any | HostPattern::Exact(_) => false,
        };
        let has_wider = || is_served(&HostPattern::Any) || wildcard_above(&host).is_some_and(|wider| is_served(&wider));
        if is_served(&host) || has_wider() || has_narrower() {
            continue;
        }
        let own = rules(ingress).filter_map(|(_, rule)| rule.host.as_deref());
        let what_next = match nearest(text, own) {
            Some(name) => format!("did you mean {name}?"),
            None => "add a rule for it, or remove it".to_owned(),
        };
        let message = format!("{field}: no rule names {host}, so that its requests are answered 404; {what_next}");
        reports.add(&ingress.object, ReportReason::TLSHostWithoutRule, message);
    }
}

/// Hosts that an Ingress which has `spec.tls` leaves out there, and that have no certificate from elsewhere.
fn rule_without_tls(view: &View<'_>, ingress: &Served<'_>, reports: &mut Reports) {
    let entries = || {
        let spec = ingress.ingress.spec.as_ref();
        spec.into_iter().flat_map(|spec| spec.tls.iter().flatten())
    };
    // An entry without hosts is for all of them.
    let is_for_all = entries().any(|entry| entry.hosts.as_ref().is_none_or(Vec::is_empty));
    if entries().next().is_none() || is_for_all {
        return;
    }
    let named: Vec<HostPattern> = tls_hosts(ingress).map(|(_, _, host)| host).collect();
    for (index, rule) in rules(ingress) {
        let Some(host) = pattern(rule).filter(|host| *host != HostPattern::Any) else {
            continue;
        };
        let wildcard = wildcard_above(&host);
        let is_named = |named: &HostPattern| *named == host || Some(named) == wildcard.as_ref();
        let certificates = view.resources.certificates.values();
        let has_certificate = || certificates.flat_map(|certificate| &certificate.hosts).any(is_named);
        if named.iter().any(is_named) || view.passthrough.contains(&host) || has_certificate() {
            continue;
        }
        let message = format!(
            "spec.rules[{index}].host: {host} is not among the hosts of spec.tls ({}), so over HTTPS it gets the default \
             certificate; add it there if it is to be served over HTTPS",
            name_some(&named)
        );
        reports.add(&ingress.object, ReportReason::HostWithoutTLS, message);
    }
}

/// Hosts that an Ingress shares with an older one of another namespace.
fn shared<'a>(ingress: &Served<'a>, owners: &mut BTreeMap<HostPattern, &'a Key>, reports: &mut Reports) {
    for (index, rule) in rules(ingress) {
        let Some(host) = pattern(rule).filter(|host| *host != HostPattern::Any) else {
            continue;
        };
        let owner = *owners.entry(host.clone()).or_insert(ingress.key);
        if owner.namespace == ingress.key.namespace {
            continue;
        }
        let message = format!(
            "spec.rules[{index}].host: {host} is a host of the namespace {} too, whose Ingress {owner} is the oldest that names \
             it: that namespace alone gives the host certificates, and wins where both name a path; agree on it, or use a \
             host of your own",
            owner.namespace
        );
        reports.add(&ingress.object, ReportReason::HostSharedAcrossNamespaces, message);
    }
}

/// The hosts of `spec.tls` with their fields, as they are written and read.
fn tls_hosts<'a>(ingress: &Served<'a>) -> impl Iterator<Item = (String, &'a str, HostPattern)> + use<'a> {
    let spec = ingress.ingress.spec.as_ref();
    let entries = spec.into_iter().flat_map(|spec| spec.tls.iter().flatten()).enumerate();
    entries.flat_map(|(index, entry)| {
        let hosts = entry.hosts.iter().flatten().enumerate();
        hosts.filter_map(move |(at, text)| {
            let host = HostPattern::parse(text).ok()?;
            Some((format!("spec.tls[{index}].hosts[{at}]"), text.as_str(), host))
        })
    })
}

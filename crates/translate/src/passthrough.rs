//! TLS that is handed on unopened: Ingresses with `tls-passthrough`.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::networking::v1::{Ingress, IngressRule, IngressServiceBackend};
use propylon_model::{EndpointsName, GroupName, HostPattern, L4Protocol, Passthrough, ReportReason};

use crate::{
    annotations::{PREFIX, TLS_PASSTHROUGH},
    backends::{self, Backends, Place, User, service_object},
    classes::Served,
    l4,
    reports::{Reports, name_some},
    settings::Merged,
    tls::owners::Hosts,
    world::Key,
};

/// What becomes of connections whose Service is of no use.
const CLOSED: &str = "TLS connections of its hosts are closed";

/// Whether TLS of an Ingress is handed on. One that restricts access stays closed: what is unopened cannot be guarded.
fn is_passthrough(ingress: &Served<'_>) -> bool {
    ingress.settings.is_passthrough() && ingress.restriction.is_none()
}

/// The hosts whose TLS an Ingress wants to have handed on.
pub(crate) fn wanted(ingress: &Served<'_>) -> BTreeSet<HostPattern> {
    if !is_passthrough(ingress) {
        return BTreeSet::new();
    }
    let hosts = rules(ingress.ingress).filter_map(|(_, rule)| host_of(rule));
    hosts.filter(|host| *host != HostPattern::Any).collect()
}

/// Reports what of an Ingress cannot be handed on because there is no host to know it by.
pub(crate) fn report_without_host(ingress: &Served<'_>, reports: &mut Reports) {
    if !is_passthrough(ingress) {
        return;
    }
    if rules(ingress.ingress).next().is_none() {
        let message = "spec.rules: there are none, so no host's TLS can be handed on; name the hosts";
        reports.add(&ingress.object, ReportReason::PassthroughInvalid, message);
    }
    let without = rules(ingress.ingress).filter(|(_, rule)| host_of(rule) == Some(HostPattern::Any));
    let fields: Vec<String> = without.map(|(index, _)| format!("spec.rules[{index}]")).collect();
    if !fields.is_empty() {
        let message = format!(
            "{}: has no host, and TLS is handed on by the server name, so it is terminated for these requests; name the host",
            name_some(fields)
        );
        reports.add(&ingress.object, ReportReason::PassthroughInvalid, message);
    }
}

/// The name of what an Ingress hands on of a host.
pub(crate) fn name_of(ingress: &Key, host: &HostPattern) -> GroupName {
    GroupName::new(format!("{ingress}/{host}"))
}

/// Decides for whom TLS of one host is handed on.
pub(crate) struct Builder<'a, 'w> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) backends: &'a mut Backends<'w>,
    pub(crate) reports: &'a mut Reports,
}

impl Builder<'_, '_> {
    /// For whom TLS of a host is handed on, and where; `served` are all Ingresses that name the host, in order of age. What
    /// a wildcard is not for is not said yet.
    pub(crate) fn host(&mut self, host: &HostPattern, served: &[Served<'_>]) -> Option<(Key, Passthrough)> {
        let mut winner: Option<(Key, Passthrough)> = None;
        for ingress in served.iter().filter(|ingress| is_passthrough(ingress)) {
            let of_host = rules(ingress.ingress).filter(|(_, rule)| host_of(rule).as_ref() == Some(host));
            let of_host: Vec<_> = of_host.collect();
            let taken = winner.as_ref().map(|(key, _)| key);
            if of_host.is_empty() || !self.is_free(ingress, host, taken) {
                continue;
            }
            if let Some(found) = self.of_host(ingress, host, &of_host) {
                winner = Some((ingress.key.clone(), found));
            }
        }
        if let Some((winner, _)) = &winner {
            self.report_hidden(host, served, winner);
        }
        winner
    }

    /// Whether the host belongs to the Ingress; if not, that is reported.
    fn is_free(&mut self, ingress: &Served<'_>, host: &HostPattern, winner: Option<&Key>) -> bool {
        let message = if let Some(owner) = self.hosts.other_than(&ingress.key.namespace, host) {
            format!(
                "spec.rules: the host {host} belongs to the namespace {}, whose Ingress {owner} is the oldest that names it, so \
                 its TLS is not handed on for this one; ask its owners, or use another host",
                owner.namespace
            )
        } else if let Some(winner) = winner {
            format!(
                "spec.rules: TLS of {host} is handed on for Ingress {winner}, which goes first by age, namespace and name; use \
                 another host"
            )
        } else {
            return true;
        };
        self.reports
            .add(&ingress.object, ReportReason::PassthroughConflict, message);
        false
    }

    fn of_host(
        &mut self,
        ingress: &Served<'_>,
        host: &HostPattern,
        rules: &[(usize, &IngressRule)],
    ) -> Option<Passthrough> {
        let (field, backend) = self.backend(ingress, host, rules)?;
        let key = Key::new(Arc::clone(&ingress.key.namespace), backend.name.as_str());
        let endpoints = self.endpoints(ingress, host, &field, &key, backend);
        let facts = self.backends.facts;
        let settings = Merged {
            ingress: Some(&ingress.settings),
            service: facts.services.get(&key),
        };
        let (connect_timeout, idle_timeout) = l4::timeouts(&settings, L4Protocol::Tcp);
        let policy = l4::policy(settings.pool_policy(facts.spec(&key)), L4Protocol::Tcp);
        self.backends.needs.services.insert(key.clone());
        Some(Passthrough {
            source: ingress.object.clone(),
            service: service_object(&key),
            created_unix_s: ingress.created_unix_s,
            host: host.clone(),
            not_for: Vec::new(),
            endpoints,
            policy,
            send_proxy: facts.settings(&key).proxy_protocol(),
            connect_timeout,
            idle_timeout,
        })
    }

    /// The backend of a host: that of the path `/`, else the only one, else the default backend.
    fn backend<'i>(
        &mut self,
        ingress: &Served<'i>,
        host: &HostPattern,
        rules: &[(usize, &'i IngressRule)],
    ) -> Option<(String, &'i IngressServiceBackend)> {
        let paths = rules.iter().flat_map(|(rule, given)| {
            let paths = given.http.iter().flat_map(|http| &http.paths).enumerate();
            paths.filter_map(move |(index, path)| {
                let field = format!("spec.rules[{rule}].http.paths[{index}].backend");
                let is_root = matches!(path.path.as_deref(), None | Some("" | "/"));
                Some((is_root, field, path.backend.service.as_ref()?))
            })
        });
        let paths: Vec<_> = paths.collect();
        let spec = ingress.ingress.spec.as_ref();
        let default = spec.and_then(|spec| spec.default_backend.as_ref()?.service.as_ref());
        let default = default.map(|backend| ("spec.defaultBackend".to_owned(), backend));
        let root = paths.iter().find(|(is_root, ..)| *is_root);
        let root = root.map(|(_, field, backend)| (field.clone(), *backend));
        let first = paths.first().map(|(_, field, backend)| (field.clone(), *backend));
        let is_one = paths
            .iter()
            .all(|(_, _, backend)| Some(*backend) == first.as_ref().map(|(_, first)| *first));
        let chosen = root.or_else(|| first.filter(|_| is_one)).or(default);
        let what = match &chosen {
            Some((field, _)) if !is_one => format!("TLS of {host} is handed on to {field} alone"),
            Some(_) => return chosen,
            None => format!("TLS of {host} is not handed on"),
        };
        let message = format!(
            "metadata.annotations[{PREFIX}{TLS_PASSTHROUGH}]: the paths of {host} have several backends, and no path is seen in \
             TLS that is not opened, so {what}; give the host one path, /"
        );
        self.reports
            .add(&ingress.object, ReportReason::PassthroughInvalid, message);
        chosen
    }

    /// The endpoints of a backend; none of them where it is of no use, which is reported, so that connections are closed
    /// and not opened here.
    fn endpoints(
        &mut self,
        ingress: &Served<'_>,
        host: &HostPattern,
        field: &str,
        key: &Key,
        backend: &IngressServiceBackend,
    ) -> EndpointsName {
        let wanted = backends::wanted(backend);
        let found = wanted
            .as_ref()
            .map(|wanted| self.backends.port(key, wanted, L4Protocol::Tcp));
        match (found, wanted) {
            (Some(Ok(port)), _) => {
                let user = User::L4(format!("TLS of {host}"));
                self.backends.add_endpoints(key, &port, user);
                port.endpoints(key)
            }
            (Some(Err(missing)), Some(wanted)) => {
                let place = Place {
                    name: &format!("{field}.service.name"),
                    port: &format!("{field}.service.port"),
                    outcome: CLOSED,
                };
                let (reason, _, message) = missing.explain(&place, key, &wanted, self.backends.facts.world);
                self.reports.add(&ingress.object, reason, message);
                self.backends.add_nothing(EndpointsName::new(format!("{key}:{wanted}")))
            }
            // Reported with the rules.
            _ => self.backends.add_nothing(EndpointsName::new(format!("{key}:"))),
        }
    }

    /// Reports the Ingresses whose host is handed on for another one: over TLS nothing of what they say is served.
    fn report_hidden(&mut self, host: &HostPattern, served: &[Served<'_>], winner: &Key) {
        for ingress in served.iter().filter(|ingress| !is_passthrough(ingress)) {
            let message = format!(
                "spec.rules: TLS of {host} is handed on unopened for Ingress {winner}, so what this object says of the host is \
                 served over plain HTTP only; use another host, or remove {PREFIX}{TLS_PASSTHROUGH} there"
            );
            self.reports
                .add(&ingress.object, ReportReason::PassthroughConflict, message);
        }
    }
}

fn rules(ingress: &Ingress) -> impl Iterator<Item = (usize, &IngressRule)> {
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    rules.enumerate()
}

/// The host of a rule; none where it does not parse, which is reported with the rules.
fn host_of(rule: &IngressRule) -> Option<HostPattern> {
    HostPattern::parse(rule.host.as_deref().unwrap_or_default()).ok()
}

//! TLS that is handed on unopened: Ingresses with `tls-passthrough`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::{IngressRule, IngressServiceBackend};
use propylon_model::{EndpointsName, GroupName, HostPattern, L4Protocol, Passthrough, ReportReason};

use crate::{
    annotations::{PREFIX, TLS_PASSTHROUGH},
    backends::{self, Backends, Place, User, service_object},
    classes::Served,
    l4,
    reports::{Reports, name_some},
    tls::owners::{Owners, named},
    world::{Key, World},
};

/// What becomes of connections whose Service is of no use.
const CLOSED: &str = "TLS connections of its hosts are closed";

/// The hosts whose TLS is handed on. `served` is in order of age; a host belongs to the namespace of the oldest Ingress
/// that names it.
pub(crate) fn compile(
    world: &World,
    served: &[Served<'_>],
    owners: &Owners<'_>,
    backends: &mut Backends<'_>,
    reports: &mut Reports,
) -> BTreeMap<GroupName, Arc<Passthrough>> {
    let mut builder = Builder {
        world,
        owners,
        backends,
        reports,
        by_host: BTreeMap::new(),
    };
    for ingress in served.iter().filter(|ingress| is_passthrough(ingress)) {
        builder.add(ingress);
    }
    let Builder { by_host, reports, .. } = builder;
    report_hidden(served, &by_host, reports);
    let taken: BTreeSet<HostPattern> = by_host.keys().cloned().collect();
    let named = by_host.into_values().map(|(_, mut passthrough)| {
        passthrough.not_for = owners.below(&passthrough.host, &taken);
        let source = &passthrough.source;
        let name = format!("{}/{}/{}", source.namespace, source.name, passthrough.host);
        (GroupName::new(name), Arc::new(passthrough))
    });
    named.collect()
}

/// Whether TLS of an Ingress is handed on. One that restricts access stays closed: what is unopened cannot be guarded.
fn is_passthrough(ingress: &Served<'_>) -> bool {
    ingress.settings.is_passthrough() && ingress.restriction.is_none()
}

struct Builder<'a, 'w> {
    world: &'a World,
    owners: &'a Owners<'a>,
    backends: &'a mut Backends<'w>,
    reports: &'a mut Reports,
    by_host: BTreeMap<HostPattern, (Key, Passthrough)>,
}

impl Builder<'_, '_> {
    fn add(&mut self, ingress: &Served<'_>) {
        let spec = ingress.ingress.spec.as_ref();
        let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
        let mut hosts: BTreeMap<HostPattern, Vec<(usize, &IngressRule)>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            // Hosts that do not parse are reported with the rules.
            if let Ok(host) = HostPattern::parse(rule.host.as_deref().unwrap_or_default()) {
                hosts.entry(host).or_default().push((index, rule));
            }
        }
        if rules.is_empty() {
            let message = "spec.rules: there are none, so no host's TLS can be handed on; name the hosts";
            self.reports
                .add(&ingress.object, ReportReason::PassthroughInvalid, message);
        }
        for (host, rules) in hosts {
            if host == HostPattern::Any {
                let indices = rules.iter().map(|(index, _)| format!("spec.rules[{index}]"));
                let message = format!(
                    "{}: has no host, and TLS is handed on by the server name, so it is terminated for these requests; name \
                     the host",
                    name_some(indices)
                );
                self.reports
                    .add(&ingress.object, ReportReason::PassthroughInvalid, message);
            } else if self.is_free(ingress, &host) {
                self.add_host(ingress, host, &rules);
            }
        }
    }

    /// Whether the host belongs to the Ingress; if not, that is reported.
    fn is_free(&mut self, ingress: &Served<'_>, host: &HostPattern) -> bool {
        let message = if let Some(owner) = self.owners.other_than(&ingress.key.namespace, host) {
            format!(
                "spec.rules: the host {host} belongs to the namespace {}, whose Ingress {owner} is the oldest that names it, so \
                 its TLS is not handed on for this one; ask its owners, or use another host",
                owner.namespace
            )
        } else if let Some((winner, _)) = self.by_host.get(host) {
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

    fn add_host(&mut self, ingress: &Served<'_>, host: HostPattern, rules: &[(usize, &IngressRule)]) {
        let Some((field, backend)) = self.backend(ingress, &host, rules) else {
            return;
        };
        let key = Key::new(Arc::clone(&ingress.key.namespace), backend.name.as_str());
        let endpoints = self.endpoints(ingress, &host, &field, &key, backend);
        let settings = self.backends.merged(Some(&ingress.settings), &key);
        let (connect_timeout, idle_timeout) = l4::timeouts(&settings, L4Protocol::Tcp);
        let passthrough = Passthrough {
            source: ingress.object.clone(),
            service: service_object(&key),
            created_unix_s: ingress.created_unix_s,
            host: host.clone(),
            not_for: Vec::new(),
            endpoints,
            policy: l4::policy(settings.pool_policy(self.backends.spec(&key)), L4Protocol::Tcp),
            send_proxy: self.backends.settings(&key).proxy_protocol(),
            connect_timeout,
            idle_timeout,
        };
        self.by_host.insert(host, (ingress.key.clone(), passthrough));
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
                self.backends.add_endpoints(key, &port, user, self.reports);
                port.endpoints(key)
            }
            (Some(Err(missing)), Some(wanted)) => {
                let place = Place {
                    name: &format!("{field}.service.name"),
                    port: &format!("{field}.service.port"),
                    outcome: CLOSED,
                };
                let (reason, _, message) = missing.explain(&place, key, &wanted, self.world);
                self.reports.add(&ingress.object, reason, message);
                self.backends.add_nothing(EndpointsName::new(format!("{key}:{wanted}")))
            }
            // Reported with the rules.
            _ => self.backends.add_nothing(EndpointsName::new(format!("{key}:"))),
        }
    }
}

/// Reports the Ingresses whose hosts are handed on for another one: over TLS nothing of what they say is served.
fn report_hidden(served: &[Served<'_>], by_host: &BTreeMap<HostPattern, (Key, Passthrough)>, reports: &mut Reports) {
    if by_host.is_empty() {
        return;
    }
    for ingress in served.iter().filter(|ingress| !is_passthrough(ingress)) {
        let hosts: BTreeSet<HostPattern> = named(ingress.ingress).collect();
        for (host, (winner, _)) in hosts.iter().filter_map(|host| Some((host, by_host.get(host)?))) {
            let message = format!(
                "spec.rules: TLS of {host} is handed on unopened for Ingress {winner}, so what this object says of the host is \
                 served over plain HTTP only; use another host, or remove {PREFIX}{TLS_PASSTHROUGH} there"
            );
            reports.add(&ingress.object, ReportReason::PassthroughConflict, message);
        }
    }
}

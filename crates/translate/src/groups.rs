//! The paths that an Ingress puts on each host.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend};
use propylon_model::{
    Action, GroupName, HostPattern, NormalPath, PathMatch, Refusal, ReportReason, RouteGroup, RoutePolicy, Rule,
    RulePosition,
};

use crate::{
    annotations::Redirect, backends::Backends, classes::Served, reports::Reports, settings::Merged, tls::Certificates,
    world::Key,
};

/// The route groups of an Ingress, by name.
pub(crate) fn of(
    ingress: &Served<'_>,
    backends: &mut Backends<'_>,
    certificates: &Certificates,
    reports: &mut Reports,
) -> BTreeMap<GroupName, Arc<RouteGroup>> {
    let mut builder = Builder {
        ingress,
        backends,
        reports,
    };
    let hosts = builder.hosts();
    let default_backend = builder.default_backend();
    let group = |(host, rules): (HostPattern, Vec<Rule>)| {
        let group = RouteGroup {
            source: ingress.object.clone(),
            created_unix_s: ingress.created_unix_s,
            redirect_https: match ingress.settings.redirect() {
                Redirect::Always => true,
                Redirect::Auto => certificates.cover(&host),
                Redirect::Never => false,
            },
            host,
            rules,
            default_backend: default_backend.clone(),
        };
        (
            GroupName::new(format!("{}/{}", ingress.key, group.host)),
            Arc::new(group),
        )
    };
    hosts.into_iter().map(group).collect()
}

struct Builder<'a, 'b> {
    ingress: &'a Served<'a>,
    backends: &'a mut Backends<'b>,
    reports: &'a mut Reports,
}

impl Builder<'_, '_> {
    /// The rules of each host; a default backend without rules stands on no host.
    fn hosts(&mut self) -> BTreeMap<HostPattern, Vec<Rule>> {
        let spec = self.ingress.ingress.spec.as_ref();
        let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
        let mut hosts: BTreeMap<HostPattern, Vec<Rule>> = BTreeMap::new();
        if rules.is_empty() && spec.is_some_and(|spec| spec.default_backend.is_some()) {
            hosts.insert(HostPattern::Any, Vec::new());
        }
        for (index, rule) in rules.iter().enumerate() {
            let (rule_index, field) = (index, format!("spec.rules[{index}]"));
            let host = match HostPattern::parse(rule.host.as_deref().unwrap_or_default()) {
                Ok(host) => host,
                Err(error) => {
                    let message = format!("{field}.host: {error}; the rule is left out");
                    self.reports
                        .add(&self.ingress.object, ReportReason::InvalidObject, message);
                    continue;
                }
            };
            let mut rules = Vec::new();
            for (index, path) in rule.http.iter().flat_map(|http| http.paths.iter()).enumerate() {
                let position = RulePosition::new(rule_index, index);
                let Some(rule) = self.rule(position, path) else {
                    continue;
                };
                rules.push(rule);
            }
            hosts.entry(host).or_default().extend(rules);
        }
        hosts
    }

    fn rule(&mut self, position: RulePosition, given: &HTTPIngressPath) -> Option<Rule> {
        let text = given.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = match NormalPath::parse_rule(text) {
            Ok(path) => path,
            Err(error) => {
                let message = format!("{position}.path: '{text}' can match no request ({error}); the path is left out");
                self.reports
                    .add(&self.ingress.object, ReportReason::InvalidObject, message);
                return None;
            }
        };
        let path = if given.path_type == "Exact" {
            PathMatch::Exact(path)
        } else {
            PathMatch::Prefix(path)
        };
        let (action, policy) = self.action(&format!("{position}.backend"), &given.backend)?;
        Some(Rule {
            path,
            action,
            policy,
            position,
        })
    }

    fn default_backend(&mut self) -> Option<(Action, RoutePolicy)> {
        let backend = self.ingress.ingress.spec.as_ref()?.default_backend.as_ref()?;
        self.action("spec.defaultBackend", backend)
    }

    fn action(&mut self, field: &str, backend: &IngressBackend) -> Option<(Action, RoutePolicy)> {
        if let Some(resource) = &backend.resource {
            let message = format!(
                "{field}.resource: {} '{}' is not supported as a backend, so this path is left out; use a Service",
                resource.kind, resource.name
            );
            self.reports
                .add(&self.ingress.object, ReportReason::BackendResourceUnsupported, message);
            return None;
        }
        let service = backend.service.as_ref()?;
        let action = self.backends.resolve(self.ingress, field, service, self.reports);
        let key = Key::new(self.ingress.key.namespace.clone(), service.name.as_str());
        let settings = Merged {
            ingress: Some(&self.ingress.settings),
            service: self.backends.facts.services.get(&key),
        };
        let policy = settings.route_policy();
        self.backends.needs.services.insert(key);
        match &self.ingress.restriction {
            Some(annotation) => Some((
                Action::Refuse(Refusal::RestrictionUnsupported(Arc::clone(annotation))),
                policy,
            )),
            None => Some((action, policy)),
        }
    }
}

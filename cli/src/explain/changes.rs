//! What a change of manifests changes, as JSON and as text.

use std::{fmt::Debug, path::Path, time::Duration};

use propylon_model::{Action, Pool, Refusal, RoutePolicy};
use propylon_proxy::explain::SCHEMA;
use propylon_routing::{
    Route,
    explain::{Change, Difference, HostClass, PathClass, Served, diff},
};
use serde::Serialize;

use super::{
    layout::{Page, aligned},
    offline::compiled,
};
use crate::{failure::Failure, run::CompileArgs};

/// The classes of requests that two folders treat differently.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    schema: u32,
    /// By host, then path.
    pub(super) changes: Vec<ChangeView>,
}

/// One class of requests.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangeView {
    /// A host, `*.SUFFIX` for the other hosts one label below, or empty for all other hosts.
    host: String,
    /// `exact`: the path itself; `below`: the path and what is below it, but for what other classes of the host say;
    /// `elsewhere`: every other path.
    path_class: &'static str,
    /// The path; empty for `elsewhere`.
    path: String,
    /// `appears`, `backend`, `endpoints`, `policy`, `redirect`, `rule`, `vanishes`.
    differences: Vec<&'static str>,
    /// What the old folder does; none: 404.
    old: Option<SideView>,
    /// What the new folder does; none: 404.
    new: Option<SideView>,
    #[serde(skip)]
    title: String,
}

/// What one folder does with a class of requests.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SideView {
    /// `NAMESPACE/SERVICE:PORT`; none where requests are refused.
    service: Option<String>,
    /// Why requests are refused.
    refused: Option<String>,
    /// Whether the Service has endpoints.
    has_endpoints: bool,
    /// Whether plain HTTP is answered with 308 to HTTPS.
    redirect_https: bool,
    /// The object, `NAMESPACE/NAME Ingress`.
    object: String,
    /// Where in the object.
    field: String,
    /// The settings that differ, as annotations name them.
    settings: Vec<(&'static str, String)>,
}

/// Compiles both folders and compares them.
pub(super) fn between(old: &Path, new: &Path, compile: &CompileArgs) -> Result<Changes, Failure> {
    let resources = |folder: &Path| compiled(folder, compile.clone(), Vec::new()).map(|(resources, _)| resources);
    let changes = diff(&resources(old)?, &resources(new)?);
    Ok(Changes {
        schema: SCHEMA,
        changes: changes.iter().map(view).collect(),
    })
}

/// Writes changes for people.
pub(super) fn text(changes: &Changes) -> String {
    let mut page = Page::default();
    let mut host = None;
    for change in &changes.changes {
        if host != Some(&change.host) {
            host = Some(&change.host);
            let name = if change.host.is_empty() {
                "(any other host)"
            } else {
                &change.host
            };
            page.line("", name);
        }
        page.line("  ", &format!("{}: {}", change.title, change.differences.join(", ")));
        let sides = [("-", &change.old), ("+", &change.new)];
        let rows = sides.map(|(sign, side)| {
            let side = side.as_ref();
            vec![
                sign.to_owned(),
                side.map_or_else(|| "404".to_owned(), |side| side.target(change)),
                side.map(|side| format!("{} {}", side.object, side.field))
                    .unwrap_or_default(),
            ]
        });
        for line in aligned(&rows) {
            page.line("    ", &line);
        }
    }
    if changes.changes.is_empty() {
        page.line("", "no difference: every request is served as before");
    }
    page.into_text()
}

impl SideView {
    fn target(&self, change: &ChangeView) -> String {
        let mut target = match (&self.service, &self.refused) {
            (_, Some(refused)) => format!("503 ({refused})"),
            (Some(service), None) => service.clone(),
            (None, None) => "503".to_owned(),
        };
        if !self.has_endpoints && self.refused.is_none() {
            target.push_str(" (no endpoints)");
        }
        if change.differences.contains(&Difference::Redirect.as_str()) {
            target.push_str(if self.redirect_https {
                ", redirect to HTTPS"
            } else {
                ", no redirect"
            });
        }
        for (name, value) in &self.settings {
            target.extend([", ", name, " ", value]);
        }
        target
    }
}

fn view(change: &Change) -> ChangeView {
    let (old, new) = (change.old.as_deref(), change.new.as_deref());
    let (path_class, path) = match &change.class.path {
        PathClass::Below(path) if path.is_empty() => ("below", "/"),
        PathClass::Below(path) => ("below", path.as_str()),
        PathClass::Elsewhere => ("elsewhere", ""),
        PathClass::Exact(path) => ("exact", path.as_str()),
    };
    let (old_settings, new_settings) = differing(old, new);
    ChangeView {
        host: match &change.class.host {
            HostClass::Other => String::new(),
            host => host.to_string(),
        },
        path_class,
        path: path.to_owned(),
        differences: change
            .differences
            .iter()
            .map(|difference| difference.as_str())
            .collect(),
        old: old.map(|route| side(route, old_settings)),
        new: new.map(|route| side(route, new_settings)),
        title: change.class.path.to_string(),
    }
}

fn side(route: &Route<Served>, settings: Vec<(&'static str, String)>) -> SideView {
    let pool = route.target.pool.as_ref();
    SideView {
        service: pool.map(|pool| format!("{}/{}:{}", pool.service.namespace, pool.service.name, pool.port)),
        refused: match &route.action {
            Action::Forward(_) => None,
            Action::Refuse(Refusal::BackendNotFound(service)) => Some(format!("Service {service} is not there")),
            Action::Refuse(Refusal::BackendPortNotFound(port)) => Some(format!("Service port {port} is not there")),
            Action::Refuse(Refusal::RestrictionUnsupported(name)) => Some(format!("{name} is not supported")),
        },
        has_endpoints: route.target.has_endpoints,
        redirect_https: route.redirect_https,
        object: route.source.to_string(),
        field: route
            .position
            .map_or_else(|| "spec.defaultBackend".to_owned(), |position| position.to_string()),
        settings,
    }
}

type Settings = Vec<(&'static str, String)>;

/// The settings of both that are not the same.
fn differing(old: Option<&Route<Served>>, new: Option<&Route<Served>>) -> (Settings, Settings) {
    let (Some(old), Some(new)) = (old, new) else {
        return (Vec::new(), Vec::new());
    };
    let settings = |route: &Route<Served>| {
        let mut settings = of_rule(&route.policy);
        settings.extend(route.target.pool.iter().flat_map(|pool| of_pool(pool)));
        settings
    };
    let is_same_service = match (&old.target.pool, &new.target.pool) {
        (Some(old), Some(new)) => (&old.service, old.port) == (&new.service, new.port),
        _ => false,
    };
    let (old, new) = if is_same_service {
        (settings(old), settings(new))
    } else {
        (of_rule(&old.policy), of_rule(&new.policy))
    };
    let pairs = old.into_iter().zip(new).filter(|(old, new)| old != new);
    pairs.unzip()
}

fn of_rule(policy: &RoutePolicy) -> Settings {
    let retry = &policy.retry;
    vec![
        ("connect-timeout", span(policy.connect_timeout)),
        ("response-timeout", span(policy.response_timeout)),
        ("response-idle-timeout", span(policy.response_idle_timeout)),
        ("request-timeout", policy.request_timeout.map_or_else(off, span)),
        ("tunnel-idle-timeout", span(policy.tunnel_idle_timeout)),
        ("retries", retry.attempts.to_string()),
        ("retry-on", retry.on.names().collect::<Vec<_>>().join(",")),
        ("retry-timeout", retry.per_try_timeout.map_or_else(off, span)),
        ("retry-non-idempotent", retry.non_idempotent.to_string()),
    ]
}

fn of_pool(pool: &Pool) -> Settings {
    let policy = &pool.policy;
    let limits = &policy.limits;
    let number = |limit: Option<u32>| limit.map_or_else(off, |limit| limit.to_string());
    let check = policy.health_check.as_ref();
    vec![
        ("protocol", pool.protocol.as_str().to_owned()),
        ("backend-ca-secret", fingerprint(pool.tls.ca_der.as_deref())),
        (
            "backend-server-name",
            pool.tls.server_name.as_deref().unwrap_or("none").to_owned(),
        ),
        ("load-balancing", policy.algorithm.as_str().to_owned()),
        ("hash-on", policy.hash_on.to_string()),
        ("affinity", policy.affinity.as_str().to_owned()),
        ("affinity-settings", words(&policy.affinity)),
        ("outlier-ejection", policy.outlier_ejection.to_string()),
        (
            "health-check",
            check.map_or_else(|| "none".to_owned(), |check| check.probe.to_string()),
        ),
        (
            "health-check-times",
            words(&check.map(|check| (check.interval, check.timeout))),
        ),
        (
            "health-check-counts",
            words(&check.map(|check| (check.healthy, check.unhealthy))),
        ),
        ("max-connections-per-endpoint", number(limits.max_connections)),
        ("max-requests-per-endpoint", number(limits.max_requests)),
        ("max-pending-requests", limits.max_pending.to_string()),
        ("pending-timeout", span(limits.pending_timeout)),
        ("slow-start", policy.slow_start.map_or_else(off, span)),
    ]
}

fn off() -> String {
    "off".to_owned()
}

fn span(span: Duration) -> String {
    format!("{span:?}")
}

fn words(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// Certificates are too long to show; this tells other ones apart.
fn fingerprint(certificates: Option<&[Vec<u8>]>) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    certificates.map_or_else(
        || "none".to_owned(),
        |certificates| {
            let mut hasher = DefaultHasher::new();
            certificates.hash(&mut hasher);
            format!("{} certificate(s) {:016x}", certificates.len(), hasher.finish())
        },
    )
}

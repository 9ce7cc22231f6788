//! From the live tables to rows, and from rows to the document.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use propylon_kit::metrics::{LATENCY_BUCKETS, LatencyCounts, latency_bound_us};
use propylon_model::{Action, Endpoint, EndpointsName, PathMatch, Refusal};
use propylon_routing::Route;

use super::{EndpointStats, Failure, Health, RouteStats, Served, Stats, StatusClasses};
use crate::{
    endpoint_state::{CheckVerdict, EndpointState, EndpointsHandle, process_ms},
    endpoint_tally::{FailureKind, LastFailure},
    rule_stats::{RuleStats, RuleTotals},
    tables::{Tables, Target},
};

/// A rule of the table with what it has served.
pub(crate) struct RouteRow<'a> {
    pub(crate) route: &'a Route<Target>,
    pub(crate) totals: RuleTotals,
}

/// An endpoint with what is known of it.
pub(crate) struct EndpointRow {
    pub(crate) service: EndpointsName,
    pub(crate) spec: Endpoint,
    pub(crate) state: Arc<EndpointState>,
}

/// Every rule, in the order in which rules are matched.
///
/// # Cost
/// About a microsecond per rule that served a request on each worker.
pub(crate) fn routes(tables: &Tables) -> Vec<RouteRow<'_>> {
    let rows = tables.routes.routes().map(|route| RouteRow {
        route,
        totals: route.target.stats.totals(),
    });
    rows.collect()
}

/// Every endpoint of the lists, in their order.
pub(crate) fn endpoints(lists: &[(EndpointsName, Arc<EndpointsHandle>)]) -> Vec<EndpointRow> {
    let mut rows = Vec::new();
    for (name, handle) in lists {
        rows.extend(handle.current.load().endpoints.iter().map(|live| EndpointRow {
            service: name.clone(),
            spec: live.spec.clone(),
            state: Arc::clone(&live.state),
        }));
    }
    rows
}

/// The lists of a document; the caller knows the process.
pub(crate) fn collect(tables: &Tables, unmatched: &RuleStats, endpoints: &[EndpointRow]) -> Stats {
    Stats {
        generation: tables.generation,
        latency_bounds_us: (0..LATENCY_BUCKETS).map_while(latency_bound_us).collect(),
        unmatched: served(&unmatched.totals()),
        routes: routes(tables).iter().map(RouteRow::document).collect(),
        endpoints: endpoints.iter().map(EndpointRow::document).collect(),
        ..Stats::default()
    }
}

impl RouteRow<'_> {
    pub(crate) fn path_type(&self) -> &'static str {
        path_type(self.route.path.as_ref())
    }

    /// `NAMESPACE/NAME:PORT`, unless requests are refused.
    pub(crate) fn service(&self) -> Option<String> {
        let pool = self.route.target.pool.as_ref()?;
        let service = &pool.spec.service;
        Some(format!("{}/{}:{}", service.namespace, service.name, pool.spec.port))
    }

    /// Why requests are refused, if they are.
    pub(crate) fn refused(&self) -> Option<String> {
        match &self.route.action {
            Action::Forward(_) => None,
            Action::Refuse(refusal) => Some(refusal_text(refusal)),
        }
    }

    fn document(&self) -> RouteStats {
        RouteStats {
            host: self.route.host.to_string(),
            path: self.route.path.as_ref().map(|path| path.path().to_string()),
            path_type: self.path_type().to_owned(),
            source: self.route.source.to_string(),
            service: self.service(),
            refused: self.refused(),
            served: served(&self.totals),
        }
    }
}

impl EndpointRow {
    pub(crate) fn ejected_for_ms(&self) -> u64 {
        self.state.ejected_until_ms.load(Relaxed).saturating_sub(process_ms())
    }

    pub(crate) fn health(&self) -> Health {
        if self.ejected_for_ms() > 0 {
            return Health::Ejected;
        }
        match self.state.verdict() {
            CheckVerdict::Healthy => Health::Healthy,
            CheckVerdict::Unhealthy => Health::Unhealthy,
            CheckVerdict::Unknown => Health::Unchecked,
        }
    }

    pub(crate) fn latency_us(&self) -> Option<u64> {
        Some(self.state.latency_us.load(Relaxed)).filter(|latency_us| *latency_us != 0)
    }

    pub(crate) fn last_failure(&self) -> Option<Failure> {
        let LastFailure { at_ms, what } = self.state.last_failure.load()?;
        Some(Failure {
            what: match what {
                FailureKind::Reason(reason) => reason.code().to_owned(),
                FailureKind::Status(status) => format!("status_{status}"),
            },
            ago_ms: process_ms().saturating_sub(at_ms),
        })
    }

    fn document(&self) -> EndpointStats {
        let (spec, state) = (&self.spec, &self.state);
        let text = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
        EndpointStats {
            service: self.service.to_string(),
            address: spec.address.to_string(),
            pod: text(&spec.pod),
            node: text(&spec.node),
            zone: text(&spec.zone),
            weight: spec.weight,
            health: self.health(),
            ejected_for_ms: self.ejected_for_ms(),
            ejections: state.ejections_total.load(Relaxed),
            requests: state.requests_total.load(Relaxed),
            failures: state.failures_total.load(Relaxed),
            in_flight: u64::from(state.shown_active.load(Relaxed)),
            connections: u64::from(state.shown_connections.load(Relaxed)),
            latency_us: self.latency_us(),
            last_failure: self.last_failure(),
        }
    }
}

/// How a rule's path is compared, in Kubernetes' words.
pub(crate) fn path_type(path: Option<&PathMatch>) -> &'static str {
    match path {
        Some(PathMatch::Exact(_)) => "Exact",
        Some(PathMatch::Prefix(_)) => "Prefix",
        None => "DefaultBackend",
    }
}

/// Why requests are refused, in words.
pub(crate) fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::BackendNotFound(service) => {
            format!("Service {service} does not exist, or is of a type that is not served")
        }
        Refusal::BackendPortNotFound(port) => format!("Service port {port} does not exist"),
        Refusal::RestrictionUnsupported(name) => format!("{name} is not supported"),
    }
}

fn served(totals: &RuleTotals) -> Served {
    let [other, informational, success, redirection, client_error, server_error] = totals.classes;
    Served {
        requests: totals.requests(),
        in_flight: totals.in_flight,
        errors: totals.errors,
        status: StatusClasses {
            informational,
            success,
            redirection,
            client_error,
            server_error,
            other,
        },
        reasons: totals
            .reasons
            .iter()
            .map(|(reason, count)| (reason.code().to_owned(), *count))
            .collect(),
        latency: sparse(&totals.latency),
    }
}

fn sparse(latency: &LatencyCounts) -> Vec<(usize, u64)> {
    let counts = latency.0.iter().copied().enumerate();
    counts.filter(|(_, count)| *count != 0).collect()
}

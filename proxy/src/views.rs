//! What the admin listener tells: `/routes`, `/endpoints`, `/listeners` and `/stats` as JSON, the page at `/` and its events.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
};

use propylon_kit::{
    admin::Routes,
    metrics::{Exposition, Metric, Registry},
};
use propylon_model::{Action, EndpointsName};
use propylon_routing::Route;
use serde::Serialize;

use crate::{
    endpoint_state::{CheckVerdict, EndpointState, EndpointsHandle, LiveEndpoint, process_ms},
    overview::Overview,
    page,
    proxy::lock,
    stats::{path_type, refusal_text},
    tables::{Applier, Target, render_l4},
};

/// One rule of the table, in the order in which rules are matched.
#[derive(Serialize)]
struct RouteView {
    host: String,
    path: Option<String>,
    #[serde(rename = "pathType")]
    path_type: &'static str,
    source: String,
    pool: Option<String>,
    refused: Option<String>,
    #[serde(rename = "redirectHttps")]
    redirect_https: bool,
}

/// A listener of a Service.
#[derive(Serialize)]
struct ListenerView {
    /// `TCP` or `UDP`.
    protocol: &'static str,
    address: SocketAddr,
    /// `NAMESPACE/NAME`.
    service: String,
}

#[derive(Serialize)]
struct EndpointsView {
    name: String,
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    address: String,
    pod: Option<String>,
    node: Option<String>,
    /// The verdict of active health checks, where there is one.
    check: Option<&'static str>,
}

/// The views and the page.
pub(crate) fn routes(applier: &Arc<Mutex<Applier>>, overview: &Arc<Overview>) -> Routes {
    let (for_routes, for_endpoints, for_listeners) = (Arc::clone(applier), Arc::clone(applier), Arc::clone(applier));
    let (for_stats, for_page, for_events) = (Arc::clone(overview), Arc::clone(overview), Arc::clone(overview));
    Routes::new()
        .json("/routes", move || render_routes(&for_routes))
        .json("/endpoints", move || render_endpoints(&for_endpoints))
        .json("/listeners", move || render_listeners(&for_listeners))
        .json("/stats", move || {
            serde_json::to_vec(&for_stats.document()).unwrap_or_default()
        })
        .html("/", page::policy(), move |query| page::render(&for_page, query))
        .events("/events", page::REFRESH, move |query| page::render(&for_events, query))
}

fn render_routes(applier: &Mutex<Applier>) -> Vec<u8> {
    let tables = lock(applier).live().tables.load_full();
    let routes: Vec<RouteView> = tables.routes.routes().map(|route| view(route)).collect();
    let document = serde_json::json!({ "generation": tables.generation, "routes": routes });
    serde_json::to_vec_pretty(&document).unwrap_or_default()
}

fn view(route: &Route<Target>) -> RouteView {
    let (pool, refused) = match &route.action {
        Action::Forward(pool) => (Some(pool.to_string()), None),
        Action::Refuse(refusal) => (None, Some(refusal_text(refusal))),
    };
    RouteView {
        host: route.host.to_string(),
        path: route.path.as_ref().map(|path| path.path().to_string()),
        path_type: path_type(route.path.as_ref()),
        source: route.source.to_string(),
        pool,
        refused,
        redirect_https: route.redirect_https,
    }
}

fn render_listeners(applier: &Mutex<Applier>) -> Vec<u8> {
    let listeners = lock(applier).l4_listeners();
    let views = listeners.iter().map(|listener| ListenerView {
        protocol: listener.protocol.as_str(),
        address: listener.address,
        service: format!("{}/{}", listener.service.namespace, listener.service.name),
    });
    let document = serde_json::json!({ "listeners": views.collect::<Vec<_>>() });
    serde_json::to_vec_pretty(&document).unwrap_or_default()
}

fn render_endpoints(applier: &Mutex<Applier>) -> Vec<u8> {
    let mut views: Vec<EndpointsView> = lock(applier)
        .endpoints()
        .iter()
        .map(|(name, handle)| EndpointsView {
            name: name.to_string(),
            endpoints: handle.current.load().endpoints.iter().map(endpoint_view).collect(),
        })
        .collect();
    views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    serde_json::to_vec_pretty(&serde_json::json!({ "endpoints": views })).unwrap_or_default()
}

fn endpoint_view(endpoint: &LiveEndpoint) -> EndpointView {
    EndpointView {
        address: endpoint.spec.address.to_string(),
        pod: endpoint.spec.pod.as_deref().map(str::to_owned),
        node: endpoint.spec.node.as_deref().map(str::to_owned),
        check: match endpoint.state.verdict() {
            CheckVerdict::Unknown => None,
            CheckVerdict::Healthy => Some("healthy"),
            CheckVerdict::Unhealthy => Some("unhealthy"),
        },
    }
}

/// Shows the end of validity of every certificate, and every endpoint, among the metrics.
pub(crate) fn register(applier: &Arc<Mutex<Applier>>, registry: &Registry) {
    let applier = Arc::clone(applier);
    registry.add_source(move |exposition: &mut Exposition| {
        let (table, endpoints, l4) = {
            let applier = lock(&applier);
            (
                applier.live().certificates.load_full(),
                endpoint_series(applier.endpoints()),
                applier.l4_series(),
            )
        };
        render_l4(&l4, exposition);
        for fact in table.facts() {
            let name = fact.identity.to_string();
            let (namespace, secret) = name.split_once('/').unwrap_or(("", &name));
            exposition.gauge_count(Metric::CertificateNotAfter, &[namespace, secret], fact.not_after_unix_s);
        }
        for ((service, address), (up, ejected)) in endpoints {
            let (namespace, service) = service.split_once('/').unwrap_or(("", &service));
            let address = address.to_string();
            exposition.gauge_count(Metric::EndpointUp, &[namespace, service, &address], up);
            if ejected > 0 {
                exposition.counter(Metric::EndpointEjected, &[namespace, service, &address], ejected);
            }
        }
    });
}

/// Whether each endpoint takes requests, and how often it was ejected, by `NAMESPACE/SERVICE` and address, whatever the
/// number of its ports; at most [`MAX_ENDPOINT_SERIES`].
fn endpoint_series(lists: &HashMap<EndpointsName, Arc<EndpointsHandle>>) -> BTreeMap<(String, SocketAddr), (i64, u64)> {
    let mut series = BTreeMap::new();
    for (name, handle) in lists {
        let name = name.as_str();
        let service = name.rsplit_once(':').map_or(name, |(service, _port)| service);
        for endpoint in &handle.current.load().endpoints {
            let key = (service.to_owned(), endpoint.spec.address);
            if series.len() < MAX_ENDPOINT_SERIES || series.contains_key(&key) {
                let (up, ejected) = series.entry(key).or_insert((1, 0));
                *up = i64::min(*up, is_up(&endpoint.state).into());
                *ejected += endpoint.state.ejections_total.load(Ordering::Relaxed);
            }
        }
    }
    series
}

/// Neither unhealthy by its active checks nor left out for now.
fn is_up(state: &EndpointState) -> bool {
    state.verdict() != CheckVerdict::Unhealthy && state.ejected_until_ms.load(Ordering::Relaxed) <= process_ms()
}

/// As many endpoints have a series as routes have.
const MAX_ENDPOINT_SERIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use propylon_model::{Endpoint, Endpoints};

    use super::*;

    #[test]
    fn an_endpoint_of_two_service_ports_is_one_series() {
        let endpoint = |address: &str| Endpoint::new(address.parse().unwrap());
        let list = |addresses: &[&str]| Endpoints::new(addresses.iter().map(|address| endpoint(address)).collect());
        let mut lists = HashMap::new();
        for (name, addresses) in [
            ("shop/cart:80", ["10.0.0.1:8080", "[fd00::1]:8080"].as_slice()),
            ("shop/cart:81", &["10.0.0.1:8080"]),
            ("shop/empty:80", &[]),
        ] {
            let handle = Arc::new(EndpointsHandle::new(&list(addresses)));
            lists.insert(EndpointsName::new(name), handle);
        }
        let first = &lists[&EndpointsName::new("shop/cart:80")].current.load_full().endpoints[0];
        first.state.set_verdict(CheckVerdict::Unhealthy);
        let series: Vec<String> = endpoint_series(&lists)
            .into_iter()
            .map(|((service, address), (up, _))| format!("{service} {address} {up}"))
            .collect();
        assert_eq!(series, ["shop/cart 10.0.0.1:8080 0", "shop/cart [fd00::1]:8080 1"]);
    }
}

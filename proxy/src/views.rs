//! What the admin listener tells of the configuration: `/routes` and `/endpoints` as JSON.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use propylon_kit::{
    admin::Routes,
    metrics::{Exposition, Metric, Registry},
};
use propylon_model::{Action, PathMatch, Refusal, Resources};
use propylon_routing::Route;
use serde::Serialize;

use crate::{
    proxy::lock,
    tables::{Applier, Target},
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
}

/// The JSON views.
pub(crate) fn routes(applier: &Arc<Mutex<Applier>>) -> Routes {
    let (for_routes, for_endpoints) = (Arc::clone(applier), Arc::clone(applier));
    Routes::new()
        .json("/routes", move || render_routes(&for_routes))
        .json("/endpoints", move || render_endpoints(&for_endpoints))
}

fn render_routes(applier: &Mutex<Applier>) -> Vec<u8> {
    let tables = lock(applier).live().tables.load_full();
    let routes: Vec<RouteView> = tables.routes.routes().map(|route| view(route)).collect();
    let document = serde_json::json!({ "generation": tables.generation, "routes": routes });
    serde_json::to_vec_pretty(&document).unwrap_or_default()
}

fn view(route: &Route<Target>) -> RouteView {
    let path_type = match route.path {
        Some(PathMatch::Exact(_)) => "Exact",
        Some(PathMatch::Prefix(_)) => "Prefix",
        None => "DefaultBackend",
    };
    let (pool, refused) = match &route.action {
        Action::Forward(pool) => (Some(pool.to_string()), None),
        Action::Refuse(refusal) => (None, Some(refusal_text(refusal))),
    };
    RouteView {
        host: route.host.to_string(),
        path: route.path.as_ref().map(|path| path.path().to_string()),
        path_type,
        source: route.source.to_string(),
        pool,
        refused,
        redirect_https: route.redirect_https,
    }
}

pub(crate) fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::BackendNotFound(service) => {
            format!("Service {service} does not exist, or is of a type that is not served")
        }
        Refusal::BackendPortNotFound(port) => format!("Service port {port} does not exist"),
        Refusal::RestrictionUnsupported(name) => format!("{name} is not supported"),
    }
}

fn render_endpoints(applier: &Mutex<Applier>) -> Vec<u8> {
    let views: Vec<EndpointsView> = lock(applier)
        .resources()
        .endpoints
        .iter()
        .map(|(name, endpoints)| EndpointsView {
            name: name.to_string(),
            endpoints: endpoints
                .endpoints
                .iter()
                .map(|endpoint| EndpointView {
                    address: endpoint.address.to_string(),
                    pod: endpoint.pod.as_deref().map(str::to_owned),
                    node: endpoint.node.as_deref().map(str::to_owned),
                })
                .collect(),
        })
        .collect();
    serde_json::to_vec_pretty(&serde_json::json!({ "endpoints": views })).unwrap_or_default()
}

/// Shows the end of validity of every certificate, and every endpoint, among the metrics.
pub(crate) fn register(applier: &Arc<Mutex<Applier>>, registry: &Registry) {
    let applier = Arc::clone(applier);
    registry.add_source(move |exposition: &mut Exposition| {
        let (table, endpoints) = {
            let applier = lock(&applier);
            (
                applier.live().certificates.load_full(),
                endpoint_series(applier.resources()),
            )
        };
        for fact in table.facts() {
            let name = fact.identity.to_string();
            let (namespace, secret) = name.split_once('/').unwrap_or(("", &name));
            exposition.gauge_count(Metric::CertificateNotAfter, &[namespace, secret], fact.not_after_unix_s);
        }
        for (service, address) in endpoints {
            let (namespace, service) = service.split_once('/').unwrap_or(("", &service));
            exposition.gauge_count(Metric::EndpointUp, &[namespace, service, &address.to_string()], 1);
        }
    });
}

/// `NAMESPACE/SERVICE` and address of each endpoint once, whatever the number of its ports; at most
/// [`MAX_ENDPOINT_SERIES`].
fn endpoint_series(resources: &Resources) -> BTreeSet<(String, SocketAddr)> {
    let services = resources.endpoints.iter().map(|(name, endpoints)| {
        let name = name.as_str();
        let service = name.rsplit_once(':').map_or(name, |(service, _port)| service);
        endpoints
            .endpoints
            .iter()
            .map(move |endpoint| (service.to_owned(), endpoint.address))
    });
    services.flatten().take(MAX_ENDPOINT_SERIES).collect()
}

/// As many endpoints have a series as routes have.
const MAX_ENDPOINT_SERIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use propylon_model::{Endpoint, Endpoints, EndpointsName};

    use super::*;

    #[test]
    fn an_endpoint_of_two_service_ports_is_one_series() {
        let endpoint = |address: &str| Endpoint::new(address.parse().unwrap());
        let list = |addresses: &[&str]| Endpoints::new(addresses.iter().map(|address| endpoint(address)).collect());
        let mut resources = Resources::default();
        for (name, addresses) in [
            ("shop/cart:80", ["10.0.0.1:8080", "[fd00::1]:8080"].as_slice()),
            ("shop/cart:81", &["10.0.0.1:8080"]),
            ("shop/empty:80", &[]),
        ] {
            resources
                .endpoints
                .insert(EndpointsName::new(name), Arc::new(list(addresses)));
        }
        let series: Vec<String> = endpoint_series(&resources)
            .into_iter()
            .map(|(service, address)| format!("{service} {address}"))
            .collect();
        assert_eq!(series, ["shop/cart 10.0.0.1:8080", "shop/cart [fd00::1]:8080"]);
    }
}

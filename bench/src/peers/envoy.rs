//! Envoy: one worker (`--concurrency 1`), one virtual host per host, access log to a file.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::Site;
use crate::procs::Launch;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

pub(super) fn launch(site: &Site<'_>, program: &Path) -> Result<Launch> {
    let config = site.write("envoy.json", &serde_json::to_string(&config(site))?)?;
    let args = vec![
        "--concurrency".into(),
        "1".into(),
        "--disable-hot-restart".into(),
        "--file-flush-interval-msec".into(),
        "500".into(),
        "--log-level".into(),
        "error".into(),
        "-c".into(),
        config.into(),
    ];
    Ok(site.launch("envoy", program, args))
}

fn config(site: &Site<'_>) -> Value {
    json!({
        "static_resources": {
            "listeners": [listener(site, site.http, false), listener(site, site.https, true)],
            "clusters": [{
                "name": "echo",
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": { "thresholds": [{
                    "max_connections": 16000, "max_pending_requests": 16000, "max_requests": 16000 }] },
                "load_assignment": {
                    "cluster_name": "echo",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(site.lab.backend_addr) } }] }]
                }
            }]
        }
    })
}

fn address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } })
}

fn listener(site: &Site<'_>, addr: SocketAddr, tls: bool) -> Value {
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager(site)
    }] });
    if let (true, Some(chain)) = (tls, chain.as_object_mut()) {
        let file = |path: &Path| json!({ "filename": path.display().to_string() });
        let context = json!({ "@type": TLS, "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "ecdh_curves": ["X25519"] },
            "tls_certificates": [{
                "certificate_chain": file(&site.lab.certs.cert), "private_key": file(&site.lab.certs.key) }]
        } });
        chain.insert(
            "transport_socket".to_owned(),
            json!({ "name": "envoy.transport_sockets.tls", "typed_config": context }),
        );
    }
    json!({ "address": address(addr), "filter_chains": [chain] })
}

fn manager(site: &Site<'_>) -> Value {
    let virtual_hosts: Vec<Value> = site
        .lab
        .hosts
        .iter()
        .map(|host| {
            json!({ "name": host, "domains": [host], "routes": [{
                "match": { "prefix": "/" }, "route": { "cluster": "echo", "timeout": "60s" } }] })
        })
        .collect();
    let log = json!([{ "name": "envoy.access_loggers.file", "typed_config": {
        "@type": FILE_LOG, "path": site.path_text("access.log") } }]);
    json!({
        "@type": MANAGER,
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "strip_any_host_port": true,
        "use_remote_address": true,
        "access_log": if site.lab.access_log { log } else { json!([]) },
        "route_config": { "name": "bench", "virtual_hosts": virtual_hosts },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }]
    })
}

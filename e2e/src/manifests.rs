//! Manifests that most tests start from.

use std::net::SocketAddr;

use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    manifest::{self, Ingress},
};

/// A Service of the namespace `default`, port 80, with these endpoints. All must share one port; none: no slice.
pub fn backend(name: &str, endpoints: &[SocketAddr]) -> String {
    backend_with(name, "", endpoints)
}

/// The same, with an `appProtocol`.
pub fn backend_with(name: &str, app_protocol: &str, endpoints: &[SocketAddr]) -> String {
    let mut yaml = manifest::service("default", name, 80, app_protocol);
    for (number, address) in endpoints.iter().enumerate() {
        yaml.push_str(&manifest::endpoint_slice(
            "default",
            name,
            &format!("s{number}"),
            &[*address],
        ));
    }
    yaml
}

/// An Ingress of the namespace `default`.
pub fn ingress(name: &str) -> Ingress {
    manifest::ingress("default", name)
}

/// An Ingress that sends everything at `host` to the Service `service`, and that Service with its endpoints.
pub fn site(host: &str, service: &str, endpoints: &[SocketAddr]) -> String {
    ingress(service).prefix(host, "/", service, 80).yaml() + &backend(service, endpoints)
}

/// A running echo backend.
///
/// # Panics
/// When it cannot listen.
pub fn echo(name: &str) -> EchoServer {
    EchoServer::start(EchoOptions::named(name)).expect("an echo backend can listen")
}

//! TLS passthrough by server name, with curl and openssl as clients.

use std::path::Path;

use propylon_e2e::{
    Gate,
    manifests::{backend_with, echo, ingress, site},
    programs,
};
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer},
};

/// What curl prints for `https://host/` at the proxy, trusting one authority.
fn curl(gate: &Gate, host: &str, ca: &Path) -> programs::Finished {
    let port = gate.https.port();
    programs::curl(&[
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &format!("{host}:{port}:127.0.0.1"),
        &format!("https://{host}:{port}/"),
    ])
}

#[test]
fn the_backend_shows_its_own_certificate_and_other_hosts_are_served_here() {
    let authority = Authority::new("backend");
    let leaf = authority.leaf(&["secret.example"]);
    let options = EchoOptions::named("secret").with_tls(leaf.server_config(&["h2", "http/1.1"]));
    let secret = EchoServer::start(options).unwrap();
    let web = echo("web");
    let handed_on = ingress("secret")
        .annotation("propylon.dev/tls-passthrough", "true")
        .prefix("secret.example", "/", "secret", 80)
        .yaml()
        + &backend_with("secret", "https", &[secret.address]);
    let here = site("web.example", "web", &[web.address]);
    let gate = Gate::start(&(handed_on + &here));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    // Verified by curl, from end to end, over HTTP/2.
    let finished = curl(&gate, "secret.example", &ca);
    assert!(finished.succeeded(), "{}", finished.text());
    assert!(finished.stdout().contains("\"secret\""), "{}", finished.text());
    // The other host has our certificate, which this authority did not issue.
    assert!(!curl(&gate, "web.example", &ca).succeeded());
    assert_eq!(gate.get_tls("web.example", "/").json()["name"], "web");
    let shown = programs::run(
        "openssl",
        &[
            "s_client",
            "-connect",
            &gate.https.to_string(),
            "-servername",
            "secret.example",
            "-CAfile",
            ca.to_str().unwrap(),
            "-verify_return_error",
        ],
    );
    assert!(shown.text().contains("Verify return code: 0 (ok)"), "{}", shown.text());
    let labels = ["listener=\"passthrough\"", "end=\"complete\""];
    gate.until("the connections are counted", || {
        gate.metric("propylon_l4_connections_total", &labels)
            .unwrap_or_default()
            >= 1.0
    });
}

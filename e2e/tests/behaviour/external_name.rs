//! Services of type `ExternalName`: real names of a real DNS server, from the manifest to the backend.

use propylon_e2e::{Gate, manifests::ingress, report::Report};
use propylon_testkit::{
    certs::Authority,
    dns::{DnsAnswer, DnsServer},
    echo::{EchoOptions, EchoServer},
    manifest,
};

const NAME: &str = "backend.example.org";

fn echo() -> EchoServer {
    propylon_e2e::manifests::echo("outside")
}

/// A Service that leads to [`NAME`], and an Ingress that sends everything at `web.example` to a port of it.
fn site(port: u16) -> String {
    ingress("web").prefix("web.example", "/", "web", port).yaml() + &service("")
}

fn service(ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{type: ExternalName, externalName: {NAME}{ports}}}\n"
    )
}

fn start(dns: &DnsServer, manifests: &str, more: &[&str]) -> Gate {
    let server = dns.address.to_string();
    Gate::start_with(manifests, &[&["--dns-server", server.as_str()], more].concat())
}

#[test]
fn the_name_is_resolved_and_the_host_stays_that_of_the_client() {
    let (dns, backend) = (DnsServer::start().unwrap(), echo());
    dns.set_addresses(NAME, &["127.0.0.1"], 60);
    let gate = start(&dns, &site(backend.address.port()), &[]);
    gate.until_status("web.example", "/", 200);
    let report = Report::of(&gate.get("web.example", "/"));
    assert_eq!(
        (report.name().as_str(), report.text("host").as_str()),
        ("outside", "web.example")
    );
    let endpoint = format!("endpoint=\"{}\"", backend.address);
    assert_eq!(
        gate.metric("propylon_endpoint_up", &["service=\"web\"", &endpoint]),
        Some(1.0)
    );
}

#[test]
fn a_failing_dns_is_reported_while_the_last_addresses_serve() {
    let (dns, backend) = (DnsServer::start().unwrap(), echo());
    dns.set_addresses(NAME, &["127.0.0.1"], 1);
    let gate = start(&dns, &site(backend.address.port()), &[]);
    gate.until_status("web.example", "/", 200);
    dns.set(NAME, DnsAnswer::Failure);
    gate.line(&[
        "warning default/web Service: ExternalNameUnresolved",
        NAME,
        "last good answer",
    ]);
    assert_eq!(gate.get("web.example", "/").status, 200);
    dns.set_addresses(NAME, &["127.0.0.1"], 1);
    gate.line(&["resolved default/web Service: ExternalNameUnresolved"]);
}

#[test]
fn local_answers_are_refused_where_local_endpoints_are() {
    let (dns, backend) = (DnsServer::start().unwrap(), echo());
    dns.set_addresses(NAME, &["127.0.0.1", "::ffff:127.0.0.1"], 60);
    let gate = start(&dns, &site(backend.address.port()), &["--allow-local-endpoints=off"]);
    gate.line(&[
        "warning default/web Service: EndpointDenied",
        NAME,
        "127.0.0.1",
        "--allow-local-endpoints",
    ]);
    assert_eq!(gate.get("web.example", "/").status, 503);
    assert_eq!(backend.connections(), 0);
}

/// The certificate of the backend must be for the external name; a certificate for the client's host is not enough.
#[test]
fn the_external_name_is_what_tls_verifies() {
    let authority = Authority::new("outside");
    for (host, status) in [(NAME, 200), ("web.example", 502)] {
        let dns = DnsServer::start().unwrap();
        dns.set_addresses(NAME, &["127.0.0.1"], 60);
        let leaf = authority.leaf(&[host]);
        let options = EchoOptions::named("outside").with_tls(leaf.server_config(&["h2", "http/1.1"]));
        let backend = EchoServer::start(options).unwrap();
        let port = backend.address.port();
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: outside-ca, namespace: default}}\nstringData:\n  ca.crt: {:?}\n",
            authority.pem()
        );
        let manifests = ingress("web")
            .prefix("web.example", "/", "web", port)
            .annotation("propylon.dev/backend-ca-secret", "outside-ca")
            .yaml()
            + &service(&format!(", ports: [{{name: https, port: {port}, appProtocol: https}}]"))
            + &secret;
        let gate = start(&dns, &manifests, &[]);
        gate.until_status("web.example", "/", status);
    }
}

#[test]
fn without_the_flag_the_service_is_refused() {
    let (dns, backend) = (DnsServer::start().unwrap(), echo());
    dns.set_addresses(NAME, &["127.0.0.1"], 60);
    let gate = start(&dns, &site(backend.address.port()), &["--external-name", "off"]);
    gate.line(&["ExternalNameUnsupported", "--external-name is off"]);
    assert_eq!(gate.get("web.example", "/").status, 503);
    assert_eq!(dns.queries(NAME), 0);
}

/// From one kind of Service to the other and back, under the same name and while requests come.
#[test]
fn a_service_may_become_external_and_come_back() {
    let (dns, outside, inside) = (
        DnsServer::start().unwrap(),
        echo(),
        propylon_e2e::manifests::echo("inside"),
    );
    dns.set_addresses(NAME, &["127.0.0.1"], 60);
    let port = outside.address.port();
    let rule = ingress("web").prefix("web.example", "/", "web", port).yaml();
    let within = rule
        + &manifest::service("default", "web", port, "")
        + &manifest::endpoint_slice("default", "web", "s", &[inside.address]);
    let gate = start(&dns, &within, &[]);
    gate.until_status("web.example", "/", 200);
    for (manifests, name) in [(site(port), "outside"), (within, "inside")] {
        gate.replace(&manifests);
        gate.until("the other backend serves", || {
            Report::of(&gate.get("web.example", "/")).name() == name
        });
    }
}

//! TLS: which certificate is shown, who may give a host its certificate, rotation, redirects.

use std::time::Duration;

use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress, site},
    programs,
    report::Report,
};
use propylon_testkit::{
    certs::{Authority, KeyType, Leaf, Validity},
    echo::EchoServer,
    manifest,
    raw::RawClient,
};

/// An Ingress for `host` with a Secret, its Service and its endpoints.
fn secure_site(host: &str, name: &str, secret: &str, echo: &EchoServer) -> String {
    ingress(name)
        .prefix(host, "/", name, 80)
        .tls(&[host], Some(secret))
        .yaml()
        + &backend(name, &[echo.address])
}

fn secret(name: &str, leaf: &Leaf) -> String {
    manifest::tls_secret("default", name, leaf)
}

/// Whether the proxy shows this leaf for a name.
fn shows(gate: &Gate, sni: Option<&str>, leaf: &Leaf) -> bool {
    gate.connect_tls(sni, &[]).certificates().first() == Some(&leaf.cert_der)
}

#[test]
fn the_name_selects_the_certificate_and_wildcards_cover_one_label() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let (exact, wildcard) = (authority.leaf(&["a.web.example"]), authority.leaf(&["*.web.example"]));
    let gate = Gate::start(
        &(secure_site("a.web.example", "exact", "exact", &echo)
            + &secure_site("*.web.example", "wildcard", "wildcard", &echo)
            + &secret("exact", &exact)
            + &secret("wildcard", &wildcard)),
    );
    assert!(shows(&gate, Some("a.web.example"), &exact));
    assert!(shows(&gate, Some("b.web.example"), &wildcard));
    for other in [
        Some("c.b.web.example"),
        Some("web.example"),
        Some("other.example"),
        None,
    ] {
        assert!(
            !shows(&gate, other, &exact) && !shows(&gate, other, &wildcard),
            "{other:?}"
        );
    }
    assert_eq!(gate.get_tls("a.web.example", "/").status, 200);
    assert_eq!(gate.get_tls("b.web.example", "/").status, 200);
}

#[test]
fn a_secret_without_tls_hosts_serves_the_hosts_of_the_rules() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let leaf = authority.leaf(&["web.example"]);
    let yaml = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .tls(&[], Some("web"))
        .yaml();
    let gate = Gate::start(&(yaml + &backend("web", &[echo.address]) + &secret("web", &leaf)));
    assert!(shows(&gate, Some("web.example"), &leaf));
}

#[test]
fn a_host_that_the_certificate_does_not_cover_is_not_served_with_it() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let leaf = authority.leaf(&["other.example"]);
    let gate = Gate::start(&(secure_site("web.example", "web", "web", &echo) + &secret("web", &leaf)));
    assert!(!shows(&gate, Some("web.example"), &leaf));
    gate.line(&["TLSHostMismatch", "web.example"]);
}

#[test]
fn the_key_type_is_chosen_by_what_the_client_supports() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let rsa = authority.leaf_with(&["web.example"], KeyType::Rsa, Validity::Valid);
    let ecdsa = authority.leaf_with(&["web.example"], KeyType::Ecdsa, Validity::Valid);
    let yaml = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .tls(&["web.example"], Some("rsa"))
        .tls(&["web.example"], Some("ecdsa"))
        .yaml();
    let gate =
        Gate::start(&(yaml + &backend("web", &[echo.address]) + &secret("rsa", &rsa) + &secret("ecdsa", &ecdsa)));
    let address = gate.https.to_string();
    for (algorithms, expected) in [("RSA-PSS+SHA256:RSA+SHA256", "rsa"), ("ECDSA+SHA256", "ecdsa")] {
        for version in ["-tls1_2", "-tls1_3"] {
            let arguments = [
                "s_client",
                "-connect",
                &address,
                "-servername",
                "web.example",
                "-sigalgs",
                algorithms,
                version,
            ];
            let text = programs::run("openssl", &arguments).text();
            let is_rsa = text.contains("Peer signature type: RSA") || text.contains("Peer signature type: rsa");
            assert_eq!(is_rsa, expected == "rsa", "{algorithms} {version}\n{text}");
            assert!(text.contains("BEGIN CERTIFICATE"), "{algorithms} {version}\n{text}");
        }
    }
}

#[test]
fn versions_1_2_and_1_3_are_spoken_and_older_ones_refused() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let address = gate.https.to_string();
    for (version, accepted) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false)] {
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            "web.example",
            version,
            "-cipher",
            "ALL:@SECLEVEL=0",
        ];
        let text = programs::run("openssl", &arguments).text();
        assert_eq!(text.contains("BEGIN CERTIFICATE"), accepted, "{version}\n{text}");
    }
}

#[test]
fn alpn_offers_http2_and_http1() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let chosen = |alpn: &[&str]| gate.connect_tls(Some("web.example"), alpn).alpn();
    assert_eq!(chosen(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(chosen(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(chosen(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(chosen(&[]), None);
}

#[test]
fn sessions_resume_on_any_thread() {
    let echo = echo("web");
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--workers", "4"]);
    let folder = tempfile::tempdir().unwrap();
    let session = folder.path().join("session").display().to_string();
    let address = gate.https.to_string();
    let arguments = [
        "s_client",
        "-connect",
        &address,
        "-servername",
        "web.example",
        "-tls1_2",
        "-sess_out",
        &session,
    ];
    assert!(programs::run("openssl", &arguments).text().contains("New, TLSv1.2"));
    for _ in 0..12 {
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            "web.example",
            "-tls1_2",
            "-sess_in",
            &session,
        ];
        let text = programs::run("openssl", &arguments).text();
        assert!(text.contains("Reused, TLSv1.2"), "{text}");
    }
}

#[test]
fn rotation_is_live_within_a_second_and_closes_no_connection() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let (old, new) = (authority.leaf(&["web.example"]), authority.leaf(&["web.example"]));
    let web = secure_site("web.example", "web", "web", &echo);
    let gate = Gate::start_files(&[("web.yaml", &web), ("secret.yaml", &secret("web", &old))], &[]);
    let mut client = gate.connect_tls(Some("web.example"), &["http/1.1"]);
    assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    gate.write("secret.yaml", &secret("web", &new));
    let rotated = gate.until("the new certificate is shown", || {
        shows(&gate, Some("web.example"), &new)
    });
    assert!(rotated < Duration::from_secs(1), "{rotated:?}");
    assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    assert_eq!(client.certificates().first(), Some(&old.cert_der));
}

#[test]
fn only_the_namespace_that_owns_a_host_gives_it_a_certificate() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let (owner, thief) = (authority.leaf(&["web.example"]), authority.leaf(&["web.example"]));
    let theft = manifest::ingress("a-thief", "web")
        .prefix("web.example", "/stolen", "web", 80)
        .tls(&["web.example"], Some("web"))
        .created("2024-01-01T00:00:00Z")
        .yaml();
    let own = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .tls(&["web.example"], Some("web"))
        .created("2023-01-01T00:00:00Z")
        .yaml();
    let base = own + &theft + &backend("web", &[echo.address]) + &manifest::tls_secret("a-thief", "web", &thief);
    let gate = Gate::start(&(base.clone() + &secret("web", &owner)));
    assert!(shows(&gate, Some("web.example"), &owner));
    gate.line(&["a-thief/web", "TLSHostDenied", "web.example"]);
    // Without a Secret of the owner the host gets the default certificate, never the other namespace's.
    gate.replace(&base);
    gate.line(&["TLSSecretNotFound", "default/web"]);
    assert!(!shows(&gate, Some("web.example"), &thief));
}

#[test]
fn the_default_secret_is_served_where_nothing_matches() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let leaf = authority.leaf(&["default.example"]);
    let yaml = site("web.example", "web", &[echo.address]) + &manifest::tls_secret("certs", "default", &leaf);
    let gate = Gate::start_with(&yaml, &["--default-tls-secret", "certs/default"]);
    assert!(shows(&gate, Some("web.example"), &leaf));
    assert!(shows(&gate, None, &leaf));
}

#[test]
fn a_bad_secret_keeps_the_last_good_certificate_for_its_own_hosts_only() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let (good, other) = (authority.leaf(&["web.example"]), authority.leaf(&["other.example"]));
    let sites =
        secure_site("web.example", "web", "web", &echo) + &secure_site("other.example", "other", "other", &echo);
    let files = [
        ("web.yaml", sites.as_str()),
        ("a.yaml", &secret("web", &good)),
        ("b.yaml", &secret("other", &other)),
    ];
    let gate = Gate::start_files(&files, &[]);
    assert!(shows(&gate, Some("web.example"), &good));

    gate.write("a.yaml", &secret("web", &good.with_key_of(&other)));
    gate.line(&["default/web Secret", "TLSSecretInvalid"]);
    assert!(shows(&gate, Some("web.example"), &good));
    assert!(shows(&gate, Some("other.example"), &other));

    let garbage = Leaf {
        cert_pem: "garbage".to_owned(),
        ..good.clone()
    };
    let gate = Gate::start_files(
        &[
            ("web.yaml", &sites),
            ("a.yaml", &secret("web", &garbage)),
            ("b.yaml", &secret("other", &other)),
        ],
        &[],
    );
    gate.line(&["default/web Secret", "TLSSecretInvalid"]);
    assert!(!shows(&gate, Some("web.example"), &good));
    assert!(shows(&gate, Some("other.example"), &other));
    assert_eq!(gate.get_tls("web.example", "/").status, 200);
}

#[test]
fn an_expired_certificate_is_served_only_while_it_is_alone() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let expired = authority.leaf_with(&["web.example"], KeyType::Ecdsa, Validity::Expired);
    let valid = authority.leaf(&["web.example"]);
    let yaml = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .tls(&["web.example"], Some("a-expired"))
        .tls(&["web.example"], Some("b-valid"))
        .yaml()
        + &backend("web", &[echo.address])
        + &secret("a-expired", &expired);
    let gate = Gate::start(&yaml);
    assert!(shows(&gate, Some("web.example"), &expired));
    gate.line(&["CertificateExpired"]);
    gate.replace(&(yaml + &secret("b-valid", &valid)));
    gate.until("the valid certificate is shown", || {
        shows(&gate, Some("web.example"), &valid)
    });
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_misdirected() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let (both, other) = (
        authority.leaf(&["a.example", "b.example"]),
        authority.leaf(&["other.example"]),
    );
    let shared = ingress("shared")
        .prefix("a.example", "/", "a", 80)
        .prefix("b.example", "/", "a", 80)
        .tls(&["a.example", "b.example"], Some("both"))
        .yaml();
    let gate = Gate::start(
        &(shared
            + &backend("a", &[echo.address])
            + &secure_site("other.example", "other", "other", &echo)
            + &site("plain.example", "plain", &[echo.address])
            + &secret("both", &both)
            + &secret("other", &other)),
    );
    let status = |sni: Option<&str>, host: &str| gate.connect_tls(sni, &["http/1.1"]).get(host, "/").unwrap().status;
    assert_eq!(status(Some("a.example"), "a.example"), 200);
    assert_eq!(status(Some("a.example"), "b.example"), 200);
    assert_eq!(status(Some("a.example"), "other.example"), 421);
    assert_eq!(status(Some("a.example"), "plain.example"), 421);
    assert_eq!(status(Some("plain.example"), "plain.example"), 200);
    assert_eq!(status(None, "other.example"), 421);
    assert_eq!(status(None, "plain.example"), 200);
}

#[test]
fn plain_http_of_a_host_with_a_certificate_is_redirected() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let leaf = authority.leaf(&["web.example"]);
    let yaml = secure_site("web.example", "web", "web", &echo)
        + &site("plain.example", "plain", &[echo.address])
        + &secret("web", &leaf);
    let gate = Gate::start_with(&yaml, &["--trusted-proxies", "127.0.0.1/32"]);
    let redirect = gate.get("web.example", "/a/b?c=d&e");
    assert_eq!(redirect.status, 308);
    let port = gate.https.port();
    assert_eq!(
        redirect.header("location"),
        Some(format!("https://web.example:{port}/a/b?c=d&e").as_str())
    );
    assert_eq!(gate.get("plain.example", "/").status, 200);
    assert_eq!(gate.get("web.example", "/.well-known/acme-challenge/token").status, 200);
    let forwarded = gate.send("GET / HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(forwarded.status, 200);

    let gate = Gate::start_with(&yaml, &["--https-public-port", "443"]);
    assert_eq!(
        gate.get("web.example", "/x").header("location"),
        Some("https://web.example/x")
    );
    let untrusted = gate.send("GET / HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(untrusted.status, 308);
}

#[test]
fn the_redirect_follows_its_annotation() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let leaf = authority.leaf(&["off.example"]);
    let off = ingress("off")
        .prefix("off.example", "/", "web", 80)
        .tls(&["off.example"], Some("off"))
        .annotation("propylon.dev/redirect-https", "false")
        .yaml();
    let on = ingress("on")
        .prefix("on.example", "/", "web", 80)
        .annotation("propylon.dev/redirect-https", "true")
        .yaml();
    let gate = Gate::start(&(off + &on + &backend("web", &[echo.address]) + &secret("off", &leaf)));
    assert_eq!(gate.get("off.example", "/").status, 200);
    assert_eq!(gate.get("on.example", "/").status, 308);
    assert_eq!(
        Report::of(&gate.get_tls("on.example", "/"))
            .header("x-forwarded-proto")
            .as_deref(),
        Some("https")
    );
}

#[test]
fn a_verified_backend_is_spoken_to_by_its_name_and_a_stranger_is_not() {
    use propylon_testkit::echo::EchoOptions;
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let serve = |authority: &Authority, name: &str| {
        let config = authority.leaf(&["backend.internal"]).server_config(&["h2", "http/1.1"]);
        EchoServer::start(EchoOptions::named(name).with_tls(config)).unwrap()
    };
    let (known, unknown) = (serve(&authority, "known"), serve(&stranger, "unknown"));
    let ca = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData:\n  ca.crt: {}\n",
        serde_json::Value::from(authority.pem())
    );
    let verified = |name: &str, server_name: &str| {
        ingress(name)
            .prefix(&format!("{name}.example"), "/", name, 80)
            .annotation("propylon.dev/backend-ca-secret", "ca")
            .annotation("propylon.dev/backend-server-name", server_name)
            .yaml()
    };
    let https = |name: &str, echo: &EchoServer| propylon_e2e::manifests::backend_with(name, "https", &[echo.address]);
    let gate = Gate::start(
        &(ca + &verified("known", "backend.internal")
            + &verified("misnamed", "other.internal")
            + &verified("unknown", "backend.internal")
            + &ingress("unverified")
                .prefix("unverified.example", "/", "unverified", 80)
                .yaml()
            + &https("known", &known)
            + &https("misnamed", &known)
            + &https("unknown", &unknown)
            + &https("unverified", &unknown)),
    );
    assert_eq!(Report::of(&gate.get("known.example", "/")).text("protocol"), "HTTP/2.0");
    assert_eq!(gate.get("misnamed.example", "/").status, 502);
    assert_eq!(gate.get("unknown.example", "/").status, 502);
    assert_eq!(gate.get("unverified.example", "/").status, 200);
    gate.line(&["notice", "unverified", "BackendTLSUnverified"]);
}

#[test]
fn what_is_no_handshake_is_closed_and_disturbs_no_one() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let mut garbage = RawClient::connect(gate.https).unwrap();
    garbage.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    let answer = garbage.rest().unwrap_or_default();
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(gate.get_tls("web.example", "/").status, 200);
}

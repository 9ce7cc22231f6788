//! The one normal form in which paths are matched, and what is refused because readers would differ.

use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress},
    report::Report,
};

struct Site {
    gate: Gate,
    _servers: [propylon_testkit::echo::EchoServer; 2],
}

/// `/admin` goes to one backend, everything else to another.
fn guarded() -> Site {
    let servers = [echo("admin"), echo("public")];
    let gate = Gate::start(
        &(ingress("web")
            .prefix("web.example", "/admin", "admin", 80)
            .prefix("web.example", "/", "public", 80)
            .prefix("literal.example", "/{name}/*", "admin", 80)
            .prefix("escaped.example", "/%41bc/x%20y", "admin", 80)
            .yaml()
            + &backend("admin", &[servers[0].address])
            + &backend("public", &[servers[1].address])),
    );
    Site {
        gate,
        _servers: servers,
    }
}

#[test]
fn what_a_backend_would_read_is_what_is_matched() {
    let site = guarded();
    for (path, name, upstream) in [
        ("/admin", "admin", "/admin"),
        ("/%61dmin", "admin", "/%61dmin"),
        ("/x/../admin", "admin", "/admin"),
        ("/x/%2e%2E/admin", "admin", "/admin"),
        ("/./admin/.", "admin", "/admin/"),
        ("//admin", "admin", "//admin"),
        ("/admin//x", "admin", "/admin//x"),
        ("/administrator", "public", "/administrator"),
        ("/a:b@c!$&'()*+,;=~-._", "public", "/a:b@c!$&'()*+,;=~-._"),
        ("/caf%c3%a9?q=%zz&r=/../admin", "public", "/caf%c3%a9?q=%zz&r=/../admin"),
    ] {
        let report = Report::of(&site.gate.get("web.example", path));
        assert_eq!(
            (report.name().as_str(), report.text("target").as_str()),
            (name, upstream),
            "{path}"
        );
    }
}

#[test]
fn paths_that_readers_could_understand_differently_are_refused() {
    let site = guarded();
    for path in [
        "/a\\b",
        "/a%00b",
        "/a%zzb",
        "/a%2",
        "/a%",
        "/x/..%2fadmin",
        "/x%2f../admin",
        "/x%2F%2e%2e/admin",
        "/x//../admin",
        "/x/..;/admin",
        "/%2fadmin",
        "/x/%5c../admin",
    ] {
        let status = site.gate.get("web.example", path).status;
        assert_eq!(status, 400, "{path}");
    }
}

#[test]
fn an_encoded_slash_that_changes_nothing_is_let_through_as_it_came() {
    let site = guarded();
    let report = Report::of(&site.gate.get("web.example", "/files/a%2fb"));
    assert_eq!(
        (report.name().as_str(), report.text("target").as_str()),
        ("public", "/files/a%2fb")
    );
}

#[test]
fn braces_and_stars_of_a_rule_are_literals() {
    let site = guarded();
    assert_eq!(site.gate.get("literal.example", "/anything/at-all").status, 404);
    assert_eq!(
        Report::of(&site.gate.get("literal.example", "/%7Bname%7D/*")).name(),
        "admin"
    );
}

#[test]
fn rule_paths_get_the_same_form() {
    let site = guarded();
    assert_eq!(
        Report::of(&site.gate.get("escaped.example", "/Abc/%78%20y")).name(),
        "admin"
    );
    assert_eq!(site.gate.get("escaped.example", "/Abc/x+y").status, 404);
}

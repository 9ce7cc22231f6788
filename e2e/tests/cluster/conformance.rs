//! The scenarios of `kubernetes-sigs/ingress-controller-conformance` (its feature files, tag `@conformance`), written
//! again: that suite is no Go module that can be fetched.
//!
//! [`table`] has them as data, each with the name of its scenario. Differences from the original: the Ingresses name our
//! class, and a request is repeated until its answer is the wanted one, instead of waiting for the status alone.

mod table;

use std::net::SocketAddr;

use propylon_e2e::stage::{App, PATIENCE, Space, Stage, count, ingress, tls_secret};
use propylon_testkit::{
    certs::Authority,
    raw::{RawClient, RawResponse},
    wait,
};
use serde_json::{Value, json};

use crate::stage;
use table::{Case, Feature, Wanted};

/// What Go's client calls itself: the original looks for it behind the controller.
const USER_AGENT: &str = "Go-http-client/1.1";

#[test]
fn default_backend() {
    let stage = stage();
    let space = stage.namespace("default-backend");
    space.deploy(&App::new("echo-service", 1));
    space.apply(&catch_all("default-backend").to_string());
    exposed(&stage, &space, "default-backend");
    for case in table::of(Feature::DefaultBackend) {
        let answer = check(&stage, &space, &case);
        for name in ["content-length", "content-type", "date", "server"] {
            assert!(answer.header(name).is_some(), "no {name}: {}", answer.head);
        }
        assert!(answer.head.starts_with("HTTP/1.1 "), "{}", answer.head);
        let report = answer.json();
        assert_eq!(report["method"], case.method, "{report}");
        assert_eq!(report["target"], case.path, "{report}");
        assert_eq!(report["protocol"], "HTTP/1.1", "{report}");
        assert!(report["headers"].to_string().contains(USER_AGENT), "{report}");
    }
}

#[test]
fn host_rules() {
    let stage = stage();
    let space = stage.namespace("host-rules");
    let leaf = Authority::new("conformance").leaf(&["foo.bar.com"]);
    space.apply(&tls_secret("conformance-tls", &leaf).to_string());
    for service in ["wildcard-foo-com", "foo-bar-com"] {
        space.deploy(&App::new(service, 1));
    }
    space.apply(&table::host_rules().to_string());
    exposed(&stage, &space, "host-rules");
    for case in table::of(Feature::HostRules) {
        let answer = check(&stage, &space, &case);
        if let Wanted::Service(_) = case.wanted {
            assert_eq!(answer.json()["host"], case.host, "{}", answer.text());
        }
    }
    for https in stage.https() {
        let client = RawClient::connect_tls(https, Some("foo.bar.com"), &["http/1.1"]).unwrap();
        assert_eq!(
            client.certificates()[0],
            leaf.cert_der,
            "the connection is for foo.bar.com"
        );
    }
}

#[test]
fn ingress_class() {
    let stage = stage();
    let space = stage.namespace("ingress-class");
    space.deploy(&App::new("ingress-class-prefix", 1));
    let mut invalid = ingress("test-ingress-class", "ingress-class", "ingress-class-prefix", None);
    invalid["spec"]["ingressClassName"] = "some-invalid-class-name".into();
    space.apply(&invalid.to_string());
    // One of ours, made after it: once that has its addresses, the other has been seen too.
    space.apply(&ingress("ours", "ingress-class-ours", "ingress-class-prefix", None).to_string());
    exposed(&stage, &space, "ours");
    stage.until_status("ingress-class-ours", "/", 200);
    assert_eq!(space.addresses("test-ingress-class"), Vec::<String>::new());
    for case in table::of(Feature::IngressClass) {
        check(&stage, &space, &case);
    }
}

#[test]
fn load_balancing() {
    let stage = stage();
    let space = stage.namespace("load-balancing");
    let app = App::new("echo-service", 1);
    space.deploy(&app);
    space.apply(&catch_all("load-balancing").to_string());
    exposed(&stage, &space, "load-balancing");
    let ten = App { replicas: 10, ..app };
    space.deploy(&ten);
    for case in table::of(Feature::LoadBalancing) {
        println!("{}", case.scenario);
        let ask = || {
            let answers = (0..100).map(|_| send(stage.http()[0], &case).unwrap());
            count(answers.map(|answer| (answer.status, answer.json()["pod"].to_string())))
        };
        let mut last = ask();
        wait::until(PATIENCE, || {
            last = ask();
            last.len() == ten.replicas
        });
        assert_eq!(last.len(), ten.replicas, "{last:?}");
        assert!(last.keys().all(|(status, _)| *status == 200), "{last:?}");
    }
}

#[test]
fn path_rules() {
    let stage = stage();
    let space = stage.namespace("path-rules");
    for service in table::PATH_SERVICES {
        space.apply(&App::new(service, 1).manifest());
    }
    for service in table::PATH_SERVICES {
        space.until_ready(&App::new(service, 1));
    }
    space.apply(&table::path_rules().to_string());
    exposed(&stage, &space, "path-rules");
    for case in table::of(Feature::PathRules) {
        check(&stage, &space, &case);
    }
}

/// "The Ingress status shows the IP address or FQDN where it is exposed".
fn exposed(stage: &Stage, space: &Space<'_>, ingress: &str) {
    stage.until(&format!("{ingress} has addresses"), PATIENCE, || {
        !space.addresses(ingress).is_empty()
    });
}

/// An Ingress without a rule.
fn catch_all(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "propylon",
            "defaultBackend": {"service": {"name": "echo-service", "port": {"number": 80}}},
        },
    })
}

/// Asks at every node until the answer is the wanted one, and gives the last.
fn check(stage: &Stage, space: &Space<'_>, case: &Case) -> RawResponse {
    println!("{}", case.scenario);
    let port = if case.is_https { stage.https() } else { stage.http() };
    let mut answers = port.into_iter().map(|address| {
        let mut last = None;
        let came = wait::until(PATIENCE, || {
            let answer = send(address, case);
            let is_it = answer.as_ref().is_ok_and(|answer| is_wanted(answer, case, space));
            last = Some(answer);
            is_it
        });
        let last = last.expect("it was asked at least once");
        match (came, last) {
            (Some(_), Ok(answer)) => answer,
            (_, last) => panic!(
                "{}: {address} answers {:?}\n{}",
                case.scenario,
                last.map(|answer| (answer.head.clone(), answer.text())),
                stage.diagnosis()
            ),
        }
    });
    let first = answers.next().expect("there is a node");
    answers.fold(first, |_, next| next)
}

fn is_wanted(answer: &RawResponse, case: &Case, space: &Space<'_>) -> bool {
    match case.wanted {
        Wanted::NotFound => answer.status == 404,
        Wanted::Service(service) => {
            let report = answer.json();
            answer.status == 200 && report["name"] == service && report["namespace"] == space.name.as_str()
        }
    }
}

/// One request as the original's client makes it; it follows a redirect to the same host, at the same node.
fn send(address: SocketAddr, case: &Case) -> std::io::Result<RawResponse> {
    let host = if case.host.is_empty() {
        address.ip().to_string()
    } else {
        case.host.to_owned()
    };
    let mut client = if case.is_https {
        RawClient::connect_tls(address, Some(&host), &["http/1.1"])?
    } else {
        RawClient::connect(address)?
    };
    let (method, path) = (case.method, case.path);
    let length = if matches!(method, "GET" | "DELETE") {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n{length}\r\n");
    client.send(request.as_bytes())?;
    let answer = client.response()?;
    let location = answer.header("location").unwrap_or_default();
    if matches!(answer.status, 301 | 302 | 303 | 307 | 308) && location == format!("https://{host}{path}") {
        let secure = SocketAddr::new(address.ip(), 443);
        return send(
            secure,
            &Case {
                is_https: true,
                ..*case
            },
        );
    }
    Ok(answer)
}

#[test]
fn the_table_has_all_scenarios() {
    // The outline of the default backend is one scenario with six examples.
    let of_outline = table::of(Feature::DefaultBackend).count();
    assert_eq!((table::all().count() - of_outline + 1, of_outline), (25, 6));
}

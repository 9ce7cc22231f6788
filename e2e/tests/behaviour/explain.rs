//! `propylon explain`: a folder and the running proxy say the same, and the proxy does it.

use std::{fs, process::Output};

use propylon_e2e::{
    Gate,
    gate::run_to_end,
    manifests::{backend, echo, ingress},
    report::Report,
};
use serde_json::Value;

fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["explain"].into_iter().chain(arguments.iter().copied()).collect();
    let Output { status, stdout, stderr } = run_to_end(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

fn json(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    let (code, out, error) = explain(&arguments);
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_folder_and_the_running_proxy_explain_what_the_proxy_does() {
    let servers = [echo("admin"), echo("public")];
    let manifests = ingress("web")
        .prefix("web.example", "/", "public", 80)
        .prefix("web.example", "/admin", "admin", 80)
        .prefix("web.example", "/gone", "gone", 80)
        .yaml()
        + &backend("admin", &[servers[0].address])
        + &backend("public", &[servers[1].address]);
    let gate = Gate::start(&manifests);
    let (folder, admin, http) = (
        gate.folder().display().to_string(),
        gate.admin.to_string(),
        gate.http.to_string(),
    );
    for path in ["/admin/x?y=1", "/x/../admin", "/%2fadmin", "/gone", "/administrator"] {
        let url = format!("http://web.example{path}");
        let offline = json(&[&url, "-f", &folder, "--http", &http, "--https", &gate.https.to_string()]);
        let live = json(&[&url, "--admin", &admin]);
        for part in [
            "listener", "host", "path", "rules", "winner", "filters", "sent", "result",
        ] {
            assert_eq!(offline[part], live[part], "{path} {part}");
        }
        let response = gate.get("web.example", path);
        if let Some(status) = live["result"]["status"].as_u64() {
            assert_eq!(u64::from(response.status), status, "{path}");
        } else {
            let report = Report::of(&response);
            let service = format!("default/{} Service", report.name());
            assert_eq!(live["backend"]["service"], service.as_str(), "{path}");
            let line = format!("GET {} HTTP/1.1", report.text("target"));
            assert_eq!(live["sent"][0]["head"][0], line.as_str(), "{path}");
        }
    }
    let (code, text, _) = explain(&["http://web.example/admin", "--admin", &admin]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("default/web Ingress spec.rules[0].http.paths[1]") || text.contains("spec.rules[1]"),
        "{text}"
    );
    assert!(text.contains(&servers[0].address.to_string()), "{text}");
}

#[test]
fn a_change_of_a_folder_is_told_before_it_is_made() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let endpoint = "127.0.0.1:9".parse().unwrap();
    let services = backend("a", &[endpoint]) + &backend("b", &[endpoint]);
    for (folder, service) in folders.iter().zip(["a", "b"]) {
        let text = ingress("web")
            .prefix("web.example", "/", "a", 80)
            .prefix("web.example", "/x", service, 80)
            .yaml();
        fs::write(folder.path().join("web.yaml"), text + &services).unwrap();
    }
    let [old, new] = [&folders[0], &folders[1]].map(|folder| folder.path().display().to_string());
    let (code, text, error) = explain(&["--diff", &old, &new]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        text.contains("/x/*: backend") && text.contains("default/a:80") && text.contains("default/b:80"),
        "{text}"
    );
    let (code, text, _) = explain(&["--diff", &old, &old]);
    assert_eq!((code, text.contains("no difference")), (Some(0), true));
}

#[test]
fn what_cannot_be_explained_says_what_to_do_next() {
    for (arguments, words) in [
        (
            &["http://a/", "--admin", "127.0.0.1:1"][..],
            "is the proxy running there?",
        ),
        (&["http://a/", "-f", "/propylon/absent"], "/propylon/absent"),
        (&["a/", "-f", "."], "begin it with http:// or https://"),
        (&["http://a/"], "--admin"),
    ] {
        let (code, _, error) = explain(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

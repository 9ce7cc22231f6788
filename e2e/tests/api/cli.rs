//! The commands that look at a cluster: `propylon check`, `status` and `explain --cluster`.

use std::process::{Command, Output};

use propylon_e2e::{gate::propylon, lab::ApiServer};
use serde_json::{Value, json};

const NAMESPACE: &str = "cli-commands";

/// Runs a command against the server.
fn run(server: &ApiServer, arguments: &[&str]) -> Output {
    let kubeconfig = server.kubeconfig().display().to_string();
    let mut command = Command::new(propylon());
    command.args(arguments).args(["--kubeconfig", &kubeconfig]);
    command.output().unwrap()
}

fn json_of(output: &Output) -> Value {
    let said = || String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said()))
}

/// An application with an Ingress, whose only endpoint is not on any node.
fn objects() -> Value {
    let named = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let backend = |name: &str| json!({"service": {"name": name, "port": {"number": 80}}});
    let path = |path: &str, name: &str| json!({"path": path, "pathType": "Prefix", "backend": backend(name)});
    let items = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "cli-commands"},
               "spec": {"controller": "propylon.dev/ingress-controller"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": named("web"),
               "spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
               "metadata": {"name": "web-1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "web"}},
               "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.1.2.3"]}]}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": named("web"),
               "spec": {"ingressClassName": "cli-commands", "rules": [{"host": "cli.example",
                        "http": {"paths": [path("/", "web"), path("/gone", "missing")]}}]}}),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

#[test]
fn the_commands_tell_what_is_in_the_cluster() {
    let server = ApiServer::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.json");
    std::fs::write(&file, objects().to_string()).unwrap();
    let applied = server.kubectl(&["apply", "-f", &file.display().to_string()]);
    assert!(applied.succeeded(), "{}", applied.text());

    let explained = run(server, &["explain", "http://cli.example/", "--cluster", "-o", "json"]);
    let explanation = json_of(&explained);
    let text = explanation.to_string();
    assert!(explained.status.success(), "{text}");
    assert!(text.contains("10.1.2.3:8080"), "{text}");

    let explained = run(server, &["explain", "http://cli.example/gone", "--cluster"]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("503"), "{text}");

    let status = run(server, &["status", "-n", NAMESPACE, "-o", "json"]);
    let overview = json_of(&status);
    let ingress = overview["ingresses"]
        .as_array()
        .and_then(|all| all.iter().find(|ingress| ingress["name"] == "cli-commands/web"));
    let ingress = ingress.unwrap_or_else(|| panic!("{overview}"));
    assert_eq!(
        (&ingress["served"], &ingress["warnings"]),
        (&json!(true), &json!(1)),
        "{overview}"
    );
    assert_eq!(ingress["hosts"], json!(["cli.example"]));
    assert_eq!(overview["installation"]["workloads"], json!([]));

    // Nothing is installed there, and that is said, with an exit status for scripts.
    let checked = run(server, &["check", "-n", NAMESPACE, "-o", "json"]);
    let found = json_of(&checked);
    assert_eq!(checked.status.code(), Some(1), "{found}");
    assert_eq!(found["level"], "error", "{found}");
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error_of_its_own() {
    let nowhere = ["check", "--kubeconfig", "/nonexistent/kubeconfig"];
    let output = Command::new(propylon()).args(nowhere).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let nowhere = ["status", "--kubeconfig", "/nonexistent/kubeconfig"];
    let output = Command::new(propylon()).args(nowhere).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

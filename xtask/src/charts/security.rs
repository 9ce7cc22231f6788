//! Pod Security: the profile "restricted" of Kubernetes' Pod Security Standards, evaluated for each rendered pod.

use serde_json::Value;

use super::documents::Document;

/// What a workload needs beyond "restricted", and nothing else of it may have; docs/rbac.md says why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // On the host's network.
    ("DaemonSet propylon-proxy", "hostNetwork"),
    ("DaemonSet propylon-proxy", "volume takeover is a hostPath"),
    ("DaemonSet propylon-proxy", "container prepare runs as user 0"),
    ("DaemonSet propylon-proxy", "container prepare may run as root"),
    (
        "DaemonSet propylon-proxy",
        "container prepare adds the capability CHOWN",
    ),
    (
        "DaemonSet propylon-proxy",
        "container prepare adds the capability FOWNER",
    ),
    // With proxy.hostPort.enabled.
    ("DaemonSet propylon-proxy", "container proxy has a hostPort"),
];

/// Kinds of volumes that the profile allows.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Pods that "restricted" would refuse, but for the exceptions; writable root file systems; secrets in clear text.
pub(super) fn faults(documents: &[Document]) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        let title = document.title();
        if document.kind() == "Secret" {
            faults.push(format!("{title}: the chart makes no Secrets"));
        }
        let Some(spec) = document.pod().and_then(|pod| pod.get("spec")) else {
            continue;
        };
        let is_excepted = |fault: &String| EXCEPTIONS.contains(&(title.as_str(), fault.as_str()));
        let of_pod = violations(spec).into_iter().filter(|fault| !is_excepted(fault));
        faults.extend(of_pod.map(|fault| format!("{title}: {fault}")));
    }
    faults
}

/// What "restricted" refuses in a pod's spec, and a root file system that can be written.
fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if is_true(spec, field) {
            found.push(field.to_owned());
        }
    }
    for volume in list(spec, "volumes") {
        let kinds = volume.as_object().into_iter().flat_map(|fields| fields.keys());
        for kind in kinds.filter(|kind| *kind != "name" && !VOLUMES.contains(&kind.as_str())) {
            found.push(format!("volume {} is a {kind}", name(volume)));
        }
    }
    if let Some(sysctls) = spec.pointer("/securityContext/sysctls") {
        found.push(format!("sysctls {sysctls}"));
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(spec, key) {
            let of_container = container_violations(spec, container).into_iter();
            found.extend(of_container.map(|violation| format!("container {} {violation}", name(container))));
        }
    }
    found
}

fn container_violations(pod: &Value, container: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let own = container.get("securityContext").unwrap_or(&Value::Null);
    let setting = |field: &str| own.get(field).or_else(|| pod.get("securityContext")?.get(field));
    if is_true(own, "privileged") {
        found.push("is privileged".to_owned());
    }
    if own.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)) {
        found.push("allows privilege escalation".to_owned());
    }
    if !is_true(own, "readOnlyRootFilesystem") {
        found.push("can write its root file system".to_owned());
    }
    if setting("runAsNonRoot") != Some(&Value::Bool(true)) {
        found.push("may run as root".to_owned());
    }
    if setting("runAsUser").and_then(Value::as_i64) == Some(0) {
        found.push("runs as user 0".to_owned());
    }
    let profile = setting("seccompProfile").and_then(|profile| profile.get("type"));
    if !matches!(profile.and_then(Value::as_str), Some("RuntimeDefault" | "Localhost")) {
        found.push("has no seccomp profile".to_owned());
    }
    if own.get("procMount").is_some_and(|mount| mount != "Default") {
        found.push("has another procMount".to_owned());
    }
    let capabilities = own.get("capabilities").unwrap_or(&Value::Null);
    if !list(capabilities, "drop").iter().any(|name| name == "ALL") {
        found.push("does not drop all capabilities".to_owned());
    }
    let added = list(capabilities, "add").iter().filter_map(Value::as_str);
    let refused = added.filter(|name| *name != "NET_BIND_SERVICE");
    found.extend(refused.map(|name| format!("adds the capability {name}")));
    if list(container, "ports")
        .iter()
        .any(|port| port.get("hostPort").is_some())
    {
        found.push("has a hostPort".to_owned());
    }
    found
}

fn is_true(value: &Value, field: &str) -> bool {
    value.get(field) == Some(&Value::Bool(true))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn restricted() -> Value {
        json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "a",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
            }],
            "volumes": [{"name": "v", "emptyDir": {}}],
        })
    }

    #[test]
    fn a_restricted_pod_has_no_violation() {
        assert_eq!(violations(&restricted()), [""; 0]);
    }

    #[test]
    fn every_rule_is_evaluated() {
        let rules: &[(&str, Value, &str)] = &[
            ("/hostPID", json!(true), "hostPID"),
            ("/hostNetwork", json!(true), "hostNetwork"),
            ("/volumes/0/hostPath", json!({"path": "/"}), "volume v is a hostPath"),
            (
                "/securityContext/sysctls",
                json!([{"name": "a"}]),
                "sysctls [{\"name\":\"a\"}]",
            ),
            (
                "/securityContext/runAsNonRoot",
                json!(false),
                "container a may run as root",
            ),
            ("/securityContext/runAsUser", json!(0), "container a runs as user 0"),
            (
                "/securityContext/seccompProfile/type",
                json!("Unconfined"),
                "container a has no seccomp profile",
            ),
            (
                "/containers/0/securityContext/privileged",
                json!(true),
                "container a is privileged",
            ),
            (
                "/containers/0/securityContext/runAsNonRoot",
                json!(false),
                "container a may run as root",
            ),
            (
                "/containers/0/securityContext/procMount",
                json!("Unmasked"),
                "container a has another procMount",
            ),
            (
                "/containers/0/securityContext/allowPrivilegeEscalation",
                json!(true),
                "container a allows privilege escalation",
            ),
            (
                "/containers/0/securityContext/readOnlyRootFilesystem",
                json!(false),
                "container a can write its root file system",
            ),
            (
                "/containers/0/securityContext/capabilities/drop",
                json!([]),
                "container a does not drop all capabilities",
            ),
            (
                "/containers/0/securityContext/capabilities/add",
                json!(["NET_RAW"]),
                "container a adds the capability NET_RAW",
            ),
            (
                "/containers/0/ports",
                json!([{"hostPort": 80}]),
                "container a has a hostPort",
            ),
        ];
        for (pointer, value, wanted) in rules {
            let mut spec = restricted();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            spec.pointer_mut(parent).expect("it is there")[field] = value.clone();
            assert_eq!(violations(&spec), [*wanted], "{pointer}");
        }
    }

    #[test]
    fn an_exception_is_one_workload_s_alone() {
        let document = |name: &str| Document {
            value: json!({"kind": "DaemonSet", "metadata": {"name": name}, "spec": {"template": {"spec": {"hostNetwork": true}}}}),
        };
        assert!(faults(&[document("propylon-proxy")]).is_empty());
        assert_eq!(faults(&[document("other")]), ["DaemonSet other: hostNetwork"]);
    }
}

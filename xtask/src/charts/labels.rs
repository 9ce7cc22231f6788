//! Labels and namespaces of what is rendered.

use serde_json::{Map, Value};

use super::documents::Document;

/// Labels that every object has.
const LABELS: &[&str] = &[
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];

/// Labels that a selector may have: those that no upgrade changes.
const SELECTABLE: &[&str] = &[
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/name",
];

/// Kinds without a namespace.
const CLUSTER_SCOPED: &[&str] = &[
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
];

/// Labels that are missing, selectors that an upgrade would break, namespaces that are left to chance.
pub(super) fn faults(documents: &[Document]) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        let mut of_document = Vec::new();
        let labels = object(document.value.pointer("/metadata/labels"));
        let absent = LABELS.iter().filter(|label| !labels.contains_key(**label));
        of_document.extend(absent.map(|label| format!("the label {label} is missing")));
        let is_namespaced = !CLUSTER_SCOPED.contains(&document.kind());
        if is_namespaced == document.text("/metadata/namespace").is_empty() {
            of_document.push("metadata.namespace is missing, or there for nothing".to_owned());
        }
        if let (Some(selector), Some(pod)) = (document.value.pointer("/spec/selector/matchLabels"), document.pod()) {
            of_document.extend(selector_faults(&object(Some(selector)), pod));
        }
        faults.extend(
            of_document
                .into_iter()
                .map(|fault| format!("{}: {fault}", document.title())),
        );
    }
    faults
}

fn selector_faults(selector: &Map<String, Value>, pod: &Value) -> Vec<String> {
    let labels = object(pod.pointer("/metadata/labels"));
    let mut faults = Vec::new();
    for (name, value) in selector {
        if !SELECTABLE.contains(&name.as_str()) {
            faults.push(format!("the selector has {name}, which can change"));
        }
        if labels.get(name) != Some(value) {
            faults.push(format!("the selector's {name} is not that of the pod"));
        }
    }
    faults
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_by_version_is_found() {
        let text = "kind: Deployment\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {app.kubernetes.io/version: '1'}}\n  \
                    template: {metadata: {labels: {app.kubernetes.io/version: '2'}}}\n";
        let documents = super::super::documents::parse(text).expect("YAML");
        let faults = faults(&documents).join("\n");
        for part in [
            "the label helm.sh/chart is missing",
            "which can change",
            "not that of the pod",
            "namespace",
        ] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}

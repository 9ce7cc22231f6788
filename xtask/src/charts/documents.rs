//! Rendered manifests, and whether Kubernetes would take every field of them.

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, core::v1 as core,
    networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One object of what a chart renders.
#[derive(Debug)]
pub(super) struct Document {
    /// The object as it is written.
    pub(super) value: Value,
}

impl Document {
    /// `kind`.
    pub(super) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `Kind NAME`, for messages.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }

    /// A string, by pointer; empty where there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The pod that the object makes: its metadata and its spec.
    pub(super) fn pod(&self) -> Option<&Value> {
        match self.kind() {
            "Pod" => Some(&self.value),
            "DaemonSet" | "Deployment" | "Job" => self.value.pointer("/spec/template"),
            _ => None,
        }
    }
}

/// The objects of a text of several documents.
pub(super) fn parse(text: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for part in text.split("\n---") {
        let value: Value = serde_saphyr::from_str(part).with_context(|| format!("no YAML: {part}"))?;
        if !value.is_null() {
            documents.push(Document { value });
        }
    }
    Ok(documents)
}

/// Objects that Kubernetes would refuse, and fields that it does not know.
pub(super) fn faults(documents: &[Document]) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        let lost = match read_back(document) {
            Ok(lost) => lost,
            Err(error) => vec![error],
        };
        faults.extend(lost.into_iter().map(|fault| format!("{}: {fault}", document.title())));
    }
    faults
}

/// Reads an object as Kubernetes' own type; the fields that it does not have.
fn read_back(document: &Document) -> Result<Vec<String>, String> {
    let value = &document.value;
    match (document.text("/apiVersion"), document.kind()) {
        ("v1", "ConfigMap") => fields::<core::ConfigMap>(value),
        ("v1", "Pod") => fields::<core::Pod>(value),
        ("v1", "Service") => fields::<core::Service>(value),
        ("v1", "ServiceAccount") => fields::<core::ServiceAccount>(value),
        ("apps/v1", "DaemonSet") => fields::<apps::DaemonSet>(value),
        ("apps/v1", "Deployment") => fields::<apps::Deployment>(value),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => fields::<autoscaling::HorizontalPodAutoscaler>(value),
        ("batch/v1", "Job") => fields::<batch::Job>(value),
        ("networking.k8s.io/v1", "IngressClass") => fields::<networking::IngressClass>(value),
        ("networking.k8s.io/v1", "NetworkPolicy") => fields::<networking::NetworkPolicy>(value),
        ("policy/v1", "PodDisruptionBudget") => fields::<policy::PodDisruptionBudget>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => fields::<rbac::ClusterRole>(value),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => fields::<rbac::ClusterRoleBinding>(value),
        ("rbac.authorization.k8s.io/v1", "Role") => fields::<rbac::Role>(value),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => fields::<rbac::RoleBinding>(value),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
            fields::<extensions::CustomResourceDefinition>(value)
        }
        ("monitoring.coreos.com/v1", "PodMonitor" | "PrometheusRule" | "ServiceMonitor") => Ok(Vec::new()),
        ("", _) | (_, "") => Err("apiVersion or kind is missing".to_owned()),
        (version, kind) => Err(format!(
            "nobody expects a {version} {kind}; add it to xtask/src/charts/documents.rs"
        )),
    }
}

fn fields<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Vec<String>, String> {
    let typed: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let back = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    missing(value, &back, "", &mut lost);
    Ok(lost)
}

/// The fields of `given` that `kept` does not have; empty ones may go.
fn missing(given: &Value, kept: &Value, path: &str, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                let path = format!("{path}.{name}");
                match kept.get(name) {
                    Some(kept) => missing(value, kept, &path, lost),
                    None if is_empty(value) => {}
                    None => lost.push(format!("{path} is no field of this kind")),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (value, kept)) in given.iter().zip(kept).enumerate() {
                missing(value, kept, &format!("{path}[{index}]"), lost);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_kubernetes_does_not_know_is_found() {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, imagePulPolicy: Never}]\n";
        let documents = parse(text).expect("YAML");
        let faults = faults(&documents);
        assert_eq!(
            faults,
            ["Pod a: .spec.containers[0].imagePulPolicy is no field of this kind"]
        );
    }

    #[test]
    fn documents_are_told_apart() {
        let documents = parse("---\n# Source: a\nkind: A\n---\n# nothing\n---\nkind: B\n").expect("YAML");
        let kinds: Vec<&str> = documents.iter().map(Document::kind).collect();
        assert_eq!(kinds, ["A", "B"]);
        assert_eq!(faults(&documents).len(), 2);
    }
}

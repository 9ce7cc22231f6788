//! What of an object is ours. Pure.
//!
//! Whose a field is, the API server keeps (`metadata.managedFields`): what another controller wrote since is not touched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Finalizer of Services with an address of ours; other controllers use the same name.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// What the names of our field managers begin with.
const MANAGERS: &str = "propylon-";
/// Label of what we make of the release's values.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "propylon-controller");

/// Whether the addresses in the status are ours.
pub(super) fn wrote_addresses(metadata: &ObjectMeta) -> bool {
    owned(metadata, Some("status")).any(|fields| fields.pointer("/f:status/f:loadBalancer").is_some())
}

/// The patch of a status that takes its addresses away.
pub(super) fn no_addresses() -> Value {
    json!({"status": {"loadBalancer": {"ingress": null}}})
}

/// The patch that takes our finalizer from a Service, unless it has changed since; none: it has none of ours.
pub(super) fn without_finalizer(metadata: &ObjectMeta) -> Option<Value> {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let path = format!("/f:metadata/f:finalizers/v:\"{}\"", FINALIZER.replace('/', "~1"));
    let is_ours = owned(metadata, None).any(|fields| fields.pointer(&path).is_some());
    // A Service that was allocated has our status, whoever set the finalizer again since.
    let is_ours = is_ours || wrote_addresses(metadata);
    if !is_ours || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return None;
    }
    let left: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    Some(json!({"metadata": {
        "resourceVersion": metadata.resource_version,
        "finalizers": left,
    }}))
}

/// Whether we made the object.
pub(super) fn is_made_by_us(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY.0))
        .is_some_and(|by| by == MANAGED_BY.1)
}

/// The fields that are ours, of one subresource or of the object itself.
fn owned<'a>(metadata: &'a ObjectMeta, subresource: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
    let entries = metadata.managed_fields.iter().flatten();
    let ours = entries.filter(move |entry| {
        let is_manager = entry
            .manager
            .as_deref()
            .is_some_and(|manager| manager.starts_with(MANAGERS));
        is_manager && entry.subresource.as_deref().filter(|name| !name.is_empty()) == subresource
    });
    ours.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(managed: &Value) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "web",
            "resourceVersion": "7",
            "finalizers": [FINALIZER, "example.com/other"],
            "managedFields": managed,
        }))
        .unwrap()
    }

    #[test]
    fn what_we_wrote_is_taken_back() {
        let fields = json!({"f:metadata": {"f:finalizers": {".": {}, format!("v:\"{FINALIZER}\""): {}}}});
        let status = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
        let both = metadata(&json!([
            {"manager": "propylon-controller", "operation": "Apply", "fieldsV1": fields},
            {"manager": "propylon-status", "operation": "Apply", "subresource": "status", "fieldsV1": status},
        ]));
        assert!(wrote_addresses(&both));
        let patch = without_finalizer(&both).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7", "finalizers": ["example.com/other"]}})
        );
    }

    #[test]
    fn what_others_wrote_stays() {
        let fields = json!({"f:metadata": {"f:finalizers": {format!("v:\"{FINALIZER}\""): {}}}});
        let status = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
        let foreign = metadata(&json!([
            {"manager": "metallb", "operation": "Update", "fieldsV1": fields},
            {"manager": "metallb", "operation": "Update", "subresource": "status", "fieldsV1": status},
        ]));
        assert!(!wrote_addresses(&foreign));
        assert_eq!(without_finalizer(&foreign), None);
        assert_eq!(without_finalizer(&ObjectMeta::default()), None);
    }

    #[test]
    fn pools_that_people_made_stay() {
        let mut pool = ObjectMeta::default();
        assert!(!is_made_by_us(&pool));
        pool.labels = Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into());
        assert!(is_made_by_us(&pool));
    }
}

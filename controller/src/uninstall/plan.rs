//! What of an object is ours. Pure.
//!
//! Whose a field is, the API server keeps (`metadata.managedFields`): what another controller wrote since is not touched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Finalizer of Services with an address of ours; other controllers use the same name.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// What the names of our field managers begin with.
const MANAGERS: &str = "propylon-";
/// What the names of our annotations begin with.
const NOTES: &str = "propylon.dev/";
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

/// The patch that takes our finalizer and our notes from a Service, unless it has changed since; none: it has none of ours.
pub(super) fn without_marks(metadata: &ObjectMeta) -> Option<Value> {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let has_finalizer = is_finalizer_ours(metadata) && finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let notes = notes(metadata);
    if !has_finalizer && notes.is_empty() {
        return None;
    }
    let mut patch = serde_json::Map::new();
    patch.insert("resourceVersion".to_owned(), json!(metadata.resource_version));
    if has_finalizer {
        let left: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        patch.insert("finalizers".to_owned(), json!(left));
    }
    if !notes.is_empty() {
        let gone = notes.into_iter().map(|note| (note.to_owned(), Value::Null));
        patch.insert("annotations".to_owned(), Value::Object(gone.collect()));
    }
    Some(json!({ "metadata": patch }))
}

fn is_finalizer_ours(metadata: &ObjectMeta) -> bool {
    let path = format!("/f:metadata/f:finalizers/v:\"{}\"", FINALIZER.replace('/', "~1"));
    // A Service that was allocated has our status, whoever set the finalizer again since.
    owned(metadata, None).any(|fields| fields.pointer(&path).is_some()) || wrote_addresses(metadata)
}

/// Our annotations that nobody but us wrote: what a user asked for stays.
fn notes(metadata: &ObjectMeta) -> Vec<&str> {
    let names = metadata.annotations.iter().flatten().map(|(name, _)| name.as_str());
    let is_ours = |name: &&str| {
        let path = format!(
            "/f:metadata/f:annotations/f:{}",
            name.replace('~', "~0").replace('/', "~1")
        );
        let entries = metadata.managed_fields.iter().flatten();
        let mut owners = entries
            .filter(|entry| {
                entry
                    .fields_v1
                    .as_ref()
                    .is_some_and(|fields| fields.0.pointer(&path).is_some())
            })
            .peekable();
        owners.peek().is_some() && owners.all(|entry| is_our_manager(entry.manager.as_deref()))
    };
    names.filter(|name| name.starts_with(NOTES)).filter(is_ours).collect()
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
        is_our_manager(entry.manager.as_deref())
            && entry.subresource.as_deref().filter(|name| !name.is_empty()) == subresource
    });
    ours.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0))
}

fn is_our_manager(manager: Option<&str>) -> bool {
    manager.is_some_and(|manager| manager.starts_with(MANAGERS))
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
        let patch = without_marks(&both).unwrap();
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
        assert_eq!(without_marks(&foreign), None);
        assert_eq!(without_marks(&ObjectMeta::default()), None);
    }

    #[test]
    fn notes_go_and_what_the_user_asked_for_stays() {
        let path = json!({"f:metadata": {"f:annotations": {"f:propylon.dev/lb-path": {}}}});
        let pool = json!({"f:metadata": {"f:annotations": {"f:propylon.dev/address-pool": {}}}});
        let mut service = metadata(&json!([
            {"manager": "propylon-controller", "operation": "Update", "fieldsV1": path},
            {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": pool},
        ]));
        service.annotations = Some(
            [
                ("propylon.dev/lb-path", "proxy"),
                ("propylon.dev/address-pool", "a"),
                ("team", "b"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        );
        let patch = without_marks(&service).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7", "annotations": {"propylon.dev/lb-path": null}}})
        );
        let mut managed = service.managed_fields.clone().unwrap();
        managed[0].manager = Some("kubectl-client-side-apply".to_owned());
        service.managed_fields = Some(managed);
        assert_eq!(without_marks(&service), None);
    }

    #[test]
    fn pools_that_people_made_stay() {
        let mut pool = ObjectMeta::default();
        assert!(!is_made_by_us(&pool));
        pool.labels = Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into());
        assert!(is_made_by_us(&pool));
    }
}

//! Who may name an object of another namespace.

use std::sync::Arc;

use propylon_model::{Kind, ObjectRef, ReportReason};

use crate::{
    annotations::PREFIX,
    reports::Reports,
    world::{Key, World},
};

/// The object of an annotation that names a Secret, as `NAME` of the same namespace or as `NAMESPACE/NAME`.
pub(crate) fn named(namespace: &Arc<str>, text: &str) -> Key {
    match text.split_once('/') {
        Some((other, name)) => Key::new(other, name),
        None => Key::new(Arc::clone(namespace), text),
    }
}

/// Whether an object of a kind and namespace may name a Secret: one of its own namespace, or one that a `ReferenceGrant` of
/// the Secret's namespace allows (Gateway API, GEP-709). Without the custom resource nothing is granted.
pub(crate) fn allows(world: &World, from: Kind, namespace: &str, secret: &Key) -> bool {
    if *secret.namespace == *namespace {
        return true;
    }
    let of_namespace = world.reference_grants.range(Key::new(&*secret.namespace, "")..);
    let mut of_namespace = of_namespace.take_while(|(key, _)| key.namespace == secret.namespace);
    of_namespace.any(|(_, grant)| {
        let mut to = grant.spec.to.iter();
        let mut given = grant.spec.from.iter();
        to.any(|to| {
            let is_it = to
                .name
                .as_deref()
                .is_none_or(|name| name.is_empty() || name == &*secret.name);
            to.group.is_empty() && to.kind == Kind::Secret.as_str() && is_it
        }) && given
            .any(|given| given.group == group(from) && given.kind == from.as_str() && *given.namespace == *namespace)
    })
}

/// Reports an annotation that names a Secret which it may not name; whether the Secret exists is not told.
pub(crate) fn report_denied(
    (kind, namespace): (Kind, &str),
    object: &ObjectRef,
    annotation: &str,
    secret: &Key,
    reports: &mut Reports,
) {
    let (group, kind) = (group(kind), kind.as_str());
    let message = format!(
        "metadata.annotations[{PREFIX}{annotation}]: Secret {secret} is of another namespace, and no ReferenceGrant there allows \
         it, so it is not used; create one in {} (from: group '{group}', kind {kind}, namespace {namespace}; to: group '', kind \
         Secret), or name a Secret of {namespace}",
        secret.namespace
    );
    reports.add(object, ReportReason::CrossNamespaceRefDenied, message);
}

const fn group(kind: Kind) -> &'static str {
    match kind {
        Kind::Ingress => "networking.k8s.io",
        _ => "",
    }
}

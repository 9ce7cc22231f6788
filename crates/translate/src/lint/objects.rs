//! Classes, Secrets and endpoint slices that have no effect, or not the one that their names suggest.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use propylon_model::{Kind, ObjectRef, ReportReason};

use super::View;
use crate::{
    classes::{DEFAULT_CLASS, LEGACY_CLASS},
    reports::{Reports, name_some},
    spelling::nearest,
    world::Key,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn check(view: &View<'_>, reports: &mut Reports) {
    defaults(view, reports);
    legacy_class(view, reports);
    unused_secrets(view, reports);
    lost_slices(view, reports);
}

/// More than one default class: the newest counts, and a copy of the folder may have another order.
fn defaults(view: &View<'_>, reports: &mut Reports) {
    let is_default = |metadata: &ObjectMeta| annotation(metadata, DEFAULT_CLASS).is_some_and(|value| value == "true");
    let classes = view.world.ingress_classes.iter();
    let defaults: Vec<&Key> = classes
        .filter(|(_, class)| is_default(&class.metadata))
        .map(|(key, _)| key)
        .collect();
    if defaults.len() < 2 {
        return;
    }
    for class in &defaults {
        let others = defaults.iter().filter(|other| *other != class);
        let message = format!(
            "metadata.annotations[{DEFAULT_CLASS}]: {} says the same, so an Ingress without a class belongs to the newest of \
             them; leave the annotation on one",
            name_some(others)
        );
        reports.add(
            &object(Kind::IngressClass, class),
            ReportReason::DefaultClassAmbiguous,
            message,
        );
    }
}

/// The annotation that the field `ingressClassName` replaced with Kubernetes 1.18.
fn legacy_class(view: &View<'_>, reports: &mut Reports) {
    for (key, ingress) in &view.world.ingresses {
        let Some(class) = annotation(&ingress.metadata, LEGACY_CLASS) else {
            continue;
        };
        let message = format!(
            "metadata.annotations[{LEGACY_CLASS}]: is deprecated since Kubernetes 1.18 and not looked up among the classes by \
             the API server; write spec.ingressClassName: {class}"
        );
        reports.add(
            &object(Kind::Ingress, key),
            ReportReason::ClassAnnotationDeprecated,
            message,
        );
    }
}

/// Secrets of certificates that nothing names. Other Secrets belong to pods.
fn unused_secrets(view: &View<'_>, reports: &mut Reports) {
    let used = used_secrets(view);
    for (key, secret) in &view.world.secrets {
        if secret.type_.as_deref() != Some("kubernetes.io/tls") || used.contains(key) {
            continue;
        }
        let names = used.iter().filter(|other| other.namespace == key.namespace);
        let missing = names.filter(|other| !view.world.secrets.contains_key(*other));
        let what_next = match nearest(&key.name, missing.map(|other| &*other.name)) {
            Some(name) => format!("an Ingress names {name}, which does not exist: is this one meant?"),
            None => "name it in spec.tls[].secretName of an Ingress of its namespace, or remove it".to_owned(),
        };
        let message = format!("metadata.name: no Ingress, Service or flag uses this certificate; {what_next}");
        reports.add(&object(Kind::Secret, key), ReportReason::SecretUnused, message);
    }
}

/// Every Secret that something names: `spec.tls`, the flag, and annotations that hold `NAME` or `NAMESPACE/NAME`.
fn used_secrets(view: &View<'_>) -> BTreeSet<Key> {
    let mut used: BTreeSet<Key> = view.options.default_tls_secret.iter().cloned().collect();
    let mut read = |key: &Key, metadata: &ObjectMeta| {
        for value in metadata.annotations.iter().flat_map(BTreeMap::values) {
            let (namespace, name) = value.split_once('/').unwrap_or((&key.namespace, value));
            used.insert(Key::new(namespace, name.trim()));
        }
    };
    for (key, ingress) in &view.world.ingresses {
        read(key, &ingress.metadata);
    }
    for (key, service) in &view.world.services {
        read(key, &service.metadata);
    }
    for (key, ingress) in &view.world.ingresses {
        let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
        let names = entries.filter_map(|entry| entry.secret_name.as_deref());
        used.extend(names.map(|name| Key::new(key.namespace.clone(), name)));
    }
    used
}

/// Slices that belong to no Service: a label that is missing, or a name that is misspelt.
fn lost_slices(view: &View<'_>, reports: &mut Reports) {
    for (key, slice) in &view.world.endpoint_slices {
        let label = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME));
        let message = match label {
            None => format!(
                "metadata.labels: has no label {SERVICE_NAME}, so that its addresses belong to no Service; add it with the \
                 Service's name"
            ),
            Some(name) => {
                let service = Key::new(key.namespace.clone(), name.as_str());
                if view.world.services.contains_key(&service) {
                    continue;
                }
                let services = view.world.services.keys();
                let near = services
                    .filter(|other| other.namespace == key.namespace)
                    .map(|other| &*other.name);
                let what_next = match nearest(name, near) {
                    Some(name) => format!("did you mean {name}?"),
                    None => "create the Service, or correct the name".to_owned(),
                };
                format!(
                    "metadata.labels[{SERVICE_NAME}]: Service {service} does not exist, so that these addresses serve nothing; \
                     {what_next}"
                )
            }
        };
        reports.add(
            &object(Kind::EndpointSlice, key),
            ReportReason::EndpointSliceWithoutService,
            message,
        );
    }
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    metadata.annotations.as_ref().and_then(|all| all.get(name))
}

fn object(kind: Kind, key: &Key) -> ObjectRef {
    ObjectRef::new(kind, key.namespace.clone(), key.name.clone())
}

//! What the API server does to an object before it stores it: defaults, then validation.
//!
//! A folder of manifests has no API server in front, so that its objects pass here; those of a cluster already did.
//! Field paths and wording follow the API server, so that what a user finds about them on the web fits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::manifest::Object;

pub use field::FieldError;

use field::Errors;
use names::Grammar;

mod config_map;
mod field;
mod ingress;
mod names;
mod secret;
mod service;
mod slice;

/// Fills in the defaults of an object and validates it. [`Object::Other`] passes as it is.
///
/// # Errors
/// Every mistake of the object with its field, in the order of the fields; never empty. Not retryable.
pub fn admit(object: Object) -> Result<Object, Vec<FieldError>> {
    let mut errors = Errors::default();
    let mut object = object;
    match &mut object {
        Object::ConfigMap(config_map) => {
            metadata(
                &mut config_map.metadata,
                Scope::Namespaced,
                Grammar::Subdomain,
                &mut errors,
            );
            config_map::admit(config_map, &mut errors);
        }
        Object::EndpointSlice(slice) => {
            metadata(&mut slice.metadata, Scope::Namespaced, Grammar::Subdomain, &mut errors);
            slice::admit(slice, &mut errors);
        }
        Object::Ingress(ingress) => {
            metadata(
                &mut ingress.metadata,
                Scope::Namespaced,
                Grammar::Subdomain,
                &mut errors,
            );
            ingress::admit(ingress, &mut errors);
        }
        Object::IngressClass(class) => {
            metadata(&mut class.metadata, Scope::Cluster, Grammar::Subdomain, &mut errors);
            ingress::admit_class(class, &mut errors);
        }
        Object::Node(_) | Object::Other { .. } | Object::Pod(_) => {}
        Object::ReferenceGrant(grant) => {
            metadata(&mut grant.metadata, Scope::Namespaced, Grammar::Subdomain, &mut errors);
        }
        Object::Secret(secret) => {
            metadata(&mut secret.metadata, Scope::Namespaced, Grammar::Subdomain, &mut errors);
            secret::admit(secret, &mut errors);
        }
        Object::Service(service) => {
            metadata(&mut service.metadata, Scope::Namespaced, Grammar::Label, &mut errors);
            service::admit(service, &mut errors);
        }
    }
    errors.into_result().map(|()| object)
}

#[derive(Clone, Copy)]
enum Scope {
    Cluster,
    Namespaced,
}

fn metadata(metadata: &mut ObjectMeta, scope: Scope, grammar: Grammar, errors: &mut Errors) {
    match metadata.name.as_deref().unwrap_or_default() {
        "" if metadata.generate_name.is_some() => {
            errors.required(
                "metadata.name",
                "generateName needs an API server; give the object a name",
            );
        }
        "" => errors.required("metadata.name", "name is required"),
        name if !grammar.fits(name) => errors.invalid("metadata.name", name, grammar.rule()),
        _ => {}
    }
    match scope {
        Scope::Cluster => {
            if metadata
                .namespace
                .as_deref()
                .is_some_and(|namespace| !namespace.is_empty())
            {
                errors.forbidden("metadata.namespace", "not allowed on this kind");
            }
        }
        Scope::Namespaced => {
            let namespace = metadata.namespace.get_or_insert_default();
            if namespace.is_empty() {
                "default".clone_into(namespace);
            } else if !names::is_label(namespace) {
                errors.invalid("metadata.namespace", namespace, names::LABEL_RULE);
            }
        }
    }
}

#[cfg(test)]
mod tests;

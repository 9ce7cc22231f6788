//! Which Secrets and config maps are named by something and brought by no watch of a whole kind. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use propylon_model::{Kind, ObjectRef};
use propylon_translate::{Key, Options, manifest::Object};

use crate::watch::Wanted;

/// The type of the Secrets that one watch brings all of.
const TLS: &str = "kubernetes.io/tls";

/// Annotations of Ingresses and Services that name a Secret, as `NAME` or `NAMESPACE/NAME`.
const ANNOTATIONS: &[&str] = &["propylon.dev/backend-ca-secret", "propylon.dev/tls-secret"];

/// What names what.
#[derive(Debug, Default)]
pub(super) struct References {
    of_object: BTreeMap<ObjectRef, BTreeSet<Key>>,
    /// How many objects name each.
    named: BTreeMap<Key, usize>,
    certificates: HashSet<Key>,
}

impl References {
    /// Takes note of an object that is new or changed.
    pub(super) fn set(&mut self, object: &Object) {
        match object {
            Object::Ingress(ingress) => {
                let spec = ingress.spec.iter();
                let tls = spec.flat_map(|spec| spec.tls.iter().flatten());
                let names = tls.filter_map(|tls| tls.secret_name.as_deref());
                let secrets = secrets(&ingress.metadata, names);
                self.put(object, secrets);
            }
            Object::Service(service) => {
                let secrets = secrets(&service.metadata, std::iter::empty());
                self.put(object, secrets);
            }
            Object::Secret(secret) => {
                let Some(reference) = object.key() else { return };
                let key = Key::new(reference.namespace, reference.name);
                if secret.type_.as_deref() == Some(TLS) {
                    self.certificates.insert(key);
                } else {
                    self.certificates.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Takes note of an object that is gone.
    pub(super) fn remove(&mut self, kind: Kind, key: &Key) {
        if kind == Kind::Secret {
            self.certificates.remove(key);
        }
        let object = ObjectRef::new(kind, key.namespace.clone(), key.name.clone());
        if let Some(names) = self.of_object.remove(&object) {
            self.release(&names);
        }
    }

    /// Whether the watch of all certificates brings this Secret.
    pub(super) fn is_certificate(&self, key: &Key) -> bool {
        self.certificates.contains(key)
    }

    /// What has to be watched one by one.
    pub(super) fn wanted(&self, options: &Options) -> Wanted {
        let named = self.named.keys().chain(&options.default_tls_secret);
        let secrets = named
            .filter(|key| !self.certificates.contains(*key))
            .map(|key| (Kind::Secret, key.clone()));
        let config_maps = options.tcp_services.iter().chain(&options.udp_services);
        secrets
            .chain(config_maps.map(|key| (Kind::ConfigMap, key.clone())))
            .collect()
    }

    fn put(&mut self, object: &Object, names: BTreeSet<Key>) {
        let Some(object) = object.key() else { return };
        for name in &names {
            *self.named.entry(name.clone()).or_default() += 1;
        }
        let before = if names.is_empty() {
            self.of_object.remove(&object)
        } else {
            self.of_object.insert(object, names)
        };
        self.release(&before.unwrap_or_default());
    }

    fn release(&mut self, names: &BTreeSet<Key>) {
        for name in names {
            if let Some(count) = self.named.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.named.remove(name);
                }
            }
        }
    }
}

fn secrets<'a>(metadata: &'a ObjectMeta, names: impl Iterator<Item = &'a str>) -> BTreeSet<Key> {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let annotations = metadata.annotations.iter();
    let named = annotations.flat_map(|annotations| ANNOTATIONS.iter().filter_map(|name| annotations.get(*name)));
    let key = |text: &str| {
        let (namespace, name) = text.trim().split_once('/').unwrap_or_else(|| (namespace, text.trim()));
        (!namespace.is_empty() && !name.is_empty()).then(|| Key::new(namespace, name))
    };
    names.chain(named.map(String::as_str)).filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        core::v1::Secret,
        networking::v1::{Ingress, IngressSpec, IngressTLS},
    };

    use super::*;

    fn ingress(name: &str, secret: &str, authorities: Option<&str>) -> Object {
        let annotations =
            authorities.map(|secret| [("propylon.dev/backend-ca-secret".to_owned(), secret.to_owned())].into());
        Object::Ingress(Box::new(Ingress {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("n".to_owned()),
                annotations,
                ..ObjectMeta::default()
            },
            spec: Some(IngressSpec {
                tls: Some(vec![IngressTLS {
                    secret_name: Some(secret.to_owned()),
                    ..IngressTLS::default()
                }]),
                ..IngressSpec::default()
            }),
            ..Ingress::default()
        }))
    }

    fn secret(name: &str, type_: &str) -> Object {
        Object::Secret(Box::new(Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("n".to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(type_.to_owned()),
            ..Secret::default()
        }))
    }

    fn names(references: &References) -> Vec<String> {
        let wanted = references.wanted(&Options::default());
        wanted.iter().map(|(_, key)| key.to_string()).collect()
    }

    #[test]
    fn what_is_named_and_no_certificate_is_wanted() {
        let mut references = References::default();
        references.set(&ingress("a", "cert", Some("ca")));
        references.set(&ingress("b", "cert", Some("other/ca")));
        assert_eq!(names(&references), ["n/ca", "n/cert", "other/ca"]);
        references.set(&secret("cert", TLS));
        references.set(&secret("ca", "Opaque"));
        assert_eq!(names(&references), ["n/ca", "other/ca"]);
        references.set(&ingress("b", "cert", None));
        references.remove(Kind::Secret, &Key::new("n", "cert"));
        assert_eq!(names(&references), ["n/ca", "n/cert"]);
        references.remove(Kind::Ingress, &Key::new("n", "a"));
        assert_eq!(names(&references), ["n/cert"]);
        references.remove(Kind::Ingress, &Key::new("n", "b"));
        assert_eq!(names(&references), Vec::<String>::new());
    }

    #[test]
    fn what_the_settings_name_is_wanted() {
        let options = Options {
            default_tls_secret: Some(Key::new("x", "default")),
            tcp_services: Some(Key::new("x", "tcp")),
            ..Options::default()
        };
        let wanted = References::default().wanted(&options);
        let wanted: Vec<_> = wanted.into_iter().map(|(kind, key)| (kind, key.to_string())).collect();
        assert_eq!(
            wanted,
            [
                (Kind::ConfigMap, "x/tcp".to_owned()),
                (Kind::Secret, "x/default".to_owned())
            ]
        );
    }
}

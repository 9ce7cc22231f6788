//! Texts of manifests to Kubernetes objects.

use std::fmt;

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    serde::de::DeserializeOwned,
};
use propylon_model::{Kind, ObjectRef};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    cluster::{Node, Pod, ReferenceGrant},
    world::Key,
};

mod documents;
mod lines;

pub use lines::Lines;

/// A Kubernetes object of one of the kinds that are compiled, or the name of another one.
///
/// Its `Debug` form is the name only, because a Secret must not get into a log.
#[derive(Clone, PartialEq)]
pub enum Object {
    /// `v1` `ConfigMap`.
    ConfigMap(Box<ConfigMap>),
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    EndpointSlice(Box<EndpointSlice>),
    /// `networking.k8s.io/v1` `Ingress`.
    Ingress(Box<Ingress>),
    /// `networking.k8s.io/v1` `IngressClass`.
    IngressClass(Box<IngressClass>),
    /// `v1` `Node`; never of a folder.
    Node(Box<Node>),
    /// A kind that is not compiled.
    Other {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
        /// Its `metadata.name`, empty where it has none.
        name: String,
    },
    /// `v1` `Pod`; never of a folder.
    Pod(Box<Pod>),
    /// `gateway.networking.k8s.io` `ReferenceGrant`.
    ReferenceGrant(Box<ReferenceGrant>),
    /// `v1` `Secret`.
    Secret(Box<Secret>),
    /// `v1` `Service`.
    Service(Box<Service>),
}

impl Object {
    /// Kind, namespace and name; the namespace is `default` where a namespaced kind gives none. None for [`Object::Other`].
    pub fn key(&self) -> Option<ObjectRef> {
        let (kind, key) = match self {
            Self::ConfigMap(config_map) => (Kind::ConfigMap, Key::of_namespaced(&config_map.metadata)),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, Key::of_namespaced(&slice.metadata)),
            Self::Ingress(ingress) => (Kind::Ingress, Key::of_namespaced(&ingress.metadata)),
            Self::IngressClass(class) => (Kind::IngressClass, Key::of_cluster(&class.metadata)),
            Self::Node(node) => (Kind::Node, Key::new("", node.name.as_str())),
            Self::Other { .. } => return None,
            Self::Pod(pod) => (Kind::Pod, Key::new(pod.namespace.as_str(), pod.name.as_str())),
            Self::ReferenceGrant(grant) => (Kind::ReferenceGrant, Key::of_namespaced(&grant.metadata)),
            Self::Secret(secret) => (Kind::Secret, Key::of_namespaced(&secret.metadata)),
            Self::Service(service) => (Kind::Service, Key::of_namespaced(&service.metadata)),
        };
        Some(ObjectRef::new(kind, key.namespace, key.name))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.key()) {
            (
                Self::Other {
                    api_version,
                    kind,
                    name,
                },
                _,
            ) => write!(formatter, "{name} {api_version} {kind}"),
            (_, Some(key)) => write!(formatter, "{key}"),
            (_, None) => formatter.write_str("an object"),
        }
    }
}

/// Why a document is no object; the lines count from 1 in the text that was parsed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// A field has the wrong type, or a value that its type does not have.
    #[error("line {line}: {kind} '{name}': {path}: {message}")]
    Field {
        /// First line of the document.
        line: u64,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The field, such as `spec.rules[0].host`.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A document that is no mapping with `apiVersion` and `kind`.
    #[error("line {line}: the document is no Kubernetes object: it needs apiVersion and kind")]
    NotAnObject {
        /// First line of the document.
        line: u64,
    },
    /// Neither YAML nor JSON.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line of the mistake, as far as the parser knows it.
        line: u64,
        /// What the parser says.
        message: String,
    },
    /// A kind that is compiled, in an API version that is not.
    #[error("line {line}: {kind} '{name}': apiVersion {found} is not supported, write apiVersion: {wanted}{hint}")]
    WrongApiVersion {
        /// First line of the document.
        line: u64,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What stands there.
        found: String,
        /// What to write instead.
        wanted: &'static str,
        /// What else changes with it; starts with a space where it is not empty.
        hint: &'static str,
    },
}

/// One document of a text: where it stands, and what it holds.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// Its number among the documents of the text that hold something, from 1.
    pub number: u64,
    /// Its first line, from 1.
    pub line: u64,
    /// Its text.
    pub text: &'a str,
    /// Its objects: one, or those of its lists.
    pub items: Vec<Item>,
}

/// One object of a document.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it stands in the document: empty for the whole of it, `items[2]` within a list.
    pub path: String,
    /// The object, or why it is none.
    pub object: Result<Object, ManifestError>,
}

/// Reads a multi-document YAML text, or JSON; `List` kinds are flattened, empty documents skipped.
///
/// Every document stands for itself: a mistake in one takes nothing from the others.
///
/// # Cost
/// Linear in the text; aliases are bounded, so that a small text cannot become a large object.
pub fn parse(text: &str) -> Vec<Result<Object, ManifestError>> {
    let items = parse_documents(text).into_iter().flat_map(|document| document.items);
    items.map(|item| item.object).collect()
}

/// As [`parse`], with where each object stands.
///
/// # Cost
/// That of [`parse`].
pub fn parse_documents(text: &str) -> Vec<Document<'_>> {
    (1..)
        .zip(documents::read(text))
        .map(|(number, read)| Document {
            number,
            line: read.line,
            text: read.text,
            items: match read.value {
                Ok(value) => flatten(read.line, value),
                Err(error) => vec![Item {
                    path: String::new(),
                    object: Err(error),
                }],
            },
        })
        .collect()
}

/// What is still to be looked at of a document: where it stands, and what it is if it does not say so itself.
struct Pending {
    path: String,
    value: Value,
    item_type: Option<(String, String)>,
}

/// Takes lists apart, with a stack of its own so that nesting costs no call depth.
fn flatten(line: u64, value: Value) -> Vec<Item> {
    let mut found = Vec::new();
    let mut pending = vec![Pending {
        path: String::new(),
        value,
        item_type: None,
    }];
    while let Some(Pending { path, value, item_type }) = pending.pop() {
        let Value::Object(mut fields) = value else {
            let object = Err(ManifestError::NotAnObject { line });
            found.push(Item { path, object });
            continue;
        };
        if let Some((api_version, kind)) = item_type {
            fields.entry("apiVersion").or_insert(Value::String(api_version));
            fields.entry("kind").or_insert(Value::String(kind));
        }
        let kind = text_of(&fields, "kind").to_owned();
        let api_version = text_of(&fields, "apiVersion").to_owned();
        match (kind.strip_suffix("List"), fields.get_mut("items")) {
            (Some(of), Some(Value::Array(items))) => {
                // The items of a typed list (`IngressList`) may leave out what the list says.
                let item_type = (!of.is_empty()).then(|| (api_version, of.to_owned()));
                let dot = if path.is_empty() { "" } else { "." };
                let items = std::mem::take(items).into_iter().enumerate().rev();
                pending.extend(items.map(|(index, value)| Pending {
                    path: format!("{path}{dot}items[{index}]"),
                    value,
                    item_type: item_type.clone(),
                }));
            }
            _ => found.push(Item {
                path,
                object: object(line, fields),
            }),
        }
    }
    found
}

fn object(line: u64, fields: Map<String, Value>) -> Result<Object, ManifestError> {
    let api_version = text_of(&fields, "apiVersion");
    let kind = text_of(&fields, "kind");
    if api_version.is_empty() || kind.is_empty() {
        return Err(ManifestError::NotAnObject { line });
    }
    match wanted_version(api_version, kind) {
        Some((wanted, hint)) if wanted != api_version && kind != "ReferenceGrant" => {
            Err(ManifestError::WrongApiVersion {
                line,
                kind: kind.to_owned(),
                name: name_of(&fields).to_owned(),
                found: api_version.to_owned(),
                wanted,
                hint,
            })
        }
        Some(_) => match kind {
            "ConfigMap" => typed(line, fields).map(|config_map| Object::ConfigMap(Box::new(config_map))),
            "EndpointSlice" => typed(line, fields).map(|slice| Object::EndpointSlice(Box::new(slice))),
            "Ingress" => typed(line, fields).map(|ingress| Object::Ingress(Box::new(ingress))),
            "IngressClass" => typed(line, fields).map(|class| Object::IngressClass(Box::new(class))),
            "ReferenceGrant" => typed(line, fields).map(|grant| Object::ReferenceGrant(Box::new(grant))),
            "Secret" => typed(line, without_line_breaks(fields)).map(|secret| Object::Secret(Box::new(secret))),
            _ => typed(line, fields).map(|service| Object::Service(Box::new(service))),
        },
        None => Ok(Object::Other {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name_of(&fields).to_owned(),
        }),
    }
}

/// The version in which a kind is compiled, and a hint for those who come from an older one; none for other kinds.
///
/// A kind of the same name in a group of somebody else (`serving.knative.dev/v1` `Service`) is another kind.
fn wanted_version(api_version: &str, kind: &str) -> Option<(&'static str, &'static str)> {
    const INGRESS_HINT: &str = " (and name backends as service.name and service.port, and give each path a pathType)";
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("networking.k8s.io" | "extensions" | "", "Ingress") => Some(("networking.k8s.io/v1", INGRESS_HINT)),
        ("networking.k8s.io" | "extensions" | "", "IngressClass") => Some(("networking.k8s.io/v1", "")),
        ("discovery.k8s.io" | "", "EndpointSlice") => Some(("discovery.k8s.io/v1", "")),
        ("gateway.networking.k8s.io", "ReferenceGrant") => Some(("gateway.networking.k8s.io/v1beta1", "")),
        ("", "ConfigMap" | "Secret" | "Service") => Some(("v1", "")),
        _ => None,
    }
}

fn typed<T: DeserializeOwned>(line: u64, fields: Map<String, Value>) -> Result<T, ManifestError> {
    let (kind, name) = (text_of(&fields, "kind").to_owned(), name_of(&fields).to_owned());
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        // What serde says names the value, which must not get into a report where it is a secret.
        let message = match path.split(['.', '[']).next() {
            Some("data") if kind == "Secret" => "must be a map of names to base64 texts".to_owned(),
            Some("stringData") if kind == "Secret" => {
                "must be a map of names to texts (numbers need quotes)".to_owned()
            }
            _ => match error.inner().to_string() {
                // YAML 1.1 takes `no`, `on` or `1.10` for something else, as the API server's parser does.
                message if message.ends_with("expected a string") => format!("{message}; write it in quotes"),
                message => message,
            },
        };
        ManifestError::Field {
            line,
            kind,
            name,
            path,
            message,
        }
    })
}

/// Removes the line breaks that folded base64 carries; Go's decoder ignores them too.
fn without_line_breaks(mut fields: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(data)) = fields.get_mut("data") {
        for value in data.values_mut() {
            if let Value::String(text) = value {
                text.retain(|character| !matches!(character, '\n' | '\r'));
            }
        }
    }
    fields
}

fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn name_of(fields: &Map<String, Value>) -> &str {
    fields
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

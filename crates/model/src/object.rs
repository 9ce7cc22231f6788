//! References to Kubernetes objects, for reports, metrics and logs.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The kinds of Kubernetes objects that a report can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Kind {
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    EndpointSlice,
    /// A file of the manifests folder (its path is the name).
    File,
    /// `networking.k8s.io/v1` `Ingress`.
    Ingress,
    /// `networking.k8s.io/v1` `IngressClass`.
    IngressClass,
    /// `v1` `Node`.
    Node,
    /// `v1` `Pod`.
    Pod,
    /// `gateway.networking.k8s.io` `ReferenceGrant`.
    ReferenceGrant,
    /// `v1` `Secret`.
    Secret,
    /// `v1` `Service`.
    Service,
}

impl Kind {
    /// The kind as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::File => "File",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Secret => "Secret",
            Self::Service => "Service",
        }
    }
}

/// A Kubernetes object by kind, namespace and name; the namespace is empty for cluster-scoped kinds and files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace, empty where the kind has none.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// Makes a reference of its parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `NAMESPACE/NAME KIND`, or `NAME KIND` without a namespace: the form of the printed reports.
impl fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(formatter, "{}/", self.namespace)?;
        }
        write!(formatter, "{} {}", self.name, self.kind.as_str())
    }
}

fn is_empty(namespace: &Arc<str>) -> bool {
    namespace.is_empty()
}

//! Who a proxy is, and what the publisher knows of it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    key::ResourceKey,
    version::{Generation, StateVersion},
};

/// Who a proxy is: the pod that its client certificate names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ProxyIdentity {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Name of its node; empty where unknown.
    pub node: Arc<str>,
    /// UID of the pod.
    pub uid: Arc<str>,
}

/// Why a URI names no proxy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' names no proxy; the form is propylon://NAMESPACE/POD/NODE/UID")]
pub struct IdentityError(String);

impl ProxyIdentity {
    /// Reads the URI that a proxy's certificate carries as subject alternative name: `propylon://NAMESPACE/POD/NODE/UID`.
    ///
    /// # Errors
    /// When the text has another form, or a part other than the node is empty. Not retryable.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let parts = uri
            .strip_prefix("propylon://")
            .map(|rest| rest.split('/').collect::<Vec<_>>());
        let Some([namespace, pod, node, uid]) = parts.as_deref() else {
            return Err(IdentityError(uri.to_owned()));
        };
        let is_name = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        };
        let are_given = [namespace, pod, uid].iter().all(|part| !part.is_empty());
        if !are_given || ![namespace, pod, node, uid].iter().all(|part| is_name(part)) {
            return Err(IdentityError(uri.to_owned()));
        }
        Ok(Self {
            namespace: (*namespace).into(),
            pod: (*pod).into(),
            node: (*node).into(),
            uid: (*uid).into(),
        })
    }

    /// The URI that [`ProxyIdentity::from_uri`] reads.
    pub fn to_uri(&self) -> String {
        format!("propylon://{}/{}/{}/{}", self.namespace, self.pod, self.node, self.uid)
    }
}

/// `NAMESPACE/POD`, as in the Lease of a replica.
impl fmt::Display for ProxyIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.pod)
    }
}

/// A resource that a proxy did not take; it keeps the last one of that name that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which resource.
    pub key: ResourceKey,
    /// Why, for people; at most 512 bytes travel.
    pub message: String,
}

/// What the publisher knows of a connected proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyState {
    /// Who it is.
    pub identity: ProxyIdentity,
    /// The last generation that it has applied; 0 until the first.
    pub acknowledged: Generation,
    /// The version of the state at that generation.
    pub version: StateVersion,
    /// What of it the proxy did not take; at most 256 of them.
    pub rejected: Vec<Rejection>,
    /// When it connected, Unix seconds.
    pub connected_unix_s: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_of_a_proxy_reads_back() {
        let uri = "propylon://propylon/propylon-proxy-x7k2p/node-1.example/0b8f7c1e-11d2";
        let identity = ProxyIdentity::from_uri(uri).expect("a proxy");
        assert_eq!(identity.to_uri(), uri);
        assert_eq!(identity.to_string(), "propylon/propylon-proxy-x7k2p");
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in [
            "",
            "https://a/b/c/d",
            "propylon://a/b/c",
            "propylon://a/b/c/d/e",
            "propylon://a//c/d",
            "propylon://a/b/c/",
            "propylon://a b/b/c/d",
        ] {
            assert!(ProxyIdentity::from_uri(uri).is_err(), "{uri}");
        }
    }
}

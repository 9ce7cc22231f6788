//! A resource as it travels: JSON of the IR type, and the version of it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    key::{ResourceKey, ResourceKind},
    value::Value,
    version::ContentVersion,
};

/// A resource as it travels, encoded once and shared by all sessions.
#[derive(Clone)]
pub struct Encoded {
    /// What it is called.
    pub key: ResourceKey,
    /// The version of its content.
    pub version: ContentVersion,
    /// JSON of the IR type.
    pub payload: Bytes,
}

/// Without the payload, which may hold a key.
impl fmt::Debug for Encoded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Encoded({}, {} bytes)", self.key, self.payload.len())
    }
}

/// Why a resource could not be written or read.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The payload is not what this version reads. Not retryable: a newer proxy may read it.
    #[error("{kind} '{name}' cannot be read: {source}", kind = key.kind.as_str(), name = key.name)]
    Payload {
        /// Which resource.
        key: ResourceKey,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Encoded {
    /// Encodes a resource.
    ///
    /// # Errors
    /// When serde finds something that JSON cannot hold; no type of the IR has such a thing. Not retryable.
    pub fn new(key: ResourceKey, value: &Value) -> Result<Self, DecodeError> {
        let json = match value {
            Value::Certificate(value) => to_json(value),
            Value::Endpoints(value) => to_json(value),
            Value::L4Service(value) => to_json(value),
            Value::Passthrough(value) => to_json(value),
            Value::Pool(value) => to_json(value),
            Value::RouteGroup(value) => to_json(value),
        };
        match json {
            Ok(json) => Ok(Self::of_payload(key, json.into())),
            Err(source) => Err(DecodeError::Payload { key, source }),
        }
    }

    /// Takes a payload as it is.
    pub(crate) fn of_payload(key: ResourceKey, payload: Bytes) -> Self {
        let version = ContentVersion::of(key.kind.number(), &key.name, &payload);
        Self { key, version, payload }
    }
}

/// Reads a payload.
///
/// # Errors
/// When it is not JSON of the type, or holds what this version does not know. Not retryable.
pub(crate) fn decode(key: &ResourceKey, payload: &[u8]) -> Result<Value, DecodeError> {
    let value = match key.kind {
        ResourceKind::Certificate => of_json(payload).map(Value::Certificate),
        ResourceKind::Endpoints => of_json(payload).map(Value::Endpoints),
        ResourceKind::L4Service => of_json(payload).map(Value::L4Service),
        ResourceKind::Passthrough => of_json(payload).map(Value::Passthrough),
        ResourceKind::Pool => of_json(payload).map(Value::Pool),
        ResourceKind::RouteGroup => of_json(payload).map(Value::RouteGroup),
    };
    value.map_err(|source| DecodeError::Payload {
        key: key.clone(),
        source,
    })
}

fn to_json<T: Serialize>(value: &Arc<T>) -> serde_json::Result<Vec<u8>> {
    let mut json = serde_json::to_vec(value.as_ref())?;
    json.shrink_to_fit();
    Ok(json)
}

fn of_json<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<Arc<T>> {
    serde_json::from_slice(payload).map(Arc::new)
}

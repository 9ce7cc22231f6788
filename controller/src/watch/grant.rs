//! `ReferenceGrant` of the Gateway API as kube reads it; its definition may be absent from a cluster.

use std::borrow::Cow;

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use propylon_translate::cluster::{ReferenceGrant, ReferenceGrantSpec};
use serde::Deserialize;

use super::trim::{Trim, trim_metadata};

/// `gateway.networking.k8s.io/v1beta1` `ReferenceGrant`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Grant {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ReferenceGrantSpec,
}

impl Resource for Grant {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ReferenceGrant".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "gateway.networking.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1beta1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "referencegrants".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Trim for Grant {
    fn trim(&mut self) {
        trim_metadata(&mut self.metadata);
        self.metadata.annotations = None;
    }
}

impl From<Grant> for ReferenceGrant {
    fn from(grant: Grant) -> Self {
        Self {
            metadata: grant.metadata,
            spec: grant.spec,
        }
    }
}

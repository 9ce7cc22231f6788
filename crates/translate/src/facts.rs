//! What the parts of a compile are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::{
    endpoints::{NodeAddresses, Slices},
    settings::{Merged, Settings},
    world::{Key, Options, World},
};

/// The settings of every Service.
pub(crate) type ServiceSettings = BTreeMap<Key, Settings>;

/// The objects, and what was already read from them.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) world: &'a World,
    pub(crate) options: &'a Options,
    pub(crate) services: &'a ServiceSettings,
    pub(crate) slices: &'a Slices,
    pub(crate) nodes: &'a NodeAddresses,
}

impl<'a> Facts<'a> {
    /// The settings of a Service; empty ones where it does not exist.
    pub(crate) fn settings(&self, service: &Key) -> Settings {
        self.services.get(service).cloned().unwrap_or_default()
    }

    /// The settings of a Service behind those of an Ingress, where there is one.
    pub(crate) fn merged(&self, ingress: Option<&'a Settings>, service: &Key) -> Merged<'a> {
        Merged {
            ingress,
            service: self.services.get(service),
        }
    }

    /// The `spec` of a Service.
    pub(crate) fn spec(&self, service: &Key) -> Option<&'a ServiceSpec> {
        let service = self.world.services.get(service);
        service.and_then(|service| service.spec.as_ref())
    }
}

/// The objects that a part was made of, there or not: where one of them changes, the part is made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) services: BTreeSet<Key>,
    pub(crate) secrets: BTreeSet<Key>,
    /// Namespaces of which the names of all Services count, because one of that name was missing.
    pub(crate) names: BTreeSet<Arc<str>>,
}

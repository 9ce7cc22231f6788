//! What of a world changed since it was last compiled.

use std::collections::BTreeSet;

use propylon_model::Kind;

use crate::world::{Key, World};

/// The objects that were inserted, replaced or removed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) config_maps: BTreeSet<Key>,
    pub(crate) endpoint_slices: BTreeSet<Key>,
    pub(crate) ingress_classes: BTreeSet<Key>,
    pub(crate) ingresses: BTreeSet<Key>,
    pub(crate) nodes: BTreeSet<Key>,
    pub(crate) pods: BTreeSet<Key>,
    pub(crate) reference_grants: BTreeSet<Key>,
    pub(crate) secrets: BTreeSet<Key>,
    pub(crate) services: BTreeSet<Key>,
    /// Whether other addresses are the machine's.
    pub(crate) local_addresses: bool,
}

impl Changes {
    /// Every object of a world.
    pub(crate) fn all(world: &World) -> Self {
        Self {
            config_maps: world.config_maps.keys().cloned().collect(),
            endpoint_slices: world.endpoint_slices.keys().cloned().collect(),
            ingress_classes: world.ingress_classes.keys().cloned().collect(),
            ingresses: world.ingresses.keys().cloned().collect(),
            nodes: world.nodes.keys().cloned().collect(),
            pods: world.pods.keys().cloned().collect(),
            reference_grants: world.reference_grants.keys().cloned().collect(),
            secrets: world.secrets.keys().cloned().collect(),
            services: world.services.keys().cloned().collect(),
            local_addresses: false,
        }
    }

    /// Notes one object.
    pub(crate) fn add(&mut self, kind: Kind, key: Key) {
        let of_kind = match kind {
            Kind::ConfigMap => &mut self.config_maps,
            Kind::EndpointSlice => &mut self.endpoint_slices,
            Kind::File => return,
            Kind::Ingress => &mut self.ingresses,
            Kind::IngressClass => &mut self.ingress_classes,
            Kind::Node => &mut self.nodes,
            Kind::Pod => &mut self.pods,
            Kind::ReferenceGrant => &mut self.reference_grants,
            Kind::Secret => &mut self.secrets,
            Kind::Service => &mut self.services,
        };
        of_kind.insert(key);
    }
}

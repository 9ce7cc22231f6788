//! The endpoints that pools and L4 ports need, and what there is to say about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{Endpoint, Endpoints, EndpointsName, ExternalName, L4Protocol, ReportReason};

use super::{Backends, Port, port::Target, service_object};
use crate::{
    endpoints::{self, Choice, Policy},
    facts::Facts,
    reports::{Reports, name_some},
    world::{Key, PortRef},
};

/// Who sends something to a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    /// An Ingress, requests.
    Ingress(Key),
    /// An L4 port or a host of TLS passthrough, connections; how it is named in a report.
    L4(String),
}

/// A port of a Service, as it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortKey {
    pub(crate) service: Key,
    port: PortRef,
    protocol: L4Protocol,
}

/// What a part needs of some endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Whose they are; none: nobody's, there are to be none.
    pub(crate) port: Option<PortKey>,
    pub(crate) users: BTreeSet<User>,
}

/// The endpoints that a part needs.
pub(crate) type Uses = BTreeMap<EndpointsName, Use>;

/// The endpoints of a port.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    endpoints: Endpoints,
    /// Why there are none.
    empty: Option<String>,
    /// The pods that count, there or not.
    pub(crate) pods: BTreeSet<Key>,
}

impl Backends<'_> {
    /// Notes that somebody needs the endpoints of a port.
    pub(crate) fn add_endpoints(&mut self, key: &Key, port: &Port, user: User) {
        let entry = self.uses.entry(port.endpoints(key)).or_default();
        entry.port = Some(PortKey {
            service: key.clone(),
            port: port.found_by.clone(),
            protocol: port.protocol,
        });
        entry.users.insert(user);
    }

    /// Endpoints of which there are none, for what is known to be of no use.
    pub(crate) fn add_nothing(&mut self, name: EndpointsName) -> EndpointsName {
        self.uses.entry(name.clone()).or_default();
        name
    }
}

impl Facts<'_> {
    /// The endpoints of a port; none where it is gone.
    pub(crate) fn addresses(&self, key: &PortKey, reports: &mut Reports) -> Addresses {
        let Ok(port) = self.port(&key.service, &key.port, key.protocol) else {
            return Addresses::default();
        };
        let endpoints = match &port.target {
            Target::Address(address) => Endpoints::new(vec![Endpoint::new(*address)]),
            Target::External { host, port } => Endpoints {
                external: Some(ExternalName {
                    host: Arc::clone(host),
                    port: *port,
                    allow_local: self.options.allow_local_endpoints,
                }),
                ..Endpoints::default()
            },
            Target::Slices => return self.choose(&key.service, &port, reports),
        };
        Addresses {
            endpoints,
            ..Addresses::default()
        }
    }

    fn choose(&self, key: &Key, port: &Port, reports: &mut Reports) -> Addresses {
        let slices = self.slices.get(key, self.world);
        let spec = self.spec(key);
        let policy = Policy {
            nodes: self.nodes,
            pods: &self.world.pods,
            protocol: port.protocol,
            publish_not_ready: spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false),
            allow_local: self.options.allow_local_endpoints,
        };
        let mut choice = endpoints::choose(&slices, &port.name, policy);
        choice.endpoints.distribution = endpoints::distribution(spec);
        if !choice.denied.is_empty() {
            let message = format!(
                "port {}: the endpoints {} are left out, because loopback and link-local addresses are those of the proxy's \
                 own node; if that is meant, give --allow-local-endpoints",
                port.label,
                name_some(&choice.denied)
            );
            reports.add(&service_object(key), ReportReason::EndpointDenied, message);
        }
        if !choice.of_nodes.is_empty() {
            let message = format!(
                "port {}: the endpoints {} are left out, because these are addresses of nodes, and the endpoint names no pod of \
                 its namespace that is known to have the address; let Kubernetes write the slice of a pod with hostNetwork, or \
                 give targetRef the pod",
                port.label,
                name_some(&choice.of_nodes)
            );
            reports.add(&service_object(key), ReportReason::EndpointDenied, message);
        }
        let is_empty = choice.endpoints.endpoints.is_empty();
        Addresses {
            empty: is_empty.then(|| why_empty(&choice, slices.len(), port)),
            pods: choice.pods,
            endpoints: choice.endpoints,
        }
    }
}

impl Addresses {
    pub(crate) fn into_endpoints(self) -> Endpoints {
        self.endpoints
    }

    /// Says that there are no endpoints, where that is so, and what comes of it for the users.
    pub(crate) fn report_empty<'u>(
        &self,
        service: &Key,
        users: impl IntoIterator<Item = &'u User>,
        reports: &mut Reports,
    ) {
        let Some(why) = &self.empty else { return };
        let (mut ingresses, mut l4) = (BTreeSet::new(), BTreeSet::new());
        for user in users {
            match user {
                User::Ingress(key) => ingresses.insert(key.to_string()),
                User::L4(port) => l4.insert(port.clone()),
            };
        }
        let requests = format!(
            "requests of Ingress {} to it are answered with 503",
            name_some(&ingresses)
        );
        let connections = format!("what comes in on {} is turned away", name_some(&l4));
        let parts = [(requests, &ingresses), (connections, &l4)];
        let parts = parts.into_iter().filter(|(_, users)| !users.is_empty());
        let consequences: Vec<String> = parts.map(|(part, _)| part).collect();
        let message = format!("{why}; {}", consequences.join("; "));
        reports.add(&service_object(service), ReportReason::NoReadyEndpoints, message);
    }
}

fn why_empty(choice: &Choice, slices: usize, port: &Port) -> String {
    let label = port.described();
    if slices == 0 {
        return format!(
            "port {label}: no EndpointSlice is labelled kubernetes.io/service-name with the Service's name; without a cluster, \
             write one or use --map"
        );
    }
    if !choice.has_port {
        let protocol = port.protocol.as_str();
        return format!(
            "port {label}: no EndpointSlice has a {protocol} port named \"{}\" as the Service port is (they have {})",
            port.name,
            name_some(choice.port_names.iter().map(|name| format!("\"{name}\"")))
        );
    }
    match choice.not_ready {
        0 => format!("port {label}: its EndpointSlices hold no usable address"),
        not_ready => format!("port {label}: none of its {not_ready} endpoints is ready"),
    }
}

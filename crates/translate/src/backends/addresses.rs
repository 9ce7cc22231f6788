//! The endpoints that pools and L4 ports need, and what there is to say about them.

use std::{collections::BTreeSet, sync::Arc};

use propylon_model::{Endpoint, Endpoints, EndpointsName, ExternalName, ObjectRef, ReportReason};

use super::{Backends, Port, port::Target, service_object};
use crate::{
    endpoints::{self, Choice, Policy},
    reports::{Reports, name_some},
    world::Key,
};

/// Who sends something to a port.
pub(crate) enum User {
    /// An Ingress, requests.
    Ingress(Key),
    /// An L4 port or a host of TLS passthrough, connections; how it is named in a report.
    L4(String),
}

/// A port without endpoints: what there is to say, and who uses it.
pub(super) struct Empty {
    object: ObjectRef,
    why: String,
    ingresses: BTreeSet<String>,
    l4: BTreeSet<String>,
}

impl Backends<'_> {
    /// Says which ports have no endpoints, once for each.
    pub(crate) fn report_empty(&self, reports: &mut Reports) {
        for empty in self.empty.values() {
            let requests = format!(
                "requests of Ingress {} to it are answered with 503",
                name_some(&empty.ingresses)
            );
            let connections = format!("what comes in on {} is turned away", name_some(&empty.l4));
            let parts = [(requests, &empty.ingresses), (connections, &empty.l4)];
            let parts = parts.into_iter().filter(|(_, users)| !users.is_empty());
            let consequences: Vec<String> = parts.map(|(part, _)| part).collect();
            let message = format!("{}; {}", empty.why, consequences.join("; "));
            reports.add(&empty.object, ReportReason::NoReadyEndpoints, message);
        }
    }

    /// Collects the endpoints of a port.
    pub(crate) fn add_endpoints(&mut self, key: &Key, port: &Port, user: User, reports: &mut Reports) {
        let name = port.endpoints(key);
        if !self.endpoints.contains_key(&name) {
            let found = match &port.target {
                Target::Address(address) => Endpoints::new(vec![Endpoint::new(*address)]),
                Target::External { host, port } => Endpoints {
                    external: Some(ExternalName {
                        host: Arc::clone(host),
                        port: *port,
                        allow_local: self.options.allow_local_endpoints,
                    }),
                    ..Endpoints::default()
                },
                Target::Slices => self.choose(key, port, &name, reports),
            };
            self.endpoints.insert(name.clone(), Arc::new(found));
        }
        if let Some(empty) = self.empty.get_mut(&name) {
            match user {
                User::Ingress(key) => empty.ingresses.insert(key.to_string()),
                User::L4(port) => empty.l4.insert(port),
            };
        }
    }

    /// Endpoints of which there are none, for what is known to be of no use.
    pub(crate) fn add_nothing(&mut self, name: EndpointsName) -> EndpointsName {
        self.endpoints.entry(name.clone()).or_default();
        name
    }

    fn choose(&mut self, key: &Key, port: &Port, name: &EndpointsName, reports: &mut Reports) -> Endpoints {
        let slices = self.slices.get(key);
        let spec = self.spec(key);
        let policy = Policy {
            protocol: port.protocol,
            publish_not_ready: spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false),
            allow_local: self.options.allow_local_endpoints,
        };
        let mut choice = endpoints::choose(slices, &port.name, policy);
        choice.endpoints.distribution = endpoints::distribution(spec);
        let object = service_object(key);
        if !choice.denied.is_empty() {
            let message = format!(
                "port {}: the endpoints {} are left out, because loopback and link-local addresses are those of the proxy's \
                 own node; if that is meant, give --allow-local-endpoints",
                port.label,
                name_some(&choice.denied)
            );
            reports.add(&object, ReportReason::EndpointDenied, message);
        }
        if choice.endpoints.endpoints.is_empty() {
            let empty = Empty {
                object,
                why: why_empty(&choice, slices.len(), port),
                ingresses: BTreeSet::new(),
                l4: BTreeSet::new(),
            };
            self.empty.insert(name.clone(), empty);
        }
        choice.endpoints
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

//! Which port of which Service a backend means.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    networking::v1::IngressServiceBackend,
};
use propylon_model::{EndpointsName, L4Protocol, Refusal, ReportReason};

use super::external::Denied;
use crate::{
    endpoints::is_of,
    facts::Facts,
    reports::name_some,
    spelling::nearest,
    world::{Key, PortRef, World},
};

/// The port that a backend means.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// Its part in the names of pools and endpoints: the number; the name where there is no Service to number it.
    pub(crate) label: String,
    /// The number; that of the `--map` address where there is no Service to number it.
    pub(crate) number: u16,
    /// The name, which is what slices know it by; empty for the only port of a Service.
    pub(crate) name: String,
    pub(crate) protocol: L4Protocol,
    /// By what it is found again: one way for each label, whatever it was asked for.
    pub(super) found_by: PortRef,
    pub(super) app_protocol: Option<String>,
    pub(super) target: Target,
}

/// Where the endpoints of a port come from.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The address of a `--map`, or an external name that is an address.
    Address(SocketAddr),
    /// A name that is resolved.
    External { host: Arc<str>, port: u16 },
    /// The slices of the Service.
    Slices,
}

impl Port {
    /// The name of its endpoints.
    pub(crate) fn endpoints(&self, service: &Key) -> EndpointsName {
        EndpointsName::new(format!("{service}:{}", self.described()))
    }

    /// The label, and the protocol where it is not TCP.
    pub(super) fn described(&self) -> String {
        match self.protocol {
            L4Protocol::Tcp => self.label.clone(),
            L4Protocol::Udp => format!("{}/UDP", self.label),
        }
    }
}

/// Why a backend means no port.
pub(crate) enum Missing {
    ExternalName(Denied),
    Port(L4Protocol),
    Service,
}

/// Where a backend is named, for reports.
pub(crate) struct Place<'a> {
    /// The field that names the Service.
    pub(crate) name: &'a str,
    /// The field that names the port.
    pub(crate) port: &'a str,
    /// What comes of a mistake.
    pub(crate) outcome: &'a str,
}

/// The port as the backend gives it.
pub(crate) fn wanted(backend: &IngressServiceBackend) -> Option<PortRef> {
    let port = backend.port.as_ref()?;
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port
        .number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0);
    name.map(|name| PortRef::Name(name.into()))
        .or_else(|| number.map(PortRef::Number))
}

impl Facts<'_> {
    /// The port of a Service, by name or number.
    pub(crate) fn port(&self, key: &Key, wanted: &PortRef, protocol: L4Protocol) -> Result<Port, Missing> {
        let Some(service) = self.world.services.get(key) else {
            return self.mapped_port(key, wanted, protocol).ok_or(Missing::Service);
        };
        // By the number in the end, so that one number is one port in whatever way it is named.
        let found = find(service, wanted, protocol);
        let found = found.and_then(|(number, _)| find(service, &PortRef::Number(number), protocol));
        let (number, given) = match (found, wanted) {
            (Some((number, port)), _) => (number, Some(port)),
            // An external name says nothing of ports, unless it lists them.
            (None, PortRef::Number(number)) if is_external(service) && ports(service, protocol).next().is_none() => {
                (*number, None)
            }
            (None, _) if is_external(service) => {
                return self.mapped_port(key, wanted, protocol).ok_or(Missing::Port(protocol));
            }
            (None, _) => return Err(Missing::Port(protocol)),
        };
        let name = given.and_then(|port| port.name.clone()).unwrap_or_default();
        let refs = [PortRef::Number(number), PortRef::Name(name.as_str().into())];
        let target = match self.mapped(key, &refs.each_ref()) {
            Some(address) => Target::Address(address),
            None if is_external(service) => self.external(service, number, given).map_err(Missing::ExternalName)?,
            None => Target::Slices,
        };
        Ok(Port {
            label: number.to_string(),
            number,
            name,
            protocol,
            found_by: PortRef::Number(number),
            app_protocol: given.and_then(|port| port.app_protocol.clone()),
            target,
        })
    }

    /// The port of a Service that has none, by a `--map`.
    fn mapped_port(&self, key: &Key, wanted: &PortRef, protocol: L4Protocol) -> Option<Port> {
        let mapped = self.mapped(key, &[wanted])?;
        let (number, name) = match wanted {
            PortRef::Name(name) => (mapped.port(), name.to_string()),
            PortRef::Number(number) => (*number, String::new()),
        };
        Some(Port {
            label: wanted.to_string(),
            number,
            name,
            protocol,
            found_by: wanted.clone(),
            app_protocol: None,
            target: Target::Address(mapped),
        })
    }

    /// The first `--map` of the Service that names the port, else the first that names none.
    fn mapped(&self, key: &Key, port: &[&PortRef]) -> Option<SocketAddr> {
        let maps = || {
            self.options
                .maps
                .iter()
                .filter(|map| map.namespace == key.namespace && map.service == key.name)
        };
        let exact = maps().find(|map| map.port.as_ref().is_some_and(|named| port.contains(&named)));
        exact
            .or_else(|| maps().find(|map| map.port.is_none()))
            .map(|map| map.address)
    }
}

impl Missing {
    /// The report and the refusal.
    pub(crate) fn explain(
        &self,
        place: &Place<'_>,
        key: &Key,
        wanted: &PortRef,
        world: &World,
    ) -> (ReportReason, Refusal, String) {
        let Place { name, port, outcome } = place;
        match self {
            Self::ExternalName(denied) => (
                denied.reason(),
                Refusal::BackendNotFound(key.to_string().into()),
                denied.message(name, key, outcome),
            ),
            Self::Port(protocol) => {
                let found = world
                    .services
                    .get(key)
                    .map(|service| ports(service, *protocol).map(describe).collect::<Vec<_>>());
                let message = format!(
                    "{port}: Service {key} has no {} port {}, so {outcome}; it has {}",
                    protocol.as_str(),
                    quoted(wanted),
                    name_some(found.unwrap_or_default())
                );
                let refusal = Refusal::BackendPortNotFound(format!("{key}:{wanted}").into());
                (ReportReason::BackendPortNotFound, refusal, message)
            }
            Self::Service => {
                let others = world.services.range(Key::new(Arc::clone(&key.namespace), "")..);
                let names = others
                    .map(|(other, _)| other)
                    .take_while(|other| other.namespace == key.namespace);
                let what_next = match nearest(&key.name, names.map(|other| &*other.name)) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "create it, or correct the name".to_owned(),
                };
                let message = format!("{name}: Service {key} does not exist, so {outcome}; {what_next}");
                let refusal = Refusal::BackendNotFound(key.to_string().into());
                (ReportReason::BackendServiceNotFound, refusal, message)
            }
        }
    }
}

fn is_external(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn find<'a>(service: &'a Service, wanted: &PortRef, protocol: L4Protocol) -> Option<(u16, &'a ServicePort)> {
    ports(service, protocol).find(|(number, port)| match wanted {
        PortRef::Name(name) => port.name.as_deref() == Some(&**name),
        PortRef::Number(wanted) => number == wanted,
    })
}

fn ports(service: &Service, protocol: L4Protocol) -> impl Iterator<Item = (u16, &ServicePort)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter(move |port| is_of(port.protocol.as_deref(), protocol))
        .filter_map(|port| u16::try_from(port.port).ok().map(|number| (number, port)))
}

fn describe((number, port): (u16, &ServicePort)) -> String {
    match port.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("{number} \"{name}\""),
        None => number.to_string(),
    }
}

fn quoted(port: &PortRef) -> impl Display + use<> {
    match port {
        PortRef::Name(name) => format!("\"{name}\""),
        PortRef::Number(number) => number.to_string(),
    }
}

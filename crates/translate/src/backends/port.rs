//! Which port of which Service a backend means.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    networking::v1::IngressServiceBackend,
};
use propylon_model::{EndpointsName, Refusal, ReportReason};

use super::Backends;
use crate::{
    endpoints::is_tcp,
    reports::name_some,
    spelling::nearest,
    world::{Key, PortRef, World},
};

/// The port that a backend means.
pub(super) struct Port {
    /// Its part in the names of pools and endpoints: the number; the name where there is no Service to number it.
    pub(super) label: String,
    /// The number; that of the `--map` address where there is no Service to number it.
    pub(super) number: u16,
    /// The name, which is what slices know it by; empty for the only port of a Service.
    pub(super) name: String,
    pub(super) app_protocol: Option<String>,
    /// The address of a `--map`, which replaces the endpoints.
    pub(super) mapped: Option<SocketAddr>,
}

impl Port {
    /// The name of its endpoints.
    pub(super) fn endpoints(&self, service: &Key) -> EndpointsName {
        EndpointsName::new(format!("{service}:{}", self.label))
    }
}

/// Why a backend means no port.
pub(super) enum Missing {
    ExternalName,
    Port,
    Service,
}

/// The port as the backend gives it.
pub(super) fn wanted(backend: &IngressServiceBackend) -> Option<PortRef> {
    let port = backend.port.as_ref()?;
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port
        .number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0);
    name.map(|name| PortRef::Name(name.into()))
        .or_else(|| number.map(PortRef::Number))
}

impl Backends<'_> {
    pub(super) fn port(&self, key: &Key, wanted: &PortRef) -> Result<Port, Missing> {
        let service = self.world.services.get(key);
        let spec = service.and_then(|service| service.spec.as_ref());
        let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        let Some(service) = service.filter(|_| !is_external) else {
            let missing = if is_external {
                Missing::ExternalName
            } else {
                Missing::Service
            };
            let mapped = self.mapped(key, &[wanted]).ok_or(missing)?;
            let (number, name) = match wanted {
                PortRef::Name(name) => (mapped.port(), name.to_string()),
                PortRef::Number(number) => (*number, String::new()),
            };
            return Ok(Port {
                label: wanted.to_string(),
                number,
                name,
                app_protocol: None,
                mapped: Some(mapped),
            });
        };
        let (number, port) = find(service, wanted).ok_or(Missing::Port)?;
        let name = port.name.clone().unwrap_or_default();
        let refs = [PortRef::Number(number), PortRef::Name(name.as_str().into())];
        let mapped = self.mapped(key, &refs.each_ref());
        Ok(Port {
            label: number.to_string(),
            number,
            name,
            app_protocol: port.app_protocol.clone(),
            mapped,
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
    pub(super) fn explain(
        &self,
        field: &str,
        key: &Key,
        wanted: &PortRef,
        world: &World,
    ) -> (ReportReason, Refusal, String) {
        match self {
            Self::ExternalName => {
                let message = format!(
                    "{field}.service.name: Service {key} is of type ExternalName, which is not supported yet, so requests are \
                     answered with 503; use a Service with an EndpointSlice, or --map"
                );
                (ReportReason::ExternalNameUnsupported, Refusal::BackendNotFound, message)
            }
            Self::Port => {
                let ports = world
                    .services
                    .get(key)
                    .map(|service| tcp_ports(service).map(describe).collect::<Vec<_>>());
                let message = format!(
                    "{field}.service.port: Service {key} has no TCP port {}, so requests are answered with 503; it has {}",
                    quoted(wanted),
                    name_some(ports.unwrap_or_default())
                );
                (ReportReason::BackendPortNotFound, Refusal::BackendPortNotFound, message)
            }
            Self::Service => {
                let others = world.services.range(Key::new(Arc::clone(&key.namespace), "")..);
                let names = others
                    .map(|(other, _)| other)
                    .take_while(|other| other.namespace == key.namespace);
                let what_next = match nearest(&key.name, names.map(|other| &*other.name)) {
                    Some(name) => format!("did you mean {name}?"),
                    None => "create it, or correct the name".to_owned(),
                };
                let message = format!(
                    "{field}.service.name: Service {key} does not exist, so requests are answered with 503; {what_next}"
                );
                (ReportReason::BackendServiceNotFound, Refusal::BackendNotFound, message)
            }
        }
    }
}

fn find<'a>(service: &'a Service, wanted: &PortRef) -> Option<(u16, &'a ServicePort)> {
    tcp_ports(service).find(|(number, port)| match wanted {
        PortRef::Name(name) => port.name.as_deref() == Some(&**name),
        PortRef::Number(wanted) => number == wanted,
    })
}

fn tcp_ports(service: &Service) -> impl Iterator<Item = (u16, &ServicePort)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter(|port| is_tcp(port.protocol.as_deref()))
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

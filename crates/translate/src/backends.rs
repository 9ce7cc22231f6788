//! Backends of Ingress rules to pools and endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::IngressServiceBackend;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Endpoint, Endpoints, EndpointsName, Kind, ObjectRef, Pool, PoolName,
    PoolPolicy, Refusal, ReportReason,
};

use crate::{
    annotations::{BACKEND_CA_SECRET, BACKEND_SERVER_NAME, PREFIX},
    classes::Served,
    endpoints::{self, Choice, Policy, Slices},
    memory::Memory,
    reports::{Reports, name_some},
    settings::Settings,
    world::{Key, Options, World},
};

mod authorities;
mod port;

use port::Port;

/// Resolves backends and collects the pools and endpoints that they need.
pub(crate) struct Backends<'a> {
    world: &'a World,
    options: &'a Options,
    slices: Slices<'a>,
    services: BTreeMap<&'a Key, Settings>,
    memory: &'a mut Memory,
    pub(crate) pools: BTreeMap<PoolName, Arc<Pool>>,
    pub(crate) endpoints: BTreeMap<EndpointsName, Arc<Endpoints>>,
    /// Pools that cannot be used because what verifies their certificates is missing.
    closed: BTreeMap<PoolName, Refusal>,
    /// Ingresses that have a TLS backend.
    tls_users: BTreeSet<Key>,
    /// Ports without endpoints, with what there is to say and who uses them.
    empty: BTreeMap<EndpointsName, (ObjectRef, String, BTreeSet<String>)>,
}

impl<'a> Backends<'a> {
    pub(crate) fn new(world: &'a World, options: &'a Options, memory: &'a mut Memory, reports: &mut Reports) -> Self {
        let services = world.services.iter().map(|(key, service)| {
            let object = service_object(key);
            (key, Settings::read(&object, &service.metadata, memory, reports))
        });
        Self {
            world,
            options,
            slices: Slices::of(world),
            services: services.collect(),
            memory,
            pools: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            closed: BTreeMap::new(),
            tls_users: BTreeSet::new(),
            empty: BTreeMap::new(),
        }
    }

    /// The settings of a Service; empty ones where it does not exist.
    pub(crate) fn settings(&self, service: &Key) -> Settings {
        self.services.get(service).cloned().unwrap_or_default()
    }

    /// What is done with requests for a backend at `field`.
    pub(crate) fn resolve(
        &mut self,
        ingress: &Served<'_>,
        field: &str,
        backend: &IngressServiceBackend,
        reports: &mut Reports,
    ) -> Action {
        let key = Key::new(ingress.key.namespace.clone(), backend.name.as_str());
        let Some(wanted) = port::wanted(backend) else {
            let message = format!("{field}.service.port: names no port; give its name or its number");
            reports.add(&ingress.object, ReportReason::BackendPortNotFound, message);
            return Action::Refuse(Refusal::BackendPortNotFound);
        };
        match self.port(&key, &wanted) {
            Ok(port) => self.pool(ingress, &key, &port, reports),
            Err(missing) => {
                let (reason, refusal, message) = missing.explain(field, &key, &wanted, self.world);
                reports.add(&ingress.object, reason, message);
                Action::Refuse(refusal)
            }
        }
    }

    /// Says which ports have no endpoints, once for each.
    pub(crate) fn report_empty(&self, reports: &mut Reports) {
        for (object, why, users) in self.empty.values() {
            let message = format!(
                "{why}; requests of Ingress {} to it are answered with 503",
                name_some(users)
            );
            reports.add(object, ReportReason::NoReadyEndpoints, message);
        }
    }

    /// Reports settings for TLS backends on Ingresses that have none: their author expects encryption that is not there.
    pub(crate) fn report_without_tls(&self, served: &[Served<'_>], reports: &mut Reports) {
        for ingress in served.iter().filter(|ingress| !self.tls_users.contains(ingress.key)) {
            for name in [BACKEND_CA_SECRET, BACKEND_SERVER_NAME] {
                if ingress.settings.has(name) {
                    let message = format!(
                        "metadata.annotations[{PREFIX}{name}]: has no effect, because no backend of this Ingress speaks TLS; set \
                         appProtocol: https on the Service port"
                    );
                    reports.add(&ingress.object, ReportReason::AnnotationUnsupported, message);
                }
            }
        }
    }

    fn pool(&mut self, ingress: &Served<'_>, key: &Key, port: &Port, reports: &mut Reports) -> Action {
        let protocol = protocol(key, port, reports);
        let has_own = [BACKEND_CA_SECRET, BACKEND_SERVER_NAME]
            .iter()
            .any(|name| ingress.settings.has(name));
        let owner = (is_tls(protocol) && has_own).then_some(ingress);
        let suffix = owner
            .map(|ingress| format!("@{}", ingress.key.name))
            .unwrap_or_default();
        let name = PoolName::new(format!("{key}:{}{suffix}", port.label));
        if is_tls(protocol) {
            self.tls_users.insert(ingress.key.clone());
        }
        if !self.pools.contains_key(&name) && !self.closed.contains_key(&name) {
            match self.new_pool(owner, key, port, protocol, reports) {
                Ok(pool) => {
                    self.pools.insert(name.clone(), Arc::new(pool));
                }
                Err(refusal) => {
                    self.closed.insert(name.clone(), refusal);
                }
            }
        }
        if let Some(refusal) = self.closed.get(&name) {
            return Action::Refuse(refusal.clone());
        }
        self.add_endpoints(ingress, key, port, reports);
        Action::Forward(name)
    }

    /// A pool of one Ingress, or of all; refused where its certificates cannot be verified as asked.
    fn new_pool(
        &mut self,
        owner: Option<&Served<'_>>,
        key: &Key,
        port: &Port,
        protocol: BackendProtocol,
        reports: &mut Reports,
    ) -> Result<Pool, Refusal> {
        let service = service_object(key);
        let tls = if is_tls(protocol) {
            let of_service = self.settings(key);
            let settings = [owner.map(|owner| &owner.settings), Some(&of_service)];
            self.tls(owner.map_or(&service, |owner| &owner.object), port, &settings, reports)
        } else {
            Ok(BackendTls::default())
        };
        Ok(Pool {
            service,
            port: port.number,
            endpoints: port.endpoints(key),
            protocol,
            tls: tls?,
            policy: PoolPolicy::default(),
        })
    }

    /// How the certificates of a TLS backend are verified; fails closed where that cannot be done as asked.
    fn tls(
        &mut self,
        owner: &ObjectRef,
        port: &Port,
        settings: &[Option<&Settings>; 2],
        reports: &mut Reports,
    ) -> Result<BackendTls, Refusal> {
        let first = |annotation: &str| settings.iter().flatten().find(|settings| settings.has(annotation));
        let server_name = first(BACKEND_SERVER_NAME)
            .and_then(|settings| settings.name(BACKEND_SERVER_NAME))
            .cloned();
        let Some(settings) = first(BACKEND_CA_SECRET) else {
            let message = format!(
                "port {}: the certificates of this TLS backend are not verified; name a Secret with ca.crt in \
                 {PREFIX}{BACKEND_CA_SECRET}",
                port.label
            );
            reports.add(owner, ReportReason::BackendTLSUnverified, message);
            return Ok(BackendTls {
                ca_der: None,
                server_name,
            });
        };
        let secret = settings
            .name(BACKEND_CA_SECRET)
            .map(|name| Key::new(owner.namespace.clone(), Arc::clone(name)));
        match secret.and_then(|key| authorities::of(self.world, self.memory, owner, &key, reports)) {
            Some(ca_der) => Ok(BackendTls {
                ca_der: Some(ca_der),
                server_name,
            }),
            None => Err(Refusal::RestrictionUnsupported(
                format!("{PREFIX}{BACKEND_CA_SECRET}").into(),
            )),
        }
    }

    fn add_endpoints(&mut self, ingress: &Served<'_>, key: &Key, port: &Port, reports: &mut Reports) {
        let name = port.endpoints(key);
        if !self.endpoints.contains_key(&name) {
            let found = match port.mapped {
                Some(address) => Endpoints::new(vec![Endpoint::new(address)]),
                None => self.choose(key, port, &name, reports),
            };
            self.endpoints.insert(name.clone(), Arc::new(found));
        }
        if let Some((_, _, users)) = self.empty.get_mut(&name) {
            users.insert(ingress.key.to_string());
        }
    }

    fn choose(&mut self, key: &Key, port: &Port, name: &EndpointsName, reports: &mut Reports) -> Endpoints {
        let slices = self.slices.get(key);
        let spec = self.world.services.get(key).and_then(|service| service.spec.as_ref());
        let policy = Policy {
            publish_not_ready: spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false),
            allow_local: self.options.allow_local_endpoints,
        };
        let choice = endpoints::choose(slices, &port.name, policy);
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
            let why = why_empty(&choice, slices.len(), port);
            self.empty.insert(name.clone(), (object, why, BTreeSet::new()));
        }
        choice.endpoints
    }
}

fn service_object(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::Service, key.namespace.clone(), key.name.clone())
}

fn protocol(key: &Key, port: &Port, reports: &mut Reports) -> BackendProtocol {
    match port.app_protocol.as_deref() {
        None | Some("http" | "kubernetes.io/ws") => BackendProtocol::Http1,
        Some("grpc" | "kubernetes.io/h2c") => BackendProtocol::H2c,
        Some("https") => BackendProtocol::Https,
        Some("kubernetes.io/wss") => BackendProtocol::Wss,
        Some(other) => {
            let object = service_object(key);
            let message = format!(
                "port {}: appProtocol '{other}' is not known, so HTTP/1.1 is spoken; known are http, https, grpc, \
                 kubernetes.io/h2c, kubernetes.io/ws and kubernetes.io/wss",
                port.label
            );
            reports.add(&object, ReportReason::AppProtocolUnknown, message);
            BackendProtocol::Http1
        }
    }
}

const fn is_tls(protocol: BackendProtocol) -> bool {
    matches!(protocol, BackendProtocol::Https | BackendProtocol::Wss)
}

fn why_empty(choice: &Choice, slices: usize, port: &Port) -> String {
    let label = &port.label;
    if slices == 0 {
        return format!(
            "port {label}: no EndpointSlice is labelled kubernetes.io/service-name with the Service's name; without a cluster, \
             write one or use --map"
        );
    }
    if !choice.has_port {
        return format!(
            "port {label}: no EndpointSlice has a TCP port named \"{}\" as the Service port is (they have {})",
            port.name,
            name_some(choice.port_names.iter().map(|name| format!("\"{name}\"")))
        );
    }
    match choice.not_ready {
        0 => format!("port {label}: its EndpointSlices hold no usable address"),
        not_ready => format!("port {label}: none of its {not_ready} endpoints is ready"),
    }
}

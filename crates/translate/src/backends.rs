//! Backends of Ingress rules to pools and endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::IngressServiceBackend;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Kind, L4Protocol, ObjectRef, Pool, PoolName, Refusal, ReportReason,
};

use crate::{
    annotations::{BACKEND_CA_SECRET, BACKEND_SERVER_NAME, OF_POOLS},
    classes::Served,
    facts::{Facts, Needs},
    memory::Memory,
    reports::Reports,
    settings::Merged,
    world::{Key, PortRef},
};

mod addresses;
mod authorities;
mod external;
mod idle;
mod port;
mod tls;

pub(crate) use addresses::{Addresses, PortKey, Use, User, Uses};
pub(crate) use idle::report_idle;
pub(crate) use port::{Missing, Place, Port, wanted};

/// What an Ingress says about requests that it cannot serve.
const ANSWERED_503: &str = "requests are answered with 503";

/// Resolves the backends of one part, and collects the pools and endpoints that they need.
pub(crate) struct Backends<'a> {
    pub(crate) facts: Facts<'a>,
    memory: &'a mut Memory,
    pub(crate) pools: BTreeMap<PoolName, Arc<Pool>>,
    /// The endpoints that are needed, and by whom.
    pub(crate) uses: Uses,
    pub(crate) needs: Needs,
    /// Pools that cannot be used because what verifies their certificates is missing.
    closed: BTreeMap<PoolName, Refusal>,
    /// The pools that the Ingress has for itself.
    owned: BTreeSet<PoolName>,
    /// Whether the Ingress has a TLS backend.
    has_tls: bool,
}

impl<'a> Backends<'a> {
    pub(crate) fn new(facts: Facts<'a>, memory: &'a mut Memory) -> Self {
        Self {
            facts,
            memory,
            pools: BTreeMap::new(),
            uses: Uses::new(),
            needs: Needs::default(),
            closed: BTreeMap::new(),
            owned: BTreeSet::new(),
            has_tls: false,
        }
    }

    /// The port of a Service, by name or number.
    pub(crate) fn port(&mut self, key: &Key, wanted: &PortRef, protocol: L4Protocol) -> Result<Port, Missing> {
        self.needs.services.insert(key.clone());
        let found = self.facts.port(key, wanted, protocol);
        if matches!(found, Err(Missing::Service)) {
            self.needs.names.insert(Arc::clone(&key.namespace));
        }
        found
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
        let Some(wanted) = wanted(backend) else {
            let message = format!("{field}.service.port: names no port; give its name or its number");
            reports.add(&ingress.object, ReportReason::BackendPortNotFound, message);
            return Action::Refuse(Refusal::BackendPortNotFound(key.to_string().into()));
        };
        match self.port(&key, &wanted, L4Protocol::Tcp) {
            Ok(port) => self.pool(ingress, &key, &port, reports),
            Err(missing) => {
                let place = Place {
                    name: &format!("{field}.service.name"),
                    port: &format!("{field}.service.port"),
                    outcome: ANSWERED_503,
                };
                let (reason, refusal, message) = missing.explain(&place, &key, &wanted, self.facts.world);
                reports.add(&ingress.object, reason, message);
                Action::Refuse(refusal)
            }
        }
    }

    fn pool(&mut self, ingress: &Served<'_>, key: &Key, port: &Port, reports: &mut Reports) -> Action {
        let protocol = protocol(key, port, reports);
        let has = |names: &[&str]| names.iter().any(|name| ingress.settings.has(name));
        let own_tls = is_tls(protocol) && has(&[BACKEND_CA_SECRET, BACKEND_SERVER_NAME]);
        let owners = Owners {
            pool: (own_tls || has(OF_POOLS)).then_some(ingress),
            tls: own_tls.then_some(ingress),
        };
        let suffix = owners
            .pool
            .map(|ingress| format!("@{}", ingress.key.name))
            .unwrap_or_default();
        let name = PoolName::new(format!("{key}:{}{suffix}", port.label));
        if owners.pool.is_some() {
            self.owned.insert(name.clone());
        }
        if is_tls(protocol) {
            self.has_tls = true;
        }
        if !self.pools.contains_key(&name) && !self.closed.contains_key(&name) {
            match self.new_pool(&owners, key, port, protocol, reports) {
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
        self.add_endpoints(key, port, User::Ingress(ingress.key.clone()));
        Action::Forward(name)
    }

    /// A pool of one Ingress, or of all; refused where its certificates cannot be verified as asked.
    fn new_pool(
        &mut self,
        owners: &Owners<'_, '_>,
        key: &Key,
        port: &Port,
        protocol: BackendProtocol,
        reports: &mut Reports,
    ) -> Result<Pool, Refusal> {
        let tls = if is_tls(protocol) {
            self.tls(owners.tls, key, port, reports)
        } else {
            Ok(BackendTls::default())
        };
        let settings = Merged {
            ingress: owners.pool.map(|owner| &owner.settings),
            service: self.facts.services.get(key),
        };
        Ok(Pool {
            service: service_object(key),
            port: port.number,
            endpoints: port.endpoints(key),
            protocol,
            tls: tls?,
            policy: settings.pool_policy(self.facts.spec(key)),
        })
    }
}

/// The Ingress whose settings a pool has; none: those of the Service alone.
struct Owners<'s, 'a> {
    pool: Option<&'s Served<'a>>,
    tls: Option<&'s Served<'a>>,
}

pub(crate) fn service_object(key: &Key) -> ObjectRef {
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

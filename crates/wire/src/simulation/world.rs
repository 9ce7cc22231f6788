//! A cluster that changes at random, always whole: what is named is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{
    Action, BackendProtocol, BackendTls, Certificate, CertificateName, Delta, Endpoint, Endpoints, EndpointsName,
    GroupName, HostPattern, Kind, L4Protocol, L4Service, L4ServiceName, NormalPath, ObjectRef, Passthrough, PathMatch,
    Pool, PoolName, PoolPolicy, PrivateKeyDer, Resources, RouteGroup, RoutePolicy, Rule, RulePosition, TrafficPolicy,
};

use crate::key::{ResourceKey, ResourceKind};

const SERVICES: usize = 8;
const INGRESSES: usize = 6;

/// What marks a resource that the proxy does not take: a port, a weight, or a time that is no better than any other.
pub(super) const POISON: u16 = 666;

/// A cluster.
pub(super) struct World {
    /// Which Services each Ingress sends to.
    ingresses: BTreeMap<usize, Vec<usize>>,
    /// How many endpoints each Service has.
    services: [u8; SERVICES],
    /// Some settings of each Service.
    ports: [u16; SERVICES],
    /// Which Ingresses are poisoned.
    poisoned: BTreeSet<usize>,
    certificates: BTreeMap<usize, u8>,
    /// Which Services have a port at layer 4, and with which certificate.
    l4: BTreeMap<usize, Option<usize>>,
    /// Resources that arrive unreadable.
    pub(super) garbled: BTreeSet<ResourceKey>,
    /// What the controllers compile of it.
    pub(super) resources: Resources,
}

impl World {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let mut world = Self {
            ingresses: BTreeMap::new(),
            services: [1; SERVICES],
            ports: [80; SERVICES],
            poisoned: BTreeSet::new(),
            certificates: BTreeMap::new(),
            l4: BTreeMap::new(),
            garbled: BTreeSet::new(),
            resources: Resources::default(),
        };
        for _ in 0..rng.usize(0..20) {
            world.change(rng);
        }
        world
    }

    /// Changes something, and says what that changes of the resources.
    pub(super) fn change(&mut self, rng: &mut fastrand::Rng) -> Delta {
        let old_garbled = self.garbled.clone();
        match rng.u32(0..100) {
            // Endpoints change most.
            0..40 => self.services[rng.usize(0..SERVICES)] = rng.u8(0..5),
            40..65 => {
                let count = rng.usize(1..4);
                let services = (0..count).map(|_| rng.usize(0..SERVICES)).collect();
                self.ingresses.insert(rng.usize(0..INGRESSES), services);
            }
            65..72 => drop(self.ingresses.remove(&rng.usize(0..INGRESSES))),
            72..77 => self.ports[rng.usize(0..SERVICES)] = *rng.choice(&[80, 81, POISON]).expect("some"),
            77..82 => toggle(&mut self.poisoned, rng.usize(0..INGRESSES)),
            82..87 => drop(self.certificates.insert(rng.usize(0..3), rng.u8(0..4))),
            87..90 => self.drop_certificate(rng.usize(0..3)),
            90..94 => {
                let certificate = self.certificates.keys().next().copied().filter(|_| rng.bool());
                self.l4.insert(rng.usize(0..SERVICES), certificate);
            }
            94..96 => drop(self.l4.remove(&rng.usize(0..SERVICES))),
            _ => toggle(&mut self.garbled, any_key(rng)),
        }
        let new = self.compile();
        let mut delta = Delta::between(&self.resources, &new);
        // A resource that gets unreadable, or readable again, changes too.
        for key in old_garbled.symmetric_difference(&self.garbled) {
            if let Some(value) = crate::value::find(&new, key) {
                crate::value::put(&mut delta, key, Some(&value));
            }
        }
        self.resources = new;
        delta
    }

    fn drop_certificate(&mut self, number: usize) {
        self.certificates.remove(&number);
        for certificate in self.l4.values_mut() {
            certificate.take_if(|certificate| *certificate == number);
        }
    }

    fn compile(&self) -> Resources {
        let mut resources = Resources::default();
        for (number, services) in &self.ingresses {
            let name = GroupName::new(format!("ingress-{number}"));
            resources
                .groups
                .insert(name.clone(), Arc::new(self.group(*number, services)));
            for service in services {
                self.add_pool(&mut resources, *service);
            }
            if number % 3 == 0 {
                self.add_endpoints(&mut resources, services[0]);
                resources
                    .passthrough
                    .insert(name, Arc::new(passthrough(*number, services[0])));
            }
        }
        for (number, byte) in &self.certificates {
            let name = CertificateName::new(format!("certificate-{number}"));
            resources.certificates.insert(name, Arc::new(certificate(*byte)));
        }
        for (service, tls) in &self.l4 {
            self.add_endpoints(&mut resources, *service);
            let name = L4ServiceName::new(format!("l4-{service}"));
            resources.l4.insert(name, Arc::new(l4(*service, *tls)));
        }
        resources
    }

    fn group(&self, number: usize, services: &[usize]) -> RouteGroup {
        let rule = |(index, service): (usize, &usize)| Rule {
            path: PathMatch::Prefix(NormalPath::parse_rule(&format!("/{index}")).expect("a path")),
            action: Action::Forward(PoolName::new(pool_name(*service))),
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        };
        let time = if self.poisoned.contains(&number) { POISON } else { 1 };
        RouteGroup {
            source: ObjectRef::new(Kind::Ingress, "default", format!("ingress-{number}")),
            created_unix_s: Some(time.into()),
            host: HostPattern::parse("a.test").expect("a host"),
            rules: services.iter().enumerate().map(rule).collect(),
            default_backend: None,
            redirect_https: false,
        }
    }

    fn add_pool(&self, resources: &mut Resources, service: usize) {
        let pool = Pool {
            service: ObjectRef::new(Kind::Service, "default", format!("service-{service}")),
            port: self.ports[service],
            endpoints: EndpointsName::new(format!("service-{service}")),
            protocol: BackendProtocol::Http1,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        resources
            .pools
            .insert(PoolName::new(pool_name(service)), Arc::new(pool));
        self.add_endpoints(resources, service);
    }

    fn add_endpoints(&self, resources: &mut Resources, service: usize) {
        let list = (0..self.services[service]).map(|last| Endpoint::new(([10, 0, 0, last], 80).into()));
        let name = EndpointsName::new(format!("service-{service}"));
        resources
            .endpoints
            .insert(name, Arc::new(Endpoints::new(list.collect())));
    }
}

fn pool_name(service: usize) -> String {
    format!("service-{service}:80")
}

fn any_key(rng: &mut fastrand::Rng) -> ResourceKey {
    let service = rng.usize(0..SERVICES);
    match rng.u32(0..4) {
        0 => ResourceKey::new(ResourceKind::Endpoints, format!("service-{service}")),
        1 => ResourceKey::new(ResourceKind::Pool, pool_name(service)),
        2 => ResourceKey::new(ResourceKind::Certificate, format!("certificate-{}", service % 3)),
        _ => ResourceKey::new(ResourceKind::RouteGroup, format!("ingress-{}", service % INGRESSES)),
    }
}

fn toggle<T: Ord>(set: &mut BTreeSet<T>, value: T) {
    if !set.remove(&value) {
        set.insert(value);
    }
}

fn certificate(byte: u8) -> Certificate {
    Certificate {
        hosts: vec![HostPattern::Any],
        not_for: Vec::new(),
        chain_der: vec![vec![byte; 3]].into(),
        key: PrivateKeyDer::new(vec![byte; 5]),
        not_after_unix_s: 1_800_000_000,
        rank: byte.into(),
    }
}

fn passthrough(number: usize, service: usize) -> Passthrough {
    Passthrough {
        source: ObjectRef::new(Kind::Ingress, "default", format!("ingress-{number}")),
        service: ObjectRef::new(Kind::Service, "default", format!("service-{service}")),
        created_unix_s: None,
        host: HostPattern::parse("tls.test").expect("a host"),
        not_for: Vec::new(),
        endpoints: EndpointsName::new(format!("service-{service}")),
        policy: PoolPolicy::default(),
        send_proxy: None,
        connect_timeout: std::time::Duration::from_secs(1),
        idle_timeout: std::time::Duration::from_secs(1),
    }
}

fn l4(service: usize, tls: Option<usize>) -> L4Service {
    L4Service {
        source: ObjectRef::new(Kind::Service, "default", format!("service-{service}")),
        service: ObjectRef::new(Kind::Service, "default", format!("service-{service}")),
        created_unix_s: None,
        addresses: vec![[0, 0, 0, 0].into()],
        port: 1,
        protocol: L4Protocol::Tcp,
        endpoints: EndpointsName::new(format!("service-{service}")),
        policy: PoolPolicy::default(),
        source_ranges: None,
        traffic_policy: TrafficPolicy::Cluster,
        send_proxy: None,
        accept_proxy: false,
        tls: tls.map(|tls| CertificateName::new(format!("certificate-{tls}"))),
        connect_timeout: std::time::Duration::from_secs(1),
        idle_timeout: std::time::Duration::from_secs(1),
    }
}

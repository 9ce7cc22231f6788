//! Resources for tests.

use std::sync::Arc;

use propylon_model::{
    Action, BackendProtocol, BackendTls, Certificate, CertificateName, Delta, Endpoint, Endpoints, EndpointsName,
    GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch, Pool, PoolName, PoolPolicy, PrivateKeyDer,
    RouteGroup, RoutePolicy, Rule, RulePosition,
};
use propylon_wire::ProxyIdentity;

pub(crate) fn proxy(pod: &str) -> ProxyIdentity {
    ProxyIdentity::from_uri(&format!("propylon://propylon/{pod}/node-1/uid-{pod}")).expect("a proxy")
}

pub(crate) fn endpoints(count: u8) -> Endpoints {
    let list = (0..count).map(|last| Endpoint::new(([10, 0, 0, last], 8080).into()));
    Endpoints::new(list.collect())
}

pub(crate) fn pool(endpoints: &str) -> Pool {
    Pool {
        service: ObjectRef::new(Kind::Service, "shop", "web"),
        port: 80,
        endpoints: EndpointsName::new(endpoints),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        policy: PoolPolicy::default(),
    }
}

pub(crate) fn group(pools: &[&str]) -> RouteGroup {
    let rule = |(index, pool): (usize, &&str)| Rule {
        path: PathMatch::Prefix(NormalPath::parse_rule(&format!("/{index}")).expect("a path")),
        action: Action::Forward(PoolName::new(*pool)),
        policy: RoutePolicy::default(),
        position: RulePosition::new(0, index),
    };
    RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "shop", "web"),
        created_unix_s: Some(1_700_000_000),
        host: HostPattern::parse("shop.example.com").expect("a host"),
        rules: pools.iter().enumerate().map(rule).collect(),
        default_backend: None,
        redirect_https: true,
    }
}

pub(crate) fn certificate(key: &[u8]) -> Certificate {
    Certificate {
        hosts: vec![HostPattern::parse("*.example.com").expect("a host")],
        not_for: Vec::new(),
        chain_der: vec![vec![1, 2, 3], vec![4]].into(),
        key: PrivateKeyDer::new(key.to_vec()),
        not_after_unix_s: 1_800_000_000,
        rank: 0,
    }
}

/// A world of so many Ingresses with a host, a pool and endpoints each, and one certificate.
pub(crate) fn world(ingresses: usize, endpoints_each: u8) -> Delta {
    let mut delta = Delta::default();
    for number in 0..ingresses {
        let service = format!("shop/web-{number}:80");
        let (name, list) = (EndpointsName::new(service.as_str()), endpoints(endpoints_each));
        delta.endpoints.insert(name, Some(Arc::new(list)));
        let name = PoolName::new(service.as_str());
        delta.pools.insert(name, Some(Arc::new(pool(&service))));
        let name = GroupName::new(format!("shop/web-{number}/host-{number}.example.com"));
        delta.groups.insert(name, Some(Arc::new(group(&[&service]))));
    }
    let name = CertificateName::new("shop/tls");
    delta
        .certificates
        .insert(name, Some(Arc::new(certificate(b"secret key"))));
    delta
}

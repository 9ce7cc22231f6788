//! A proxy in this process, fed with resources made by hand.

use std::{net::SocketAddr, sync::Arc};

use clap::Parser;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Delta, Endpoint, Endpoints, EndpointsName, GroupName, HostPattern, Kind,
    NormalPath, ObjectRef, PathMatch, Pool, PoolName, PoolPolicy, Resources, RouteGroup, RoutePolicy, Rule,
    RulePosition,
};
use propylon_proxy::{ProxyHandle, config::DataPlaneArgs};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Command {
    #[command(flatten)]
    args: DataPlaneArgs,
}

/// Starts a proxy on free loopback ports.
pub(crate) fn start(flags: &[&str]) -> ProxyHandle {
    let fixed = [
        "test",
        "--http",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--access-log",
        "off",
        "--workers",
        "2",
    ];
    let config = Command::parse_from(fixed.iter().chain(flags))
        .args
        .into_config(20_000)
        .expect("valid flags");
    propylon_proxy::start(config).expect("the proxy starts")
}

/// Resources: each host has one Prefix rule to a Service of its own name.
#[derive(Default)]
pub(crate) struct Builder(Resources);

impl Builder {
    pub(crate) fn host(self, host: &str, endpoints: &[SocketAddr]) -> Self {
        self.host_with(host, endpoints, BackendProtocol::Http1)
    }

    pub(crate) fn host_with(mut self, host: &str, endpoints: &[SocketAddr], protocol: BackendProtocol) -> Self {
        let service = host.replace('.', "-");
        let pool = PoolName::new(format!("default/{service}:80"));
        let name = EndpointsName::new(format!("default/{service}:80"));
        let rule = Rule {
            path: PathMatch::Prefix(NormalPath::parse_rule("/").expect("a path")),
            action: Action::Forward(pool.clone()),
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        };
        let group = RouteGroup {
            source: ObjectRef::new(Kind::Ingress, "default", host),
            created_unix_s: None,
            host: HostPattern::parse(host).expect("a host"),
            rules: vec![rule],
            default_backend: None,
            redirect_https: false,
        };
        let spec = Pool {
            service: ObjectRef::new(Kind::Service, "default", service.as_str()),
            port: 80,
            endpoints: name.clone(),
            protocol,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        let list = endpoints.iter().map(|address| Endpoint::new(*address)).collect();
        self.0
            .groups
            .insert(GroupName::new(format!("default/{host}/{host}")), Arc::new(group));
        self.0.pools.insert(pool, Arc::new(spec));
        self.0.endpoints.insert(name, Arc::new(Endpoints::new(list)));
        self
    }

    pub(crate) fn build(self) -> Resources {
        self.0
    }
}

/// The delta from nothing.
pub(crate) fn everything(resources: &Resources) -> Delta {
    Delta::between(&Resources::default(), resources)
}

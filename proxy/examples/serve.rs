//! A proxy with `HOSTS` hosts in front of one endpoint, for profiles: `serve LISTEN ENDPOINT HOSTS [flags of the data plane]`.

use std::{net::SocketAddr, sync::Arc};

use clap::Parser;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Delta, Endpoint, Endpoints, EndpointsName, GroupName, HostPattern, Kind,
    NormalPath, ObjectRef, PathMatch, Pool, PoolName, Resources, RouteGroup, RoutePolicy, Rule,
};
use propylon_proxy::config::DataPlaneArgs;

#[derive(Parser)]
struct Command {
    endpoint: SocketAddr,
    hosts: usize,
    #[command(flatten)]
    args: DataPlaneArgs,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let command = Command::parse();
    let proxy = propylon_proxy::start(command.args.into_config(20_000)?)?;
    let mut resources = Resources::default();
    for index in 0..command.hosts {
        add(&mut resources, index, command.endpoint)?;
    }
    proxy.apply(&Delta::between(&Resources::default(), &resources));
    loop {
        std::thread::park();
    }
}

fn add(resources: &mut Resources, index: usize, endpoint: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let (pool, endpoints) = (
        PoolName::new(format!("default/web-{index}:80")),
        EndpointsName::new(format!("default/web-{index}:80")),
    );
    let rule = Rule {
        path: PathMatch::Prefix(NormalPath::parse_rule("/")?),
        action: Action::Forward(pool.clone()),
        policy: RoutePolicy::default(),
    };
    let host = format!("app{index}.example.com");
    let group = RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", format!("web-{index}")),
        created_unix_s: None,
        host: HostPattern::parse(&host)?,
        rules: vec![rule],
        default_backend: None,
        redirect_https: false,
    };
    let spec = Pool {
        service: ObjectRef::new(Kind::Service, "default", format!("web-{index}")),
        port: 80,
        endpoints: endpoints.clone(),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
    };
    let list = Endpoints {
        endpoints: vec![Endpoint {
            address: endpoint,
            pod: None,
            node: None,
        }],
    };
    resources
        .groups
        .insert(GroupName::new(format!("default/web-{index}/{host}")), Arc::new(group));
    resources.pools.insert(pool, Arc::new(spec));
    resources.endpoints.insert(endpoints, Arc::new(list));
    Ok(())
}

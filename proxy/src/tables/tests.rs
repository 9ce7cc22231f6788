use std::sync::Arc;

use propylon_kit::metrics::RegistryConfig;
use propylon_model::{
    BackendProtocol, BackendTls, Endpoint, Endpoints, GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch,
    PoolPolicy, RoutePolicy, Rule, RulePosition, path::RequestPath,
};
use propylon_routing::Found;

use super::*;
use crate::{reason::Reason, spine::RETRY_REASONS};

/// An Ingress that leads to a Service with one endpoint.
fn resources(service: &str) -> Resources {
    let mut resources = Resources::default();
    let endpoints = EndpointsName::new(format!("default/{service}:80"));
    let pool = PoolName::new(format!("default/{service}:80"));
    let endpoint = Endpoint::new(([10, 0, 0, 1], 8080).into());
    let rule = Rule {
        path: PathMatch::Prefix(NormalPath::parse_rule("/").unwrap()),
        action: Action::Forward(pool.clone()),
        policy: RoutePolicy::default(),
        position: RulePosition::default(),
    };
    let group = RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", "web"),
        created_unix_s: None,
        host: HostPattern::Any,
        rules: vec![rule],
        default_backend: None,
        redirect_https: false,
    };
    resources.groups.insert(GroupName::new("default/web/"), Arc::new(group));
    let service = ObjectRef::new(Kind::Service, "default", service);
    let spec = Pool {
        service,
        port: 80,
        endpoints: endpoints.clone(),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        policy: PoolPolicy::default(),
    };
    resources.pools.insert(pool, Arc::new(spec));
    let list = Endpoints::new(vec![endpoint]);
    resources.endpoints.insert(endpoints, Arc::new(list));
    resources
}

fn applier() -> Applier {
    let registry = Registry::new(RegistryConfig {
        reasons: Reason::CODES,
        retry_reasons: RETRY_REASONS,
        max_routes: 10,
    });
    Applier::new(Arc::new(registry), TlsContext::new(0).unwrap(), 1)
}

/// How many endpoints a request finds that pinned the table.
fn endpoints_in(tables: &Tables) -> usize {
    match tables.routes.find("", &RequestPath::parse("/").unwrap()) {
        Found::Route(route) => {
            let pool = route.target.pool.as_ref().unwrap();
            pool.endpoints.current.load().endpoints.len()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_on_the_table_before_still_finds_its_endpoints() {
    let (before, after) = (resources("a"), resources("b"));
    let mut applier = applier();
    applier.apply(&Delta::between(&Resources::default(), &before));
    let pinned = applier.live().tables.load_full();
    applier.apply(&Delta::between(&before, &after));
    assert_eq!(endpoints_in(&pinned), 1);
    assert_eq!(endpoints_in(&applier.live().tables.load()), 1);
}

#[test]
fn a_pool_that_stays_loses_its_endpoints_and_gets_new_ones() {
    let full = resources("a");
    let mut empty = full.clone();
    empty.endpoints.clear();
    let mut applier = applier();
    applier.apply(&Delta::between(&Resources::default(), &full));
    let count = |applier: &Applier| endpoints_in(&applier.live().tables.load());
    applier.apply(&Delta::between(&full, &empty));
    assert_eq!(count(&applier), 0);
    applier.apply(&Delta::between(&empty, &full));
    assert_eq!(count(&applier), 1);
}

use std::time::Duration;

use propylon_model::{Endpoints, Kind, ObjectRef, PoolPolicy, Probe};

use super::*;

type Handles = HashMap<EndpointsName, Arc<EndpointsHandle>>;

fn name() -> EndpointsName {
    EndpointsName::new("default/web:80")
}

fn pool(check: Option<HealthCheck>) -> Arc<Pool> {
    Arc::new(Pool {
        service: ObjectRef::new(Kind::Service, "default", "web"),
        port: 80,
        endpoints: name(),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        policy: PoolPolicy {
            health_check: check,
            ..PoolPolicy::default()
        },
    })
}

fn external(host: &str) -> Arc<Endpoints> {
    Arc::new(Endpoints {
        external: Some(ExternalName {
            host: host.into(),
            port: 80,
            allow_local: true,
        }),
        ..Endpoints::default()
    })
}

fn apply(ledger: &mut Ledger, resources: &mut Resources, handles: &Handles, delta: &Delta) -> Arc<Duties> {
    resources.apply(delta);
    ledger.apply(delta, resources, handles);
    let duties = ledger.subscribe();
    let duties = duties.borrow();
    Arc::clone(&duties)
}

fn pools(changes: &[(&str, Option<Arc<Pool>>)]) -> Delta {
    Delta {
        pools: changes
            .iter()
            .map(|(name, pool)| (PoolName::new(*name), pool.clone()))
            .collect(),
        ..Delta::default()
    }
}

fn endpoints(list: Option<Arc<Endpoints>>) -> Delta {
    Delta {
        endpoints: [(name(), list)].into(),
        ..Delta::default()
    }
}

#[test]
fn equal_checks_of_two_pools_are_one_and_go_with_the_last() {
    let (mut ledger, mut resources) = (Ledger::new(), Resources::default());
    let handles: Handles = [(name(), Arc::default())].into();
    let check = HealthCheck::new(Probe::Tcp);
    let other = HealthCheck {
        interval: Duration::from_secs(3),
        ..check.clone()
    };
    let both = pools(&[("a", Some(pool(Some(check.clone())))), ("b", Some(pool(Some(check))))]);
    let duties = apply(&mut ledger, &mut resources, &handles, &both);
    assert_eq!(duties.checks[&name()].checks.len(), 1);
    let duties = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &pools(&[("b", Some(pool(Some(other))))]),
    );
    assert_eq!(duties.checks[&name()].checks.len(), 2);
    let duties = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &pools(&[("a", None), ("b", Some(pool(None)))]),
    );
    assert!(duties.checks.is_empty());
}

#[test]
fn a_change_of_something_else_leaves_the_duties_as_they_are() {
    let (mut ledger, mut resources) = (Ledger::new(), Resources::default());
    let handles: Handles = [(name(), Arc::default())].into();
    let before = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &endpoints(Some(external("a.example"))),
    );
    let claim = before.names[&name()].claim;
    let after = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &pools(&[("a", Some(pool(None)))]),
    );
    assert!(Arc::ptr_eq(&before, &after));
    let after = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &endpoints(Some(external("a.example"))),
    );
    assert_eq!(after.names[&name()].claim, claim);
    let after = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &endpoints(Some(external("b.example"))),
    );
    assert!(after.names[&name()].claim > claim);
    let after = apply(&mut ledger, &mut resources, &handles, &endpoints(None));
    assert!(after.names.is_empty());
}

#[test]
fn the_host_of_a_check_follows_the_external_name() {
    let (mut ledger, mut resources) = (Ledger::new(), Resources::default());
    let handles: Handles = [(name(), Arc::default())].into();
    let check = HealthCheck::new(Probe::Http("/".into()));
    apply(
        &mut ledger,
        &mut resources,
        &handles,
        &pools(&[("a", Some(pool(Some(check))))]),
    );
    let duties = apply(
        &mut ledger,
        &mut resources,
        &handles,
        &endpoints(Some(external("a.example"))),
    );
    assert_eq!(duties.checks[&name()].checks[0].host.as_deref(), Some("a.example"));
}

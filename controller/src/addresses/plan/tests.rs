//! Cases; `churn` has the properties.

mod churn;

use serde_json::{Value, json};

use super::*;
use crate::addresses::{
    facts::{FINALIZER, Present},
    write::{Write, writes},
};

#[expect(clippy::needless_pass_by_value, reason = "json!() is written where it is passed")]
fn pool(name: &str, spec: Value) -> Pool {
    let object = json!({"apiVersion": "propylon.dev/v1alpha1", "kind": "IPAddressPool", "metadata": {"name": name}, "spec": spec});
    Pool::read(&serde_json::from_value(object).unwrap())
}

#[expect(clippy::needless_pass_by_value, reason = "json!() is written where it is passed")]
fn service(name: &str, annotations: Value, spec: Value) -> ServiceFacts {
    let mut object = json!({
        "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                 "ports": [{"port": 9000, "protocol": "TCP"}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    ServiceFacts::read(&serde_json::from_value(object).unwrap())
}

fn kernel(name: &str) -> ServiceFacts {
    service(name, json!({"propylon.dev/lb-path": "kernel"}), json!({}))
}

fn proxied(name: &str, port: u16) -> ServiceFacts {
    service(name, json!({}), json!({"ports": [{"port": port, "protocol": "TCP"}]}))
}

fn node(name: &str, address: &str, is_ready: bool) -> NodeFacts {
    let address: IpAddr = address.parse().unwrap();
    NodeFacts {
        name: name.to_owned(),
        addresses: [address].into(),
        published: [address].into(),
        is_ready,
    }
}

#[derive(Clone, Debug)]
struct World {
    pools: Vec<Pool>,
    services: Vec<ServiceFacts>,
    nodes: Vec<NodeFacts>,
    namespaces: NamespaceLabels,
    settings: Settings,
}

impl World {
    fn new(pools: Vec<Pool>, services: Vec<ServiceFacts>) -> Self {
        Self {
            pools,
            services,
            nodes: Vec::new(),
            namespaces: NamespaceLabels::new(),
            settings: Settings {
                serve_classless: true,
                default_path: Path::Proxy,
                node_address_ports: vec![1024..=29999],
                own_service: None,
            },
        }
    }

    fn plan(&self) -> Plan {
        plan(&Input {
            pools: &self.pools,
            services: &self.services,
            nodes: &self.nodes,
            namespaces: &self.namespaces,
            settings: &self.settings,
        })
    }

    fn service(&mut self, name: &str) -> &mut ServiceFacts {
        self.services
            .iter_mut()
            .find(|service| &*service.key.name == name)
            .unwrap()
    }

    /// Writes what a plan says of the Services that are chosen, as the shell does.
    fn write(&mut self, plan: &Plan, is_chosen: impl Fn(usize) -> bool) -> usize {
        let mut count = 0;
        for (index, service) in self.services.iter_mut().enumerate() {
            let Some(decision) = plan.services.get(&service.key) else {
                continue;
            };
            if is_chosen(index) {
                let writes = writes(service, decision);
                count += writes.len();
                for write in &writes {
                    merge(service, write);
                }
            }
        }
        count
    }

    /// Plans and writes until nothing changes; the last plan.
    fn settle(&mut self) -> Plan {
        for _ in 0..6 {
            let plan = self.plan();
            if self.write(&plan, |_| true) == 0 {
                return plan;
            }
        }
        panic!("it does not come to rest: {self:?}");
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        let service = self.services.iter().find(|service| &*service.key.name == name).unwrap();
        service
            .present
            .iter()
            .map(|present| present.address.to_string())
            .collect()
    }
}

/// What the API server makes of a patch, by way of the object's JSON.
fn merge(service: &mut ServiceFacts, write: &Write) {
    match write {
        Write::Object(patch) => {
            if let Some(finalizers) = patch["metadata"]["finalizers"].as_array() {
                service.finalizers = finalizers
                    .iter()
                    .map(|name| name.as_str().unwrap().to_owned())
                    .collect();
            }
            if let Some(path) = patch["metadata"]["annotations"].get("propylon.dev/lb-path") {
                service.path = path.as_str().and_then(Path::parse);
            }
        }
        Write::Status(patch) => {
            let object = serde_json::from_value(json!({"metadata": {}, "status": patch["status"]})).unwrap();
            service.present = ServiceFacts::read(&object).present;
            service.has_host_name = false;
        }
    }
}

fn problems(plan: &Plan, name: &str) -> Vec<String> {
    match plan.services.get(&Key::new("default", name)) {
        Some(Decision::Assign(assignment)) => assignment
            .problems
            .iter()
            .map(|problem| problem.message.clone())
            .collect(),
        Some(Decision::Foreign(problem)) => vec![problem.message.clone()],
        _ => Vec::new(),
    }
}

fn small() -> Pool {
    pool("small", json!({"addresses": ["192.0.2.10-192.0.2.11"]}))
}

#[test]
fn services_get_the_lowest_free_address_the_oldest_first() {
    let mut services = vec![kernel("a"), kernel("b"), kernel("c")];
    services[1].created_unix_s = Some(5);
    let mut world = World::new(vec![small()], services);
    let plan = world.settle();
    assert_eq!(world.addresses("b"), ["192.0.2.10"]);
    assert_eq!(world.addresses("a"), ["192.0.2.11"]);
    assert_eq!(world.addresses("c"), [""; 0]);
    assert!(
        problems(&plan, "c")[0].contains("no IPv4 address is free in IPAddressPool small"),
        "{:?}",
        problems(&plan, "c")
    );
    let report = &plan.pools["small"];
    assert!(report.exhausted.0 && report.ready.0);
    let counts = PoolCount {
        total: 2,
        assigned: 2,
        available: 0,
    };
    assert_eq!(report.counts, BTreeMap::from([(propylon_crds::Family::Ipv4, counts)]));
    // It is recorded and guarded by the finalizer.
    assert_eq!(world.service("a").path, Some(Path::Kernel));
    assert_eq!(world.service("a").finalizers, [FINALIZER]);
}

#[test]
fn a_freed_address_is_given_out_again_and_nobody_else_moves() {
    let mut world = World::new(vec![small()], vec![kernel("a"), kernel("b"), kernel("c")]);
    world.settle();
    world.service("a").is_deleting = true;
    let plan = world.plan();
    assert_eq!(plan.services[&Key::new("default", "a")], Decision::Release);
    assert!(!problems(&plan, "c").is_empty(), "not before it is gone");
    world.services.remove(0);
    world.settle();
    assert_eq!(
        (world.addresses("b"), world.addresses("c")),
        (vec!["192.0.2.11".to_owned()], vec!["192.0.2.10".to_owned()])
    );
}

#[test]
fn requests_are_met_exactly_or_not_at_all() {
    let ask = |name: &str, annotation: &str, value: &str| {
        service(
            name,
            json!({"propylon.dev/lb-path": "kernel", annotation: value}),
            json!({}),
        )
    };
    let pools = vec![
        small(),
        pool("manual", json!({"addresses": ["198.51.100.0/30"], "autoAssign": false})),
    ];
    let mut world = World::new(
        pools,
        vec![
            ask("ip", "metallb.io/loadBalancerIPs", "198.51.100.2"),
            ask("pool", "propylon.dev/address-pool", "manual"),
            ask("taken", "propylon.dev/load-balancer-ips", "198.51.100.2"),
            ask("nowhere", "propylon.dev/load-balancer-ips", "203.0.113.1"),
            ask("wrong", "propylon.dev/load-balancer-ips", "web"),
            ask("unknown", "metallb.universe.tf/address-pool", "none"),
        ],
    );
    let plan = world.settle();
    assert_eq!(world.addresses("ip"), ["198.51.100.2"]);
    assert_eq!(world.addresses("pool"), ["198.51.100.0"]);
    for (name, part) in [
        ("taken", "is the address of Service default/ip"),
        ("nowhere", "is in no IPAddressPool"),
        ("wrong", "'web' is no IP address"),
        ("unknown", "there is no IPAddressPool none"),
    ] {
        assert_eq!(world.addresses(name), [""; 0], "{name}");
        assert!(problems(&plan, name)[0].contains(part), "{:?}", problems(&plan, name));
    }
    // A request that can be met moves the Service; one that cannot leaves it where it is.
    world.service("pool").requested = Ok(vec!["198.51.100.3".parse().unwrap()]);
    world.service("ip").requested = Ok(vec!["203.0.113.9".parse().unwrap()]);
    let plan = world.settle();
    assert_eq!(
        (world.addresses("pool"), world.addresses("ip")),
        (vec!["198.51.100.3".to_owned()], vec!["198.51.100.2".to_owned()])
    );
    assert_eq!(problems(&plan, "ip").len(), 1);
}

#[test]
fn addresses_are_shared_by_key_with_ports_apart() {
    let share = |name: &str, port: u16, extra: Value| {
        let mut spec = json!({"ports": [{"port": port, "protocol": "TCP"}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        service(
            name,
            json!({"propylon.dev/lb-path": "kernel", "metallb.universe.tf/allow-shared-ip": "k"}),
            spec,
        )
    };
    let local = json!({"externalTrafficPolicy": "Local"});
    let mut world = World::new(
        vec![pool("p", json!({"addresses": ["192.0.2.0/29"]}))],
        vec![
            share("a", 80, json!({})),
            share("b", 443, json!({})),
            share("c", 443, json!({})),
            share("d", 8080, local),
            kernel("e"),
        ],
    );
    world.settle();
    assert_eq!(world.addresses("a"), world.addresses("b"));
    let all: BTreeSet<_> = ["a", "c", "d", "e"].map(|name| world.addresses(name)).into();
    assert_eq!(all.len(), 4, "{all:?}");
    // One that is being deleted does not push out the one that shares its address.
    world.service("a").is_deleting = true;
    let before = world.addresses("b");
    world.settle();
    assert_eq!(world.addresses("b"), before);
}

#[test]
fn families_follow_the_policy() {
    let dual = |name: &str, policy: &str| {
        let annotations = json!({"propylon.dev/lb-path": "kernel"});
        service(
            name,
            annotations,
            json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": policy}),
        )
    };
    let mut world = World::new(
        vec![small()],
        vec![dual("prefer", "PreferDualStack"), dual("require", "RequireDualStack")],
    );
    let plan = world.settle();
    assert_eq!(world.addresses("prefer"), ["192.0.2.10"]);
    assert_eq!(problems(&plan, "prefer"), [""; 0]);
    assert_eq!(world.addresses("require"), [""; 0]);
    assert!(
        problems(&plan, "require")[0].contains("no IPv6 address is free"),
        "{:?}",
        problems(&plan, "require")
    );
    world.pools.push(pool("six", json!({"addresses": ["2001:db8::/120"]})));
    world.settle();
    assert_eq!(world.addresses("prefer"), ["2001:db8::", "192.0.2.10"]);
    assert_eq!(world.addresses("require"), ["2001:db8::1", "192.0.2.11"]);
}

#[test]
fn what_others_wrote_stays_and_is_never_given_out() {
    let present = |address: &str| Present {
        address: address.parse().unwrap(),
        path: Path::Kernel,
        ports: BTreeMap::new(),
    };
    let mut cloud = service("cloud", json!({}), json!({}));
    cloud.has_host_name = true;
    let mut elsewhere = service("elsewhere", json!({"propylon.dev/address-pool": "small"}), json!({}));
    elsewhere.present = vec![present("203.0.113.7")];
    let mut other_class = service("other", json!({}), json!({"loadBalancerClass": "example.com/lb"}));
    other_class.present = vec![present("192.0.2.10")];
    let mut adopted = service("adopted", json!({}), json!({}));
    adopted.present = vec![present("192.0.2.11")];
    let mut world = World::new(
        vec![small()],
        vec![cloud, elsewhere, other_class, adopted, kernel("new")],
    );
    let before = world.services.clone();
    let plan = world.settle();
    assert_eq!(world.services[..3], before[..3]);
    assert!(problems(&plan, "elsewhere")[0].contains("203.0.113.7, which no IPAddressPool has"));
    assert!(problems(&plan, "cloud").is_empty(), "it asks us for nothing");
    assert_eq!(world.addresses("adopted"), ["192.0.2.11"]);
    assert_eq!(world.service("adopted").path, Some(Path::Kernel), "recorded as it is");
    assert_eq!(world.addresses("new"), [""; 0], "both are in use");
}

#[test]
fn a_pool_that_changes_or_goes_moves_nobody() {
    let mut world = World::new(vec![small()], vec![kernel("a"), kernel("b")]);
    world.settle();
    let before = world.services.clone();
    world.pools[0].drain = true;
    let plan = world.settle();
    assert_eq!(world.services, before);
    assert_eq!(plan.pools["small"].ready.1, propylon_crds::PoolReason::Draining);
    world.pools = vec![pool("next", json!({"addresses": ["198.51.100.0/24"]}))];
    let plan = world.settle();
    assert_eq!(world.services, before);
    assert!(
        problems(&plan, "a")[0].contains("no IPAddressPool has 192.0.2.10 any more"),
        "{:?}",
        problems(&plan, "a")
    );
    world.service("a").pool = Some("next".to_owned());
    world.settle();
    assert_eq!(world.addresses("a"), ["198.51.100.0"]);
}

#[test]
fn pools_are_chosen_by_selector_and_priority() {
    let mut world = World::new(
        vec![
            pool("low", json!({"addresses": ["192.0.2.0/24"], "avoidBuggyIPs": true})),
            pool(
                "high",
                json!({"addresses": ["198.51.100.0/24"], "priority": 5, "serviceSelector": {"names": ["b"]}}),
            ),
            pool(
                "team",
                json!({"addresses": ["203.0.113.0/24"], "priority": 9, "namespaceSelector": {"matchLabels": {"team": "x"}}}),
            ),
        ],
        vec![kernel("a"), kernel("b")],
    );
    world.settle();
    assert_eq!(
        (world.addresses("a"), world.addresses("b")),
        (vec!["192.0.2.1".to_owned()], vec!["198.51.100.0".to_owned()])
    );
    world
        .namespaces
        .insert("default".to_owned(), [("team".to_owned(), "x".to_owned())].into());
    world.services.push(kernel("c"));
    world.settle();
    assert_eq!(world.addresses("c"), ["203.0.113.0"]);
    assert_eq!(world.addresses("a"), ["192.0.2.1"]);
}

#[test]
fn of_two_pools_that_overlap_the_older_is_used() {
    let mut older = pool("z", json!({"addresses": ["192.0.2.0/30"]}));
    older.created_unix_s = Some(1);
    let newer = pool("a", json!({"addresses": ["192.0.2.3-192.0.2.9"], "priority": 9}));
    let mut world = World::new(vec![newer, older], vec![kernel("a")]);
    let plan = world.settle();
    assert_eq!(world.addresses("a"), ["192.0.2.0"]);
    assert_eq!(plan.pools["a"].ready.1, propylon_crds::PoolReason::Overlap);
    assert!(plan.pools["z"].ready.0);
}

fn on_nodes(services: Vec<ServiceFacts>) -> World {
    let mut world = World::new(vec![pool("nodes", json!({"nodeAddresses": true}))], services);
    world.nodes = vec![
        node("n1", "10.0.0.1", true),
        node("n2", "10.0.0.2", true),
        node("n3", "10.0.0.3", false),
    ];
    world
}

#[test]
fn the_proxies_path_has_the_addresses_of_nodes_with_a_ready_proxy() {
    let mut world = on_nodes(vec![proxied("a", 5432)]);
    world.settle();
    assert_eq!(world.addresses("a"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(world.service("a").path, Some(Path::Proxy), "decided once");
    assert!(
        world
            .service("a")
            .present
            .iter()
            .all(|present| present.path == Path::Proxy)
    );
    // An agent that announces from now on moves nobody.
    world.settings.default_path = Path::Kernel;
    world.nodes[0].is_ready = false;
    world.nodes[2].is_ready = true;
    world.settle();
    assert_eq!(world.addresses("a"), ["10.0.0.2", "10.0.0.3"]);
    // Nor does the loss of the annotation, or of every proxy.
    world.service("a").path = None;
    world.service("a").class = Class::Ours(Path::Proxy);
    world.nodes.iter_mut().for_each(|node| node.is_ready = false);
    world.settle();
    assert_eq!(world.addresses("a"), ["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn a_port_on_the_nodes_is_one_services_and_never_a_forbidden_one() {
    let mut world = on_nodes(vec![proxied("z", 5432), proxied("low", 443), proxied("late", 5432)]);
    world.services[0].created_unix_s = Some(1);
    let plan = world.settle();
    assert_eq!(world.addresses("z").len(), 2);
    assert_eq!(world.addresses("low"), [""; 0]);
    assert!(
        problems(&plan, "low")[0].contains("443/TCP is not one of the ports"),
        "{:?}",
        problems(&plan, "low")
    );
    assert!(
        problems(&plan, "late")[0].contains("is Service default/z's"),
        "{:?}",
        problems(&plan, "late")
    );
    // A port that joins later: what others were served first stays theirs, also where they are younger.
    let port = |number| Port {
        protocol: "TCP".to_owned(),
        number,
    };
    world.services.push(proxied("young", 6000));
    world.settle();
    world.service("z").ports = [port(5432), port(6000), port(22)].into();
    let plan = world.settle();
    let Decision::Assign(assignment) = &plan.services[&Key::new("default", "z")] else {
        panic!()
    };
    assert_eq!(assignment.ports[&port(5432)], None);
    assert_eq!(assignment.ports[&port(6000)], Some(PortError::Conflict));
    assert_eq!(assignment.ports[&port(22)], Some(PortError::NotAllowed));
    assert_eq!(world.addresses("young").len(), 2);
}

#[test]
fn without_a_pool_of_nodes_an_event_says_what_to_do() {
    let mut world = on_nodes(vec![proxied("a", 5432)]);
    world.pools = vec![small()];
    let plan = world.settle();
    assert!(
        problems(&plan, "a")[0].contains("no IPAddressPool has nodeAddresses: true"),
        "{:?}",
        problems(&plan, "a")
    );
    world.pools.clear();
    let plan = world.settle();
    assert!(
        problems(&plan, "a")[0].contains("there is no IPAddressPool"),
        "{:?}",
        problems(&plan, "a")
    );
}

#[test]
fn the_proxies_own_service_is_the_kernels() {
    let mut world = on_nodes(vec![proxied("own", 80)]);
    world.pools.push(small());
    world.settings.own_service = Some(Key::new("default", "own"));
    world.settle();
    assert_eq!(world.addresses("own"), ["192.0.2.10"]);
}

#[test]
fn a_service_that_changes_its_path_is_served_until_it_moves() {
    let mut world = on_nodes(vec![proxied("a", 5432)]);
    world.settle();
    world.service("a").path = Some(Path::Kernel);
    world.settle();
    assert_eq!(world.addresses("a").len(), 2, "there is nowhere to move to");
    world.pools.push(small());
    world.settle();
    assert_eq!(world.addresses("a"), ["192.0.2.10"]);
    world.service("a").path = Some(Path::Proxy);
    world.settle();
    assert_eq!(world.addresses("a").len(), 2);
}

#[test]
fn a_service_that_is_ours_no_longer_is_released() {
    let mut world = World::new(vec![small()], vec![kernel("a"), kernel("b")]);
    world.settle();
    world.service("a").is_load_balancer = false;
    world.settings.serve_classless = false;
    world.settle();
    for service in &world.services {
        assert!(
            service.present.is_empty() && service.finalizers.is_empty() && service.path.is_none(),
            "{service:?}"
        );
    }
}

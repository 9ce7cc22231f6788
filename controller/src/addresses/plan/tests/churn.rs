//! Properties under random churn.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One change of the world.
#[derive(Clone, Debug)]
enum Change {
    Create {
        name: u8,
        kind: u8,
    },
    Delete {
        name: u8,
    },
    Ask {
        name: u8,
        address: u8,
    },
    Share {
        name: u8,
        key: u8,
    },
    Retype {
        name: u8,
    },
    Drain {
        pool: u8,
    },
    Ready {
        node: u8,
    },
    /// The leader writes some of its plan, then is gone.
    Crash {
        chosen: u16,
    },
    Reverse,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let name = 0..10_u8;
    let change = prop_oneof![
        4 => (name.clone(), 0..6_u8).prop_map(|(name, kind)| Change::Create { name, kind }),
        2 => name.clone().prop_map(|name| Change::Delete { name }),
        2 => (name.clone(), 0..16_u8).prop_map(|(name, address)| Change::Ask { name, address }),
        1 => (name.clone(), 0..3_u8).prop_map(|(name, key)| Change::Share { name, key }),
        1 => name.prop_map(|name| Change::Retype { name }),
        1 => (0..3_u8).prop_map(|pool| Change::Drain { pool }),
        1 => (0..3_u8).prop_map(|node| Change::Ready { node }),
        3 => any::<u16>().prop_map(|chosen| Change::Crash { chosen }),
        1 => Just(Change::Reverse),
    ];
    prop::collection::vec(change, 1..24)
}

fn make(name: &str, kind: u8) -> ServiceFacts {
    let both = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    let required = json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"});
    let on_kernel = json!({"propylon.dev/lb-path": "kernel"});
    match kind {
        0 => kernel(name),
        1 => service(name, on_kernel, both),
        2 => service(name, on_kernel, required),
        3 => proxied(name, 5000),
        4 => proxied(name, 5001),
        _ => service(
            name,
            json!({}),
            json!({"loadBalancerClass": "propylon.dev/kernel", "ports": [{"port": 53, "protocol": "UDP"}]}),
        ),
    }
}

fn apply(world: &mut World, change: &Change) {
    let named = |world: &World, name: u8| {
        world
            .services
            .iter()
            .position(|service| *service.key.name == *format!("s{name}"))
    };
    match *change {
        Change::Create { name, kind } => {
            if named(world, name).is_none() {
                world.services.push(make(&format!("s{name}"), kind));
            }
        }
        Change::Delete { name } => {
            if let Some(index) = named(world, name) {
                world.services.remove(index);
            }
        }
        Change::Ask { name, address } => {
            if let Some(index) = named(world, name) {
                let address = format!("192.0.2.{address}").parse().unwrap();
                world.services[index].requested = Ok(vec![address]);
            }
        }
        Change::Share { name, key } => {
            if let Some(index) = named(world, name) {
                world.services[index].sharing = (key > 0).then(|| key.to_string());
            }
        }
        Change::Retype { name } => {
            if let Some(index) = named(world, name) {
                world.services[index].is_load_balancer ^= true;
            }
        }
        Change::Drain { pool } => world.pools[usize::from(pool)].drain ^= true,
        Change::Ready { node } => world.nodes[usize::from(node)].is_ready ^= true,
        Change::Crash { chosen } => {
            let plan = world.plan();
            world.write(&plan, |index| chosen >> (index % 16) & 1 == 1);
        }
        Change::Reverse => {
            world.services.reverse();
            world.pools.reverse();
            world.nodes.reverse();
        }
    }
}

fn start() -> World {
    let mut world = on_nodes(Vec::new());
    world.pools.push(pool(
        "a",
        json!({"addresses": ["192.0.2.0-192.0.2.5", "2001:db8::/126"], "avoidBuggyIPs": true}),
    ));
    world
        .pools
        .push(pool("b", json!({"addresses": ["192.0.2.8/30"], "priority": 1})));
    world
}

/// What holds in every world that a plan was written to.
fn check(world: &World) -> Result<(), TestCaseError> {
    let holds = |service: &&ServiceFacts| service.is_load_balancer;
    let services: Vec<_> = world.services.iter().filter(holds).collect();
    for (index, one) in services.iter().enumerate() {
        for two in services.iter().skip(index + 1) {
            for present in &one.present {
                let Some(other) = two.present.iter().find(|other| other.address == present.address) else {
                    continue;
                };
                if present.path == Path::Proxy && other.path == Path::Proxy {
                    let served = |present: &Present| -> BTreeSet<Port> {
                        present
                            .ports
                            .iter()
                            .filter(|(_, error)| error.is_none())
                            .map(|(port, _)| port.clone())
                            .collect()
                    };
                    prop_assert!(served(present).is_disjoint(&served(other)), "{one:?} {two:?}");
                    continue;
                }
                prop_assert!(one.ports.is_disjoint(&two.ports), "{one:?} {two:?}");
            }
        }
        for present in one.present.iter().filter(|present| present.path == Path::Kernel) {
            prop_assert!(
                world
                    .nodes
                    .iter()
                    .all(|node| !node.addresses.contains(&present.address)),
                "{one:?}"
            );
        }
        if !one.present.is_empty() {
            prop_assert!(one.has_finalizer() && one.path.is_some(), "{one:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn churn_gives_no_address_twice_and_comes_to_rest(changes in changes()) {
        let mut world = start();
        for change in &changes {
            apply(&mut world, change);
            check(&world)?;
        }
        world.settle();
        check(&world)?;
        // Whoever leads next, in whatever order it lists, writes nothing.
        let plan = world.plan();
        world.services.reverse();
        world.pools.reverse();
        world.nodes.reverse();
        prop_assert_eq!(world.plan(), plan);
        prop_assert_eq!(world.settle(), world.plan());
    }

    #[test]
    fn nobody_moves_because_others_come_and_go(first in changes(), second in changes()) {
        let mut world = start();
        for change in &first {
            apply(&mut world, change);
        }
        world.settle();
        let before = world.services.clone();
        for change in &second {
            // What others do, not what the author of the Service, or of its pool's nodes, does.
            let is_of_others = match *change {
                Change::Create { name, .. } => !before.iter().any(|service| *service.key.name == *format!("s{name}")),
                Change::Drain { .. } | Change::Reverse | Change::Crash { .. } => true,
                _ => false,
            };
            if is_of_others {
                apply(&mut world, change);
            }
        }
        world.settle();
        for old in before.iter().filter(|old| !old.present.is_empty()) {
            let new = world.services.iter().find(|new| new.key == old.key).unwrap();
            let held = |service: &ServiceFacts| -> BTreeSet<IpAddr> { service.present.iter().map(|present| present.address).collect() };
            let asks = matches!(&old.requested, Ok(asked) if !asked.is_empty());
            if !asks && old.is_load_balancer {
                prop_assert!(held(new).is_superset(&held(old)), "{old:?} {new:?}");
            }
        }
    }
}

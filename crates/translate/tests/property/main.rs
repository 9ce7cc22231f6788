//! Properties of parsing, admission and compiling.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the helpers of a test fail by panicking"
)]

use std::{collections::BTreeSet, net::Ipv4Addr};

use proptest::prelude::*;
use propylon_model::{Action, HostPattern, Kind, L4Protocol};
use propylon_translate::{Compiled, Key, Memory, World, admit::admit, compile, manifest::parse};

mod churn;
mod objects;

use objects::{object, options, world};

/// What every compile must hold.
fn check(world: &World, compiled: &Compiled) {
    let resources = &compiled.resources;
    for group in resources.groups.values() {
        let actions = group
            .rules
            .iter()
            .map(|rule| &rule.action)
            .chain(group.default_backend.as_ref().map(|(action, _)| action));
        for action in actions {
            if let Action::Forward(pool) = action {
                assert!(resources.pools.contains_key(pool), "{pool} is missing");
            }
        }
    }
    for pool in resources.pools.values() {
        assert!(
            resources.endpoints.contains_key(&pool.endpoints),
            "{} is missing",
            pool.endpoints
        );
    }
    for (name, certificate) in &resources.certificates {
        assert!(
            !certificate.hosts.contains(&HostPattern::Any) || name.as_str() == "x1/a",
            "{name} is the default"
        );
    }
    check_l4(world, compiled);
    assert!(compiled.reports.iter().all(|report| !report.message.contains('\n')));
    let distinct: BTreeSet<_> = compiled.reports.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), compiled.reports.len());
}

/// What every compile must hold of what is forwarded as it is.
fn check_l4(world: &World, compiled: &Compiled) {
    let resources = &compiled.resources;
    let mut taken = BTreeSet::from([(L4Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), 81)]);
    for (name, l4) in &resources.l4 {
        assert!(resources.endpoints.contains_key(&l4.endpoints), "{name}");
        let certificate = l4.tls.as_ref().map(|tls| resources.certificates.contains_key(tls));
        assert_ne!(certificate, Some(false), "{name}");
        assert!(!l4.addresses.is_empty(), "{name}");
        for address in &l4.addresses {
            assert!(taken.insert((l4.protocol, *address, l4.port)), "{name} is not alone");
        }
        let key = Key::new(l4.source.namespace.clone(), l4.source.name.clone());
        let service = world.services.get(&key).filter(|_| l4.source.kind == Kind::Service);
        let annotations = service.and_then(|service| service.metadata.annotations.as_ref());
        let wants_tls = annotations.is_some_and(|all| all.contains_key("propylon.dev/tls-secret"));
        let is_clear = l4.protocol == L4Protocol::Tcp && l4.tls.is_none();
        assert!(!(wants_tls && is_clear), "{name} is in clear text");
        let has_ranges = service.is_some_and(|service| {
            let spec = service.spec.as_ref();
            spec.is_some_and(|spec| spec.load_balancer_source_ranges.iter().any(|ranges| !ranges.is_empty()))
        });
        assert_eq!(l4.source_ranges.is_some(), has_ranges, "{name}");
    }
    let mut hosts = BTreeSet::new();
    for (name, passthrough) in &resources.passthrough {
        assert!(resources.endpoints.contains_key(&passthrough.endpoints), "{name}");
        assert!(hosts.insert(&passthrough.host), "{name} is not alone");
        assert_ne!(passthrough.host, HostPattern::Any);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiling_does_not_depend_on_the_order_of_insertion(
        (first, second) in prop::collection::btree_map("[abcxy]{1,3}", object(), 1..14)
            .prop_map(|texts| texts.into_values().collect::<Vec<_>>())
            .prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle())),
    ) {
        // One object of a kind and name: of two, the one inserted last stays, and that is no matter of order.
        let mut seen = BTreeSet::new();
        let mut keep = |text: &&String| parse(text).into_iter().flatten().all(|object| seen.insert(object.key()));
        let kept: BTreeSet<&String> = first.iter().filter(&mut keep).collect();
        let one = world(first.iter().filter(|text| kept.contains(text)));
        let other = world(second.iter().filter(|text| kept.contains(text)));
        let compiled = compile(&one, &options(), &mut Memory::default());
        check(&one, &compiled);
        prop_assert_eq!(&compiled, &compile(&other, &options(), &mut Memory::default()));
    }

    #[test]
    fn compiling_again_changes_nothing(texts in prop::collection::vec(object(), 1..14)) {
        let world = world(&texts);
        let mut memory = Memory::default();
        let compiled = compile(&world, &options(), &mut memory);
        prop_assert_eq!(&compiled, &compile(&world, &options(), &mut memory));
    }

    #[test]
    fn memory_never_breaks_a_compile(
        before in prop::collection::vec(object(), 1..10),
        after in prop::collection::vec(object(), 1..10),
    ) {
        let mut memory = Memory::default();
        compile(&world(&before), &options(), &mut memory);
        let world = world(&after);
        check(&world, &compile(&world, &options(), &mut memory));
    }

    #[test]
    fn no_text_makes_parsing_or_admission_panic(text in "(\\PC|\n|: |- |---\n|\\{|\\[|kind: |apiVersion: v1\n|&a |\\*a ){0,60}") {
        for object in parse(&text).into_iter().flatten() {
            drop(admit(object));
        }
    }

    #[test]
    fn unadmitted_objects_never_make_a_compile_panic(texts in prop::collection::vec(object(), 1..8), cut in "[a-z{}\\[\\]:, /0-9]{0,6}", at in 0usize..400) {
        let mut world = World::default();
        for text in &texts {
            let at = at.min(text.len());
            let text = format!("{}{cut}{}", &text[..at], &text[at..]);
            parse(&text).into_iter().flatten().for_each(|object| world.insert(object));
        }
        check(&world, &compile(&world, &options(), &mut Memory::default()));
    }
}

//! Whatever order a backend works in, it reads a path of the same rule, or the answer was 400.

use proptest::{collection::vec, prelude::*};
use propylon_model::{RouteGroup, RoutePolicy, path::RequestPath};

use crate::{
    backend::{Dots, ORDERS, Slashes, read, select},
    build::{Answer, find, forward, group, nasty_path, rule_path, table},
};

/// One group on one host, each claim once, with or without a default backend.
fn rules() -> impl Strategy<Value = RouteGroup> {
    (vec(rule_path(), 0..30), any::<bool>()).prop_map(|(paths, has_default)| {
        let mut group = group("web", "a.test", &[]);
        for path in paths {
            let rule = crate::build::group("web", "a.test", &[path]).rules.remove(0);
            let claims = |other: &propylon_model::PathMatch| match other {
                propylon_model::PathMatch::Exact(path) => format!("={path}"),
                propylon_model::PathMatch::Prefix(path) => path.as_str().trim_end_matches('/').to_owned(),
            };
            if group
                .rules
                .iter()
                .all(|other| claims(&other.path) != claims(&rule.path))
            {
                group.rules.push(rule);
            }
        }
        group.default_backend = has_default.then(|| (forward("default"), RoutePolicy::default()));
        group
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_order_reads_a_path_of_the_same_rule(group in rules(), raw in nasty_path()) {
        let Ok(path) = RequestPath::parse(&raw) else { return Ok(()) };
        let groups = [group];
        let ours = find(&table(&groups), "a.test", &raw);
        let mut is_ambiguous = false;
        for order in ORDERS {
            for slashes in [Slashes::Keep, Slashes::Decode] {
                for dots in [Dots::Literal, Dots::Encoded] {
                    let upstream = read(path.forward(), order, slashes, dots);
                    let theirs = select(&groups, "a.test", &upstream);
                    prop_assert!(ours == Answer::Ambiguous || ours == theirs, "{raw}: {order:?} {slashes:?} {dots:?} reads {theirs:?}, not {ours:?}");
                }
                let direct = select(&groups, "a.test", &read(&raw, order, slashes, Dots::Encoded));
                let kept = select(&groups, "a.test", &read(&raw, ORDERS[0], Slashes::Keep, Dots::Encoded));
                is_ambiguous |= direct != kept;
            }
        }
        prop_assert_eq!(ours == Answer::Ambiguous, is_ambiguous, "{}", raw);
    }

    #[test]
    fn what_goes_upstream_holds_no_dot_segment(raw in nasty_path()) {
        let Ok(path) = RequestPath::parse(&raw) else { return Ok(()) };
        for segment in path.forward().split(['/']).flat_map(|segment| segment.split("%2F")).flat_map(|segment| segment.split("%2f")) {
            let decoded = segment.replace("%2e", ".").replace("%2E", ".");
            prop_assert!(decoded != "." && decoded != "..", "{}", path.forward());
        }
        let again = RequestPath::parse(path.forward()).unwrap();
        prop_assert_eq!(again.normal(), path.normal());
        prop_assert_eq!(again.forward(), path.forward());
    }

    #[test]
    fn the_normal_form_is_its_own(raw in nasty_path()) {
        let Ok(path) = RequestPath::parse(&raw) else { return Ok(()) };
        let again = RequestPath::parse(path.normal()).unwrap();
        prop_assert_eq!(again.normal(), path.normal());
    }
}

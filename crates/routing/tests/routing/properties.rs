//! The table against the linear reference, and against itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::Index};
use propylon_model::{Action, PoolName, Resources, RouteGroup, path::RequestPath};
use propylon_routing::{Compiler, RouteTable, conflicts, merge};

use crate::{
    build::{Answer, added, find, group, group_name, groups, nasty_path, request_host, rule_path, table, usual_path},
    reference,
};

fn listing(table: &RouteTable<()>) -> Vec<String> {
    table
        .routes()
        .map(|route| format!("{} {:?} {:?} {}", route.host, route.path, route.action, route.source))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_table_answers_as_the_reference(
        groups in groups(30),
        requests in vec((request_host(), prop_oneof![usual_path(), nasty_path()]), 1..30),
    ) {
        let table = table(&groups);
        for (host, raw) in requests {
            let Ok(path) = RequestPath::parse(&raw) else { continue };
            let expected = reference::find(&groups, host, path.normal());
            let answer = find(&table, host, &raw);
            prop_assert!(answer == expected || (answer == Answer::Ambiguous && path.has_encoded_slash()), "{host} {raw}: {answer:?}, not {expected:?}");
        }
    }

    #[test]
    fn a_crowded_host_answers_as_the_reference(paths in vec(rule_path(), 40..80), requests in vec(usual_path(), 1..30)) {
        let groups = [group("web", "a.test", &paths)];
        let table = table(&groups);
        for raw in requests {
            let path = RequestPath::parse(&raw).unwrap();
            prop_assert_eq!(find(&table, "a.test", &raw), reference::find(&groups, "a.test", path.normal()), "{}", raw);
        }
    }

    #[test]
    fn merging_does_not_depend_on_the_order(groups in groups(8).prop_map(one_host), order in any::<[Index; 6]>()) {
        let mut shuffled: Vec<&RouteGroup> = groups.iter().collect();
        for (position, index) in order.iter().enumerate().take(groups.len()) {
            shuffled.swap(position, index.index(groups.len()));
        }
        prop_assert_eq!(merge(shuffled), merge(&groups));
    }

    #[test]
    fn every_rule_serves_or_is_in_conflict(groups in groups(8)) {
        let resources = resources(&groups);
        let conflicts = conflicts(&resources);
        let claims: usize = groups.iter().map(|group| group.rules.len() + usize::from(group.default_backend.is_some())).sum();
        prop_assert_eq!(table(&groups).routes().count() + conflicts.len(), claims);
        let hosts: Vec<_> = conflicts.iter().map(|conflict| &conflict.host).collect();
        prop_assert!(hosts.is_sorted());
    }

    #[test]
    fn a_change_gives_what_a_full_build_gives(steps in vec(groups(4), 1..6)) {
        let mut compiler = Compiler::new();
        let mut before: Vec<RouteGroup> = Vec::new();
        for after in steps {
            let names: BTreeSet<_> = after.iter().map(group_name).collect();
            let removed = before.iter().map(group_name).filter(|name| !names.contains(name)).map(|name| (name, None));
            let known: BTreeMap<_, _> = before.iter().map(|group| (group_name(group), group)).collect();
            let mut changes = added(&after);
            changes.retain(|name, group| known.get(name).copied() != group.as_deref());
            changes.extend(removed);
            let table = compiler.apply(&changes, &mut |_, _| ());
            prop_assert_eq!(listing(&table), listing(&self::table(&after)));
            before = after;
        }
    }

    #[test]
    fn refreshing_pools_makes_their_targets_anew_and_no_others(groups in groups(6), chosen in any::<Index>()) {
        let mut compiler = Compiler::new();
        let table = compiler.apply(&added(&groups), &mut |_, _| 1);
        let pools: Vec<PoolName> = table.routes().filter_map(|route| match &route.action {
            Action::Forward(pool) => Some(pool.clone()),
            Action::Refuse(_) => None,
        }).collect();
        prop_assume!(!pools.is_empty());
        let pool = chosen.get(&pools).clone();
        let refreshed = compiler.refresh_pools(&BTreeSet::from([pool.clone()]), &mut |_, _| 2);
        let hosts: BTreeSet<_> = table.routes().filter(|route| route.action == Action::Forward(pool.clone())).map(|route| &route.host).collect();
        for route in refreshed.routes() {
            prop_assert_eq!(route.target, if hosts.contains(&route.host) { 2 } else { 1 });
        }
        prop_assert!(table.routes().all(|route| route.target == 1));
    }
}

fn one_host(mut groups: Vec<RouteGroup>) -> Vec<RouteGroup> {
    for group in &mut groups {
        group.host = propylon_model::HostPattern::Any;
    }
    groups
}

fn resources(groups: &[RouteGroup]) -> Resources {
    let groups = added(groups)
        .into_iter()
        .filter_map(|(name, group)| Some((name, group?)))
        .collect();
    Resources {
        groups,
        ..Resources::default()
    }
}

//! Which rule wins, as facts.

use propylon_model::{PathMatch, RouteGroup, RoutePolicy, RulePosition};
use propylon_routing::{Conflict, merge};

use crate::build::{Answer, exact, find, forward, group, prefix, table};

fn dated(mut group: RouteGroup, created_unix_s: Option<i64>) -> RouteGroup {
    group.created_unix_s = created_unix_s;
    group
}

fn in_namespace(mut group: RouteGroup, namespace: &str) -> RouteGroup {
    group.source.namespace = namespace.into();
    group
}

fn losing(loser: &RouteGroup, winner: &RouteGroup, path: Option<PathMatch>) -> Conflict {
    Conflict {
        loser: loser.source.clone(),
        winner: winner.source.clone(),
        host: loser.host.clone(),
        position: path.is_some().then(RulePosition::default),
        winner_position: path.is_some().then(RulePosition::default),
        path,
    }
}

#[test]
fn the_oldest_wins_and_the_other_paths_of_the_loser_serve() {
    let young = dated(group("a-young", "a.test", &[prefix("/x"), prefix("/y")]), Some(20));
    let old = dated(group("z-old", "a.test", &[prefix("/x")]), Some(10));
    assert_eq!(
        merge([&young, &old]).conflicts,
        [losing(&young, &old, Some(prefix("/x")))]
    );
    let table = table(&[young, old]);
    assert_eq!(find(&table, "a.test", "/x"), Answer::Pool("z-old:/x".to_owned()));
    assert_eq!(find(&table, "a.test", "/y"), Answer::Pool("a-young:/y".to_owned()));
}

#[test]
fn undated_groups_come_last() {
    let undated = group("a", "a.test", &[prefix("/")]);
    let dated = dated(group("b", "a.test", &[prefix("/")]), Some(i64::MAX));
    assert_eq!(
        merge([&undated, &dated]).conflicts,
        [losing(&undated, &dated, Some(prefix("/")))]
    );
}

#[test]
fn ties_go_by_namespace_then_name() {
    let same_age = |namespace, name| in_namespace(dated(group(name, "a.test", &[prefix("/")]), Some(1)), namespace);
    let (first, second, third) = (same_age("a", "z"), same_age("b", "a"), same_age("b", "b"));
    let expected = [
        losing(&second, &first, Some(prefix("/"))),
        losing(&third, &first, Some(prefix("/"))),
    ];
    assert_eq!(merge([&third, &first, &second]).conflicts, expected);
}

#[test]
fn a_trailing_slash_of_a_prefix_is_no_difference_and_of_an_exact_path_is_one() {
    let first = group("a", "a.test", &[prefix("/x"), exact("/x")]);
    let second = group("b", "a.test", &[prefix("/x/"), exact("/x/")]);
    assert_eq!(
        merge([&first, &second]).conflicts,
        [losing(&second, &first, Some(prefix("/x/")))]
    );
}

#[test]
fn exact_and_prefix_of_one_path_do_not_conflict() {
    let groups = [
        group("a", "a.test", &[prefix("/x")]),
        group("b", "a.test", &[exact("/x")]),
    ];
    assert_eq!(merge(&groups).conflicts, []);
    assert_eq!(merge(&groups).rules.len(), 2);
}

#[test]
fn the_first_of_two_equal_rules_of_one_object_wins() {
    let mut twice = group("a", "a.test", &[prefix("/x"), prefix("/x/")]);
    twice.rules[0].action = forward("first");
    assert_eq!(merge([&twice]).conflicts, [losing(&twice, &twice, Some(prefix("/x/")))]);
    assert_eq!(find(&table(&[twice]), "a.test", "/x"), Answer::Pool("first".to_owned()));
}

#[test]
fn default_backends_conflict_with_each_other() {
    let with_default = |name, age| {
        let mut group = dated(group(name, "a.test", &[]), Some(age));
        group.default_backend = Some((forward(name), RoutePolicy::default()));
        group
    };
    let (young, old) = (with_default("a", 2), with_default("b", 1));
    assert_eq!(merge([&young, &old]).conflicts, [losing(&young, &old, None)]);
    assert_eq!(find(&table(&[young, old]), "a.test", "/"), Answer::Pool("b".to_owned()));
}

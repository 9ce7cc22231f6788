//! What the table answers, as facts.

use std::{collections::BTreeMap, panic, sync::Arc};

use propylon_model::RoutePolicy;
use propylon_routing::Compiler;

use crate::build::{Answer, added, exact, find, forward, group, group_name, prefix, table};

fn to(pool: &str) -> Answer {
    Answer::Pool(pool.to_owned())
}

#[test]
fn a_prefix_ends_at_an_element() {
    let table = table(&[group("w", "", &[prefix("/foo")])]);
    assert_eq!(find(&table, "", "/foo"), to("w:/foo"));
    assert_eq!(find(&table, "", "/foo/"), to("w:/foo"));
    assert_eq!(find(&table, "", "/foo/bar"), to("w:/foo"));
    assert_eq!(find(&table, "", "/foobar"), Answer::NoPath);
    assert_eq!(find(&table, "", "/fo"), Answer::NoPath);
}

#[test]
fn a_trailing_slash_of_a_prefix_does_not_count() {
    let table = table(&[group("w", "", &[prefix("/foo/")])]);
    assert_eq!(find(&table, "", "/foo"), to("w:/foo/"));
    assert_eq!(find(&table, "", "/foo/bar"), to("w:/foo/"));
    assert_eq!(find(&table, "", "/foobar"), Answer::NoPath);
}

#[test]
fn an_exact_path_is_the_whole_path() {
    let table = table(&[group("w", "", &[exact("/foo"), exact("/bar/")])]);
    assert_eq!(find(&table, "", "/foo"), to("w=/foo"));
    assert_eq!(find(&table, "", "/foo/"), Answer::NoPath);
    assert_eq!(find(&table, "", "/bar"), Answer::NoPath);
    assert_eq!(find(&table, "", "/bar/"), to("w=/bar/"));
}

#[test]
fn exact_stands_before_prefix_and_longer_before_shorter() {
    let table = table(&[group(
        "w",
        "",
        &[prefix("/"), prefix("/a"), prefix("/a/b"), exact("/a/b"), exact("/")],
    )]);
    assert_eq!(find(&table, "", "/a/b"), to("w=/a/b"));
    assert_eq!(find(&table, "", "/a/b/"), to("w:/a/b"));
    assert_eq!(find(&table, "", "/a/c"), to("w:/a"));
    assert_eq!(find(&table, "", "/c"), to("w:/"));
    assert_eq!(find(&table, "", "/"), to("w=/"));
}

#[test]
fn an_exact_host_stands_before_a_wildcard_before_none() {
    let table = table(&[
        group("none", "", &[prefix("/")]),
        group("wild", "*.a.test", &[prefix("/")]),
        group("host", "x.a.test", &[prefix("/")]),
    ]);
    assert_eq!(find(&table, "x.a.test", "/"), to("host:/"));
    assert_eq!(find(&table, "y.a.test", "/"), to("wild:/"));
    assert_eq!(find(&table, "a.test", "/"), to("none:/"));
    assert_eq!(find(&table, "", "/"), to("none:/"));
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    let table = table(&[group("wild", "*.a.test", &[prefix("/")])]);
    assert_eq!(find(&table, "x.a.test", "/"), to("wild:/"));
    assert_eq!(find(&table, "x.y.a.test", "/"), Answer::NoHost);
    assert_eq!(find(&table, "a.test", "/"), Answer::NoHost);
    assert_eq!(find(&table, ".a.test", "/"), Answer::NoHost);
}

#[test]
fn a_host_with_rules_never_falls_back_to_other_hosts() {
    let mut own_default = group("own", "b.test", &[prefix("/b")]);
    own_default.default_backend = Some((forward("default"), RoutePolicy::default()));
    let table = table(&[
        group("none", "", &[prefix("/")]),
        group("wild", "*.test", &[prefix("/")]),
        group("host", "a.test", &[prefix("/a")]),
        group("empty", "c.test", &[]),
        own_default,
    ]);
    assert_eq!(find(&table, "a.test", "/x"), Answer::NoPath);
    assert_eq!(find(&table, "b.test", "/x"), to("default"));
    assert_eq!(find(&table, "c.test", "/x"), Answer::NoPath);
    assert_eq!(find(&table, "d.test", "/x"), to("wild:/"));
}

#[test]
fn an_empty_table_knows_no_host() {
    assert_eq!(find(&table(&[]), "a.test", "/"), Answer::NoHost);
}

#[test]
fn braces_and_stars_of_a_rule_are_literals() {
    let few = [
        prefix("/{id}"),
        prefix("/a{b}c"),
        prefix("/x/*"),
        prefix("/{*rest}"),
        exact("/e{*r}"),
    ];
    let many: Vec<_> = (0..20)
        .map(|number| prefix(&format!("/many/{number}")))
        .chain(few.iter().cloned())
        .collect();
    for rules in [few.to_vec(), many] {
        let table = table(&[group("w", "", &rules)]);
        for raw in ["/{id}", "/%7bid%7D/x"] {
            assert_eq!(find(&table, "", raw), to("w:/%7Bid%7D"), "{raw}");
        }
        assert_eq!(find(&table, "", "/x/*/y"), to("w:/x/*"));
        assert_eq!(find(&table, "", "/e{*r}"), to("w=/e%7B*r%7D"));
        for raw in ["/id", "/aXc", "/abc", "/x/y", "/any/thing", "/eee"] {
            assert_eq!(find(&table, "", raw), Answer::NoPath, "{raw}");
        }
    }
}

#[test]
fn many_rules_on_a_host_answer_as_few_do() {
    let rules: Vec<_> = (0..100)
        .flat_map(|number| {
            [
                prefix(&format!("/p/{number}")),
                prefix(&format!("/p/{number}/deep")),
                exact(&format!("/p/{number}")),
            ]
        })
        .chain([prefix("/")])
        .collect();
    let table = table(&[group("w", "", &rules)]);
    assert_eq!(find(&table, "", "/p/7"), to("w=/p/7"));
    assert_eq!(find(&table, "", "/p/7/"), to("w:/p/7"));
    assert_eq!(find(&table, "", "/p/7/x"), to("w:/p/7"));
    assert_eq!(find(&table, "", "/p/77/deep/er"), to("w:/p/77/deep"));
    assert_eq!(find(&table, "", "/p/77/deeper"), to("w:/p/77"));
    assert_eq!(find(&table, "", "/p/777"), to("w:/"));
    assert_eq!(find(&table, "", "/"), to("w:/"));
}

#[test]
fn an_encoded_slash_is_refused_only_where_it_changes_the_rule() {
    let table = table(&[group("w", "", &[prefix("/api"), prefix("/api/admin"), exact("/x")])]);
    assert_eq!(find(&table, "", "/api/group%2Fproject"), to("w:/api"));
    assert_eq!(find(&table, "", "/api%2Fadmin"), Answer::Ambiguous);
    assert_eq!(find(&table, "", "/api/%2fadmin"), Answer::Ambiguous);
    assert_eq!(find(&table, "", "/%2Fx"), Answer::Ambiguous);
    assert_eq!(find(&table, "", "/none%2Fof/these"), Answer::NoPath);
}

#[test]
fn routes_are_listed_by_host_and_in_match_order() {
    let mut with_default = group("d", "a.test", &[prefix("/"), exact("/z"), prefix("/long"), exact("/y")]);
    with_default.default_backend = Some((forward("default"), RoutePolicy::default()));
    let table = table(&[
        group("n", "", &[prefix("/")]),
        group("w", "*.test", &[prefix("/")]),
        group("b", "b.test", &[prefix("/")]),
        with_default,
    ]);
    let listed: Vec<_> = table.routes().map(|route| crate::build::pool(&route.action)).collect();
    let expected = ["d=/y", "d=/z", "d:/long", "d:/", "default", "b:/", "w:/", "n:/"];
    assert_eq!(listed, expected.map(to));
}

#[test]
fn hosts_that_a_change_does_not_touch_are_shared() {
    let mut compiler = Compiler::new();
    let groups: Vec<_> = (0..50)
        .map(|number| group("w", &format!("h{number}.test"), &[prefix("/")]))
        .collect();
    let before = compiler.apply(&added(&groups), &mut |_, _| ());
    let changed = group("w", "h7.test", &[prefix("/new")]);
    let mut made = 0;
    let after = compiler.apply(&added(std::slice::from_ref(&changed)), &mut |_, _| made += 1);
    assert_eq!(made, 1);
    let different = before
        .routes()
        .zip(after.routes())
        .filter(|(old, new)| !Arc::ptr_eq(old, new))
        .count();
    assert_eq!(different, 1);
    assert_eq!(
        find(&before, "h7.test", "/x"),
        to("w:/"),
        "the old table does not change"
    );
    assert_eq!(find(&after, "h7.test", "/x"), Answer::NoPath);
    let removed = compiler.apply(&BTreeMap::from([(group_name(&changed), None)]), &mut |_, _| ());
    assert_eq!(find(&removed, "h7.test", "/new"), Answer::NoHost);
}

#[test]
fn a_host_that_cannot_be_built_keeps_its_last_table_and_holds_up_no_other() {
    let mut compiler = Compiler::new();
    let first = [
        group("w", "a.test", &[prefix("/")]),
        group("w", "b.test", &[prefix("/")]),
    ];
    compiler.apply(&added(&first), &mut |_, _| ());
    let second = [
        group("v", "a.test", &[prefix("/v")]),
        group("v", "b.test", &[prefix("/v")]),
    ];
    let mut fails = |group: &propylon_model::RouteGroup, _: propylon_routing::Claim<'_>| {
        assert_ne!(group.host.to_string(), "a.test", "a target that cannot be made");
    };
    let attempt = panic::AssertUnwindSafe(|| compiler.apply(&added(&second), &mut fails));
    assert!(panic::catch_unwind(attempt).is_err());
    let table = compiler.apply(&BTreeMap::new(), &mut |_, _| ());
    assert_eq!(find(&table, "a.test", "/v"), to("w:/"));
    assert_eq!(find(&table, "b.test", "/v"), to("v:/v"));
}

//! Groups, tables and strategies of the tests.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use propylon_model::{
    Action, GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch, PoolName, RouteGroup, RoutePolicy, Rule,
    RulePosition, path::RequestPath,
};
use propylon_routing::{Compiler, Found, RouteTable};

/// What a lookup answered, in words that every matcher of these tests can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 400.
    Ambiguous,
    /// 404, no host.
    NoHost,
    /// 404, no path.
    NoPath,
    /// The pool of the route.
    Pool(String),
}

pub(crate) fn forward(pool: &str) -> Action {
    Action::Forward(PoolName::new(pool))
}

pub(crate) fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(NormalPath::parse_rule(path).unwrap())
}

pub(crate) fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(NormalPath::parse_rule(path).unwrap())
}

/// A group of one host; each rule's pool is `NAME:PATH`, `NAME=PATH` for an exact one.
pub(crate) fn group(name: &str, host: &str, rules: &[PathMatch]) -> RouteGroup {
    let rule = |path: &PathMatch| {
        let sign = if matches!(path, PathMatch::Exact(_)) { '=' } else { ':' };
        let action = forward(&format!("{name}{sign}{}", path.path()));
        Rule {
            path: path.clone(),
            action,
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        }
    };
    RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", name),
        created_unix_s: None,
        host: HostPattern::parse(host).unwrap(),
        rules: rules.iter().map(rule).collect(),
        default_backend: None,
        redirect_https: false,
    }
}

pub(crate) fn group_name(group: &RouteGroup) -> GroupName {
    GroupName::new(format!(
        "{}/{}/{}",
        group.source.namespace, group.source.name, group.host
    ))
}

pub(crate) fn added(groups: &[RouteGroup]) -> BTreeMap<GroupName, Option<Arc<RouteGroup>>> {
    groups
        .iter()
        .map(|group| (group_name(group), Some(Arc::new(group.clone()))))
        .collect()
}

pub(crate) fn table(groups: &[RouteGroup]) -> RouteTable<()> {
    Compiler::new().apply(&added(groups), &mut |_, _| ())
}

pub(crate) fn find(table: &RouteTable<()>, host: &str, path: &str) -> Answer {
    match table.find(host, &RequestPath::parse(path).unwrap()) {
        Found::Ambiguous => Answer::Ambiguous,
        Found::NoHost => Answer::NoHost,
        Found::NoPath => Answer::NoPath,
        Found::Route(route) => pool(&route.action),
    }
}

pub(crate) fn pool(action: &Action) -> Answer {
    match action {
        Action::Forward(pool) => Answer::Pool(pool.as_str().to_owned()),
        Action::Refuse(_) => unreachable!("the tests make no refusing rule"),
    }
}

/// Hosts of rules; the second list has hosts of requests.
const RULE_HOSTS: [&str; 5] = ["", "a.test", "b.a.test", "*.test", "*.a.test"];

pub(crate) fn request_host() -> impl Strategy<Value = &'static str> {
    select(vec![
        "", "a.test", "b.a.test", "c.a.test", "c.test", "x.c.test", "other", ".test", "test",
    ])
}

/// Paths of rules: few different segments, so that rules meet.
pub(crate) fn rule_path() -> impl Strategy<Value = PathMatch> {
    let segment = select(vec![
        "a", "a", "b", "b", "ab", "a.b", "a;b", "%61", "{a}", "{*r}", "*", "%20", "..", ".", "",
    ]);
    (vec(segment, 0..5), any::<bool>()).prop_filter_map("a path of a rule", |(segments, is_exact)| {
        let path = NormalPath::parse_rule(&format!("/{}", segments.join("/"))).ok()?;
        Some(if is_exact {
            PathMatch::Exact(path)
        } else {
            PathMatch::Prefix(path)
        })
    })
}

/// Up to six objects, each with up to `max_rules` rules on one host; every rule and default backend has a pool of its own.
pub(crate) fn groups(max_rules: usize) -> impl Strategy<Value = Vec<RouteGroup>> {
    let age = option::of(1_i64..3);
    let one = (
        select(RULE_HOSTS.to_vec()),
        age,
        any::<bool>(),
        any::<bool>(),
        vec(rule_path(), 0..=max_rules),
    );
    vec(one, 0..6).prop_map(|parts| {
        let groups = parts
            .into_iter()
            .enumerate()
            .map(|(number, (host, age, is_first, has_default, paths))| {
                let mut group = group(&format!("n{number}"), host, &paths);
                for (position, rule) in group.rules.iter_mut().enumerate() {
                    rule.action = forward(&format!("{number}.{position}"));
                }
                group.source.namespace = if is_first { "ns-a" } else { "ns-b" }.into();
                group.created_unix_s = age;
                group.default_backend = has_default.then(|| (forward(&format!("{number}")), RoutePolicy::default()));
                group
            });
        groups.collect()
    })
}

/// Paths of requests that hold what backends differ in.
pub(crate) fn nasty_path() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "/", "/", "/", "/", "a", "a", "b", "b", ".", ";", "%2e", "%2E", "%2f", "%2F", "%61", "%41", "%25", "%5c",
        "%20", "//", "/..", "/../", "/./", "..", "{a}", "%7Ba%7d", "*", "é", "%C3%A9", "%c0", "%", "a/b",
    ]);
    vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Paths of requests that are mostly well-formed.
pub(crate) fn usual_path() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a", "a", "b", "b", "ab", "a.b", "a;b", "%7Ba%7D", "{*r}", "*", "%20", "", "c",
    ]);
    vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

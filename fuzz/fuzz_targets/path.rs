//! Paths: whatever order a backend decodes, merges slashes and removes dot segments in, it reads a path of the rule
//! that ours selected, or the answer was 400. The last line is the request's path, each one before it a rule, exact
//! where it starts with `=`.
#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use libfuzzer_sys::fuzz_target;
use propylon_model::{
    Action, GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch, PoolName, RouteGroup, RoutePolicy, Rule,
    RulePosition, path::RequestPath,
};
use propylon_routing::{Compiler, Found};

use backend::{Dots, ORDERS, Slashes, read, select};
use build::{Answer, pool};

#[path = "../../crates/routing/tests/routing/backend.rs"]
mod backend;

/// What the model of a backend needs of the tests that it comes from.
mod build {
    use propylon_model::Action;

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Answer {
        Ambiguous,
        NoPath,
        Pool(String),
    }

    pub(crate) fn pool(action: &Action) -> Answer {
        match action {
            Action::Forward(pool) => Answer::Pool(pool.as_str().to_owned()),
            Action::Refuse(_) => unreachable!("no refusing rule is made here"),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (rules, raw) = text.rsplit_once('\n').unwrap_or(("", text));
    let Ok(path) = RequestPath::parse(raw) else { return };
    forms(&path);
    agreement(group(rules), raw, &path);
});

/// The normal form is its own, and what goes upstream has no dot segment left.
fn forms(path: &RequestPath<'_>) {
    let again = RequestPath::parse(path.normal()).expect("the normal form is a path");
    assert_eq!(again.normal(), path.normal());
    let sent = RequestPath::parse(path.forward()).expect("what goes upstream is a path");
    assert_eq!((sent.normal(), sent.forward()), (path.normal(), path.forward()));
    for segment in path.forward().split('/') {
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        assert!(decoded != "." && decoded != "..", "{}", path.forward());
    }
}

fn agreement(group: RouteGroup, raw: &str, path: &RequestPath<'_>) {
    let mut compiler = Compiler::new();
    let added = BTreeMap::from([(GroupName::new("fuzz"), Some(Arc::new(group.clone())))]);
    let table = compiler.apply(&added, &mut |_, _| ());
    let groups = [group];
    let ours = match table.find("a.test", path) {
        Found::Ambiguous => Answer::Ambiguous,
        Found::NoHost | Found::NoPath => Answer::NoPath,
        Found::Route(route) => pool(&route.action),
    };
    for order in ORDERS {
        for slashes in [Slashes::Keep, Slashes::Decode] {
            for dots in [Dots::Literal, Dots::Encoded] {
                let theirs = select(&groups, "a.test", &read(path.forward(), order, slashes, dots));
                assert!(
                    ours == Answer::Ambiguous || ours == theirs,
                    "{raw}: {order:?} {slashes:?} {dots:?} {theirs:?} {ours:?}"
                );
            }
        }
    }
}

/// Each rule once: a claim that is made twice belongs to its first maker, which the model of a backend does not know.
fn group(rules: &str) -> RouteGroup {
    let mut paths: Vec<PathMatch> = Vec::new();
    for line in rules.lines().take(16) {
        let (is_exact, text) = line.strip_prefix('=').map_or((false, line), |text| (true, text));
        let Ok(path) = NormalPath::parse_rule(text) else {
            continue;
        };
        let rule = if is_exact {
            PathMatch::Exact(path)
        } else {
            PathMatch::Prefix(path)
        };
        if paths.iter().all(|other| claim(other) != claim(&rule)) {
            paths.push(rule);
        }
    }
    let rule = |(number, path)| Rule {
        path,
        action: Action::Forward(PoolName::new(format!("rule {number}"))),
        policy: RoutePolicy::default(),
        position: RulePosition::default(),
    };
    RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", "fuzz"),
        created_unix_s: None,
        host: HostPattern::parse("a.test").expect("a host"),
        rules: paths.into_iter().enumerate().map(rule).collect(),
        default_backend: None,
        redirect_https: false,
    }
}

fn claim(path: &PathMatch) -> (bool, &str) {
    match path {
        PathMatch::Exact(path) => (true, path.as_str()),
        PathMatch::Prefix(path) => (false, path.without_trailing_slash()),
    }
}

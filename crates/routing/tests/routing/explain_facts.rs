//! What is told of a lookup is what the lookup did, and what is told of a change is all of it.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::Index};
use propylon_model::{Resources, RouteGroup, path::RequestPath};
use propylon_routing::{
    Found,
    explain::{Classes, Difference, PathClass, Precedence, Verdict, diff, trace},
};

use crate::build::{
    Answer, added, exact, find, forward, group, groups, nasty_path, pool, prefix, request_host, table, usual_path,
};

/// The verdicts by rule, in words.
fn verdicts(groups: &[RouteGroup], host: &str, path: &str) -> Vec<String> {
    let trace = trace(groups, host, path);
    let lines = trace.candidates.iter().map(|candidate| {
        let rule = candidate
            .rule
            .map_or_else(|| "default".to_owned(), |rule| rule.path.path().to_string());
        let verdict = match candidate.verdict {
            Verdict::Outranked { rule, .. } => format!("outranked by {}", rule.path.path()),
            Verdict::PassedOver => "passed over".to_owned(),
            Verdict::Selected => "selected".to_owned(),
            Verdict::Shadowed { by, why, .. } => format!("shadowed by {} {why:?}", by.source.name),
            Verdict::Unmatched => "unmatched".to_owned(),
        };
        format!("{} {rule}: {verdict}", candidate.group.source.name)
    });
    lines.collect()
}

#[test]
fn every_rule_has_its_verdict() {
    let mut old = group("old", "a.test", &[prefix("/x"), exact("/x")]);
    old.created_unix_s = Some(1);
    let mut young = group("young", "a.test", &[prefix("/x/"), prefix("/y"), prefix("/y")]);
    young.created_unix_s = Some(2);
    young.default_backend = Some((forward("d"), propylon_model::RoutePolicy::default()));
    let wild = group("wild", "*.test", &[prefix("/")]);
    let groups = [wild, young, old];
    assert_eq!(
        verdicts(&groups, "a.test", "/x/1"),
        [
            "old /x: unmatched",
            "old /x: selected",
            "young /y: unmatched",
            "young default: outranked by /x",
            "young /x/: shadowed by old Older",
            "young /y: unmatched",
            "wild /: passed over",
        ]
    );
    assert_eq!(
        verdicts(&groups, "a.test", "/y"),
        [
            "old /x: unmatched",
            "old /x: unmatched",
            "young /y: selected",
            "young default: outranked by /y",
            "young /x/: unmatched",
            "young /y: shadowed by young Position",
            "wild /: passed over",
        ]
    );
    assert_eq!(trace(&groups, "other", "/").pattern, None);
    assert!(verdicts(&groups, "b.test", "/").contains(&"wild /: selected".to_owned()));
}

#[test]
fn of_equally_old_objects_the_first_by_name_is_in_front() {
    let groups = [group("b", "", &[prefix("/")]), group("a", "", &[prefix("/")])];
    let trace = trace(&groups, "any", "/");
    assert_eq!(trace.selected().unwrap().group.source.name, "a".into());
    assert!(matches!(
        trace.candidates[1].verdict,
        Verdict::Shadowed {
            why: Precedence::Name,
            ..
        }
    ));
}

fn resources(groups: &[RouteGroup]) -> Resources {
    let named = added(groups)
        .into_iter()
        .filter_map(|(name, group)| Some((name, group?)));
    Resources {
        groups: named.collect::<BTreeMap<_, Arc<RouteGroup>>>(),
        ..Resources::default()
    }
}

fn changes(old: &[RouteGroup], new: &[RouteGroup]) -> Vec<String> {
    let lines = diff(&resources(old), &resources(new)).into_iter().map(|change| {
        let words: Vec<&str> = change
            .differences
            .iter()
            .map(|difference| difference.as_str())
            .collect();
        format!("{} {}: {}", change.class.host, change.class.path, words.join(" "))
    });
    lines.collect()
}

#[test]
fn a_new_rule_changes_what_is_below_it_only() {
    let old = [group("web", "a.test", &[prefix("/"), prefix("/x/y")])];
    let mut new = old.clone();
    new[0]
        .rules
        .insert(0, group("web", "a.test", &[prefix("/x")]).rules.remove(0));
    assert_eq!(changes(&old, &new), ["a.test /x/*: backend rule"]);
    assert_eq!(changes(&old, &old), Vec::<String>::new());
}

#[test]
fn hosts_that_appear_take_from_their_wildcard() {
    let wild = group("wild", "*.test", &[prefix("/")]);
    let old = [wild.clone()];
    let new = [wild, group("web", "a.test", &[exact("/x")])];
    assert_eq!(
        changes(&old, &new),
        ["a.test = /x: backend rule", "a.test /*: vanishes"]
    );
    assert_eq!(changes(&new, &old), ["a.test = /x: backend rule", "a.test /*: appears"]);
}

#[test]
fn redirects_and_timeouts_are_differences_too() {
    let old = [group("web", "", &[prefix("/")])];
    let mut new = old.clone();
    new[0].redirect_https = true;
    new[0].rules[0].policy.connect_timeout *= 2;
    assert_eq!(changes(&old, &new), ["(any other host) /*: policy redirect"]);
}

/// Groups whose rules share two pools, so that two rules may serve alike.
fn sharing(mut groups: Vec<RouteGroup>) -> Vec<RouteGroup> {
    for (number, group) in groups.iter_mut().enumerate() {
        for (position, rule) in group.rules.iter_mut().enumerate() {
            rule.action = forward(if (number + position) % 3 == 0 { "odd" } else { "usual" });
        }
        if let Some((action, _)) = &mut group.default_backend {
            *action = forward("usual");
        }
    }
    groups
}

/// A change of some groups: a few are dropped, a few replaced.
fn edited() -> impl Strategy<Value = (Vec<RouteGroup>, Vec<RouteGroup>)> {
    (
        groups(6).prop_map(sharing),
        groups(6).prop_map(sharing),
        vec(any::<(Index, bool)>(), 0..4),
    )
        .prop_map(|(old, other, edits)| {
            let mut new = old.clone();
            for (index, is_dropped) in edits {
                if new.is_empty() {
                    break;
                }
                let at = index.index(new.len());
                match other.get(at) {
                    Some(group) if !is_dropped => new[at] = group.clone(),
                    _ => drop(new.remove(at)),
                }
            }
            (old, new)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_trace_selects_what_the_table_finds(
        groups in groups(12),
        requests in vec((request_host(), prop_oneof![usual_path(), nasty_path()]), 1..20),
    ) {
        let table = table(&groups);
        for (host, raw) in requests {
            let Ok(path) = RequestPath::parse(&raw) else { continue };
            let trace = trace(&groups, host, path.normal());
            let answer = match (trace.pattern, trace.selected()) {
                (None, _) => Answer::NoHost,
                (Some(_), None) => Answer::NoPath,
                (Some(_), Some(candidate)) => pool(candidate.rule.map_or_else(
                    || &candidate.group.default_backend.as_ref().unwrap().0,
                    |rule| &rule.action,
                )),
            };
            if matches!(table.find(host, &path), Found::Ambiguous) {
                prop_assert!(path.has_encoded_slash());
            } else {
                prop_assert_eq!(find(&table, host, &raw), answer, "{} {}", host, raw);
            }
            let selected = trace.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Selected);
            prop_assert!(selected.count() <= 1);
            let claims = groups.iter().filter(|group| group.host.covers(host));
            let claims: usize = claims.map(|group| group.rules.len() + usize::from(group.default_backend.is_some())).sum();
            prop_assert_eq!(trace.candidates.len(), claims);
        }
    }

    #[test]
    fn a_candidate_matches_exactly_where_it_would_alone(groups in groups(6), host in request_host(), raw in usual_path()) {
        let path = RequestPath::parse(&raw).unwrap();
        for candidate in trace(&groups, host, path.normal()).candidates {
            let Some(rule) = candidate.rule else { continue };
            let mut alone = candidate.group.clone();
            alone.rules = vec![rule.clone()];
            alone.default_backend = None;
            if candidate.verdict != Verdict::PassedOver {
                let found = find(&table(&[alone]), host, &raw) != Answer::NoPath;
                prop_assert_eq!(found, candidate.verdict != Verdict::Unmatched, "{:?}", candidate);
            }
        }
    }

    #[test]
    fn every_request_whose_answer_differs_is_in_a_class_that_is_told(
        (old, new) in edited(),
        requests in vec((request_host(), prop_oneof![usual_path(), nasty_path()]), 1..40),
    ) {
        let changes = diff(&resources(&old), &resources(&new));
        let (old, new) = (table(&old), table(&new));
        let classes = Classes::of(&old, &new);
        for (host, raw) in requests {
            let Ok(path) = RequestPath::parse(&raw) else { continue };
            let told = |path: &str| changes.iter().any(|change| change.class == classes.class_of(host, path));
            if served(find(&old, host, &raw)) != served(find(&new, host, &raw)) {
                let readings = path.readings();
                prop_assert!(told(path.normal()) || readings.iter().any(|reading| told(reading)), "{} {}", host, raw);
            }
        }
    }

    #[test]
    fn what_is_told_is_so(pair in edited()) {
        let (old, new) = pair;
        for change in diff(&resources(&old), &resources(&new)) {
            let action = |route: &Option<Arc<propylon_routing::Route<_>>>| route.as_ref().map(|route| route.action.clone());
            let differs = action(&change.old) != action(&change.new);
            let only_rule = change.differences == [Difference::Rule];
            prop_assert_eq!(differs, !only_rule && change.differences.iter().any(|difference| matches!(
                difference, Difference::Appears | Difference::Backend | Difference::Vanishes)), "{:?}", change);
        }
    }

    #[test]
    fn classes_hold_their_own_examples_once(pair in edited()) {
        let classes = Classes::of(&table(&pair.0), &table(&pair.1));
        let mut seen = std::collections::BTreeSet::new();
        for (class, host, path) in classes.examples() {
            prop_assert_eq!(&classes.class_of(&host, &path), &class, "{} {}", host, path);
            prop_assert!(seen.insert(class));
        }
    }
}

/// 404 is 404, whether the host or the path is missing.
fn served(answer: Answer) -> Answer {
    match answer {
        Answer::NoHost => Answer::NoPath,
        answer => answer,
    }
}

#[test]
fn an_exact_rule_splits_its_prefix() {
    let groups = [group("web", "", &[prefix("/a"), exact("/a")])];
    let table = table(&groups);
    let classes = Classes::of(&table, &table);
    let path = |path: &str| classes.class_of("any", path).path;
    assert_eq!(path("/a"), PathClass::Exact("/a".to_owned()));
    assert_eq!(path("/a/"), PathClass::Below("/a".to_owned()));
    assert_eq!(path("/ab"), PathClass::Elsewhere);
}

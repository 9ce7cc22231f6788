//! A linear matcher, written to be obviously right.

use propylon_model::{HostPattern, PathMatch, RouteGroup};

use crate::build::{Answer, pool};

/// What the groups make of a host and a path in normal form.
pub(crate) fn find(groups: &[RouteGroup], host: &str, path: &str) -> Answer {
    let Some(pattern) = host_pattern(groups, host) else {
        return Answer::NoHost;
    };
    let mut best: Option<(Rank<'_>, Answer)> = None;
    for group in groups.iter().filter(|group| group.host == pattern) {
        let age = (
            group.created_unix_s.is_none(),
            group.created_unix_s,
            &*group.source.namespace,
            &*group.source.name,
        );
        let rules = group
            .rules
            .iter()
            .map(|rule| (strength(&rule.path, path), &rule.action));
        let default_backend = group.default_backend.iter().map(|(action, _)| (Some(0), action));
        for (position, (strength, action)) in rules.chain(default_backend).enumerate() {
            let Some(strength) = strength else { continue };
            let rank = (usize::MAX - strength, age, position);
            if best.as_ref().is_none_or(|(best_rank, _)| rank < *best_rank) {
                best = Some((rank, pool(action)));
            }
        }
    }
    best.map_or(Answer::NoPath, |(_, answer)| answer)
}

/// The lowest wins: the weakness of the match, then the age and name of the group, then the place in the group.
type Rank<'a> = (usize, (bool, Option<i64>, &'a str, &'a str), usize);

fn host_pattern(groups: &[RouteGroup], host: &str) -> Option<HostPattern> {
    let mut patterns: Vec<&HostPattern> = groups.iter().map(|group| &group.host).collect();
    patterns.sort_by_key(|pattern| match pattern {
        HostPattern::Exact(_) => 0,
        HostPattern::Wildcard(_) => 1,
        HostPattern::Any => 2,
    });
    let labels: Vec<&str> = host.split('.').collect();
    let applies = |pattern: &HostPattern| match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name.as_str() == host,
        HostPattern::Wildcard(suffix) => {
            !labels[0].is_empty() && labels[1..] == suffix.as_str().split('.').collect::<Vec<_>>()
        }
    };
    patterns.into_iter().find(|pattern| applies(pattern)).cloned()
}

/// How well a rule matches: none, or more for a longer rule, most for an exact one; a default backend has 0.
fn strength(rule: &PathMatch, path: &str) -> Option<usize> {
    match rule {
        PathMatch::Exact(rule) => (rule.as_str() == path).then_some(usize::MAX),
        PathMatch::Prefix(rule) => {
            let elements: Vec<&str> = rule.as_str().split('/').collect();
            let elements = elements.strip_suffix(&[""]).unwrap_or(&elements);
            let path: Vec<&str> = path.split('/').collect();
            path.starts_with(elements)
                .then(|| 1 + elements.iter().map(|element| element.len() + 1).sum::<usize>())
        }
    }
}

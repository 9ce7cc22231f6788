//! Why a request gets the rule that it gets: every rule that could have been meant, and what became of it.
//!
//! [`trace`] answers for people and reads every rule; [`crate::RouteTable::find`] answers requests. Both rest on
//! [`crate::merge`], and a property test holds them to the same answer.

mod classes;
mod diff;

use std::collections::HashMap;

use propylon_model::{HostPattern, PathMatch, RouteGroup, Rule};

use crate::merge::{Winner, claim, merge};

pub use classes::{Class, Classes, HostClass, PathClass};
pub use diff::{Change, Difference, Served, diff};

/// What the rules make of one host and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace<'a> {
    /// The host pattern whose rules were looked at; none where no pattern covers the host.
    pub pattern: Option<&'a HostPattern>,
    /// Every rule and default backend of the patterns that cover the host: those of the pattern that was looked at in
    /// match order, then what it shadows, then those of the patterns that were passed over.
    pub candidates: Vec<Candidate<'a>>,
}

impl<'a> Trace<'a> {
    /// The rule, or default backend, that serves.
    pub fn selected(&self) -> Option<&Candidate<'a>> {
        self.candidates
            .iter()
            .find(|candidate| candidate.verdict == Verdict::Selected)
    }
}

/// One rule, or one default backend, that could have been meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The group.
    pub group: &'a RouteGroup,
    /// The rule; none for the group's default backend.
    pub rule: Option<&'a Rule>,
    /// What became of it.
    pub verdict: Verdict<'a>,
}

/// Why a candidate serves, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Its path matches, but that of a better rule does too: an exact one, a longer prefix, or any rule before a default
    /// backend.
    Outranked {
        /// The group of the better rule.
        by: &'a RouteGroup,
        /// The better rule.
        rule: &'a Rule,
    },
    /// A more specific host pattern has rules: no others are looked at.
    PassedOver,
    /// It serves.
    Selected,
    /// Another one says the same and stands in front of it, whatever the request.
    Shadowed {
        /// The group of the one in front.
        by: &'a RouteGroup,
        /// The rule in front; none for a default backend.
        rule: Option<&'a Rule>,
        /// Why that one.
        why: Precedence,
    },
    /// Its path is another one.
    Unmatched,
}

/// Why one of two rules that say the same is in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Both objects are equally old, or undated: by namespace and name.
    Name,
    /// Its object is older; an undated one counts as the youngest.
    Older,
    /// Both stand in one object: the first.
    Position,
}

/// Looks at every rule for a canonical host (empty for none) and a path in normal form.
///
/// # Cost
/// n log n in the rules of the patterns that cover the host.
pub fn trace<'a>(groups: impl IntoIterator<Item = &'a RouteGroup>, host: &str, path: &str) -> Trace<'a> {
    let mut covering: Vec<&RouteGroup> = groups.into_iter().filter(|group| group.host.covers(host)).collect();
    covering.sort_by_key(|group| specificity(&group.host));
    let Some(first) = covering.first() else {
        return Trace::default();
    };
    let pattern = &first.host;
    let (consulted, passed_over): (Vec<_>, Vec<_>) = covering.into_iter().partition(|group| group.host == *pattern);
    let mut candidates = judge(&consulted, path);
    candidates.extend(passed_over.into_iter().flat_map(|group| {
        claims(group).map(|rule| Candidate {
            group,
            rule,
            verdict: Verdict::PassedOver,
        })
    }));
    Trace {
        pattern: Some(pattern),
        candidates,
    }
}

/// The candidates of one host pattern.
fn judge<'a>(groups: &[&'a RouteGroup], path: &str) -> Vec<Candidate<'a>> {
    let merged = merge(groups.iter().copied());
    let best = merged.rules.iter().find(|winner| matches(&winner.rule.path, path));
    let mut candidates: Vec<Candidate<'a>> = merged
        .rules
        .iter()
        .map(|winner| Candidate {
            group: winner.group,
            rule: Some(winner.rule),
            verdict: match best {
                Some(best) if best == winner => Verdict::Selected,
                Some(best) if matches(&winner.rule.path, path) => outranked(best),
                _ => Verdict::Unmatched,
            },
        })
        .collect();
    candidates.extend(merged.default_backend.map(|group| Candidate {
        group,
        rule: None,
        verdict: best.map_or(Verdict::Selected, outranked),
    }));
    let in_front: HashMap<(bool, &str), &Winner<'a>, foldhash::fast::RandomState> = merged
        .rules
        .iter()
        .map(|winner| (claim(&winner.rule.path), winner))
        .collect();
    for group in groups {
        for rule in claims(group) {
            let (by, front) = match rule {
                Some(rule) => match in_front.get(&claim(&rule.path)) {
                    Some(winner) if !std::ptr::eq(winner.rule, rule) => (winner.group, Some(winner.rule)),
                    _ => continue,
                },
                None => match merged.default_backend {
                    Some(winner) if !std::ptr::eq(winner, *group) => (winner, None),
                    _ => continue,
                },
            };
            let is_matched = rule.is_none_or(|rule| matches(&rule.path, path));
            candidates.push(Candidate {
                group,
                rule,
                verdict: if is_matched {
                    Verdict::Shadowed {
                        by,
                        rule: front,
                        why: precedence(by, group),
                    }
                } else {
                    Verdict::Unmatched
                },
            });
        }
    }
    candidates
}

fn outranked<'a>(best: &Winner<'a>) -> Verdict<'a> {
    Verdict::Outranked {
        by: best.group,
        rule: best.rule,
    }
}

/// The rules of a group, then `None` where it has a default backend.
fn claims(group: &RouteGroup) -> impl Iterator<Item = Option<&Rule>> {
    let default_backend = group.default_backend.as_ref().map(|_| None);
    group.rules.iter().map(Some).chain(default_backend)
}

fn precedence(winner: &RouteGroup, loser: &RouteGroup) -> Precedence {
    if winner.source == loser.source {
        Precedence::Position
    } else if winner.created_unix_s == loser.created_unix_s {
        Precedence::Name
    } else {
        Precedence::Older
    }
}

/// Exact before wildcard before none.
fn specificity(pattern: &HostPattern) -> u8 {
    match pattern {
        HostPattern::Exact(_) => 0,
        HostPattern::Wildcard(_) => 1,
        HostPattern::Any => 2,
    }
}

/// Whether a rule's path matches a path in normal form: the whole of it, or its first elements.
fn matches(rule: &PathMatch, path: &str) -> bool {
    match rule {
        PathMatch::Exact(rule) => rule.as_str() == path,
        PathMatch::Prefix(rule) => path
            .strip_prefix(rule.without_trailing_slash())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

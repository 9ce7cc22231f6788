//! Which rules of a host win where several objects, or one object twice, claim the same requests.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, hash_map::Entry},
};

use propylon_model::{HostPattern, ObjectRef, PathMatch, Resources, RouteGroup, Rule, RulePosition};

/// A rule, or a default backend, that another one of the same host stands in front of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conflict {
    /// The object whose rule does not serve; its other rules do.
    pub loser: ObjectRef,
    /// The object whose rule serves: the older one, or the loser itself where it says the same twice.
    pub winner: ObjectRef,
    /// The host of both.
    pub host: HostPattern,
    /// What the losing rule matches; none for a default backend.
    pub path: Option<PathMatch>,
    /// Where the losing rule stands in its object; none for a default backend.
    pub position: Option<RulePosition>,
    /// Where the winning rule stands in its object; none for a default backend.
    pub winner_position: Option<RulePosition>,
}

/// A rule that serves, and the group that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner<'a> {
    /// The group.
    pub group: &'a RouteGroup,
    /// The rule.
    pub rule: &'a Rule,
}

/// What serves of the groups of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged<'a> {
    /// The rules in match order: `Exact` by path, then `Prefix`, the longest first, by path.
    pub rules: Vec<Winner<'a>>,
    /// The group whose default backend serves.
    pub default_backend: Option<&'a RouteGroup>,
    /// What does not serve, in the order of the losers' age, then of their rules.
    pub conflicts: Vec<Conflict>,
}

/// Merges the groups of one host, in whatever order they come.
///
/// Two rules conflict where type and path are the same; a trailing slash of a `Prefix` does not count. The oldest group
/// wins, undated ones come last, ties go by namespace and name; within a group the first rule wins. Default backends
/// conflict with each other in the same way.
///
/// # Cost
/// n log n in the rules.
pub fn merge<'a>(groups: impl IntoIterator<Item = &'a RouteGroup>) -> Merged<'a> {
    let mut groups: Vec<&RouteGroup> = groups.into_iter().collect();
    groups.sort_by_key(|group| seniority(group));
    let rule_count = groups.iter().map(|group| group.rules.len()).sum();
    let mut merged = Merged {
        rules: Vec::with_capacity(rule_count),
        ..Merged::default()
    };
    let mut winners: HashMap<(bool, &str), Winner<'_>, foldhash::fast::RandomState> = HashMap::default();
    winners.reserve(rule_count);
    for group in groups {
        for rule in &group.rules {
            match winners.entry(claim(&rule.path)) {
                Entry::Occupied(winner) => {
                    merged.conflicts.push(rule_conflict(group, rule, winner.get()));
                }
                Entry::Vacant(claim) => {
                    let winner = Winner { group, rule };
                    claim.insert(winner);
                    merged.rules.push(winner);
                }
            }
        }
        if group.default_backend.is_some() {
            match merged.default_backend {
                Some(winner) => merged.conflicts.push(default_conflict(group, winner)),
                None => merged.default_backend = Some(group),
            }
        }
    }
    merged.rules.sort_unstable_by_key(|winner| {
        let (is_prefix, path) = claim(&winner.rule.path);
        (
            is_prefix,
            if is_prefix { Reverse(path.len()) } else { Reverse(0) },
            path,
        )
    });
    merged
}

/// Every conflict between the groups, in the order of the hosts.
///
/// # Cost
/// n log n in all rules.
pub fn conflicts(resources: &Resources) -> Vec<Conflict> {
    let mut hosts: BTreeMap<&HostPattern, Vec<&RouteGroup>> = BTreeMap::new();
    for group in resources.groups.values() {
        hosts.entry(&group.host).or_default().push(group);
    }
    hosts.into_values().flat_map(|groups| merge(groups).conflicts).collect()
}

/// The oldest first, undated ones last, then by namespace and name.
fn seniority(group: &RouteGroup) -> (bool, Option<i64>, &ObjectRef) {
    (group.created_unix_s.is_none(), group.created_unix_s, &group.source)
}

/// What two rules of one host must not both say.
pub(crate) fn claim(path: &PathMatch) -> (bool, &str) {
    match path {
        PathMatch::Exact(path) => (false, path.as_str()),
        PathMatch::Prefix(path) => (true, path.without_trailing_slash()),
    }
}

fn rule_conflict(loser: &RouteGroup, rule: &Rule, winner: &Winner<'_>) -> Conflict {
    Conflict {
        path: Some(rule.path.clone()),
        position: Some(rule.position),
        winner_position: Some(winner.rule.position),
        ..default_conflict(loser, winner.group)
    }
}

fn default_conflict(loser: &RouteGroup, winner: &RouteGroup) -> Conflict {
    Conflict {
        loser: loser.source.clone(),
        winner: winner.source.clone(),
        host: loser.host.clone(),
        path: None,
        position: None,
        winner_position: None,
    }
}

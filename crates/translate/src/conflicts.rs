//! Reports of the rules that another one stands in front of, as `routing` merges them.

use std::collections::BTreeMap;

use propylon_model::{HostPattern, ObjectRef, PathMatch, ReportReason, Resources};
use propylon_routing::{Conflict, conflicts};

use crate::reports::Reports;

pub(crate) fn report(resources: &Resources, reports: &mut Reports) {
    let created: BTreeMap<&ObjectRef, Option<i64>> = resources
        .groups
        .values()
        .map(|group| (&group.source, group.created_unix_s))
        .collect();
    for conflict in conflicts(resources) {
        let is_older = created.get(&conflict.winner) != created.get(&conflict.loser);
        reports.add(
            &conflict.loser,
            ReportReason::RouteConflict,
            message(&conflict, is_older),
        );
    }
}

fn message(conflict: &Conflict, is_older: bool) -> String {
    let host = match &conflict.host {
        HostPattern::Any => "without a host".to_owned(),
        host => format!("on host {host}"),
    };
    let field = conflict.position.map_or_else(
        || "spec.defaultBackend".to_owned(),
        |position| format!("{position}.path"),
    );
    let what = match &conflict.path {
        None => format!("{field}: the default backend {host}"),
        Some(PathMatch::Exact(path)) => format!("{field}: Exact path {path} {host}"),
        Some(PathMatch::Prefix(path)) => format!("{field}: Prefix path {path} {host}"),
    };
    let winner = &conflict.winner;
    if *winner == conflict.loser {
        let first = conflict.winner_position.map_or_else(
            || "the first one".to_owned(),
            |position| format!("the first one, {position},"),
        );
        return format!("{what} stands twice in this object; {first} serves, remove the other");
    }
    let why = if is_older {
        "which is older"
    } else {
        "which is as old and comes first by namespace and name"
    };
    format!("{what} is served by {winner}, {why}; what else this object says still serves; change one of the two")
}

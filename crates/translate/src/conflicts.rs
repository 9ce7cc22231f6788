//! Reports of the rules that another one stands in front of, as `routing` merges them.

use propylon_model::{HostPattern, ObjectRef, PathMatch, ReportReason, RouteGroup};
use propylon_routing::{Conflict, merge};

use crate::reports::Reports;

/// Reports the conflicts between the groups of one host.
pub(crate) fn report(groups: &[&RouteGroup], reports: &mut Reports) {
    let created = |source: &ObjectRef| {
        let group = groups.iter().find(|group| group.source == *source);
        group.map(|group| group.created_unix_s)
    };
    for conflict in merge(groups.iter().copied()).conflicts {
        let is_older = created(&conflict.winner) != created(&conflict.loser);
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

//! Rules in words: which one serves, and why the others do not.

use propylon_model::{HostPattern, ObjectRef, PathMatch, RouteGroup, RoutePolicy, Rule, RulePosition};
use propylon_routing::{
    Route,
    explain::{Candidate, Precedence, Verdict},
};

use super::{PolicyView, RuleView, WinnerView};
use crate::config::millis;

/// A candidate with its verdict; `pattern` is the host pattern that was looked at.
pub(super) fn view(candidate: &Candidate<'_>, pattern: Option<&HostPattern>) -> RuleView {
    let (path_type, path) = path_view(candidate.rule.map(|rule| &rule.path));
    let (verdict, by, why) = verdict(candidate, pattern);
    RuleView {
        object: candidate.group.source.to_string(),
        field: field(candidate.rule.map(|rule| rule.position)),
        host: candidate.group.host.to_string(),
        path_type,
        path,
        verdict: verdict.to_owned(),
        by,
        why,
    }
}

/// Object and field of a candidate.
pub(super) fn name(candidate: &Candidate<'_>) -> String {
    name_of(candidate.group, candidate.rule)
}

/// The rule that the table found.
pub(super) fn winner<T>(route: &Route<T>) -> WinnerView {
    let (path_type, path) = path_view(route.path.as_ref());
    WinnerView {
        object: route.source.to_string(),
        field: field(route.position),
        rule_index: route.position.map(|position| position.rule),
        path_index: route.position.map(|position| position.path),
        path_type,
        path,
        policy: policy(&route.policy),
    }
}

fn verdict(candidate: &Candidate<'_>, pattern: Option<&HostPattern>) -> (&'static str, Option<String>, String) {
    let own = candidate.rule.map(|rule| &rule.path);
    match candidate.verdict {
        Verdict::Outranked { by, rule } => {
            let why = match (own, &rule.path) {
                (None, _) => "a rule matches, and rules go before a default backend",
                (Some(_), PathMatch::Exact(_)) => "an Exact path goes before a Prefix",
                (Some(_), PathMatch::Prefix(_)) => "a longer Prefix matches",
            };
            ("outranked", Some(name_of(by, Some(rule))), why.to_owned())
        }
        Verdict::PassedOver => {
            let pattern = pattern.map(ToString::to_string).unwrap_or_default();
            let why = format!("host {pattern} is more specific, and only its rules are looked at");
            ("passedOver", None, why)
        }
        Verdict::Selected => {
            let why = match own {
                None => "no rule matches, so the default backend serves",
                Some(PathMatch::Exact(_)) => "the path is exactly this one",
                Some(PathMatch::Prefix(_)) => "the longest Prefix that matches",
            };
            ("selected", None, why.to_owned())
        }
        Verdict::Shadowed { by, rule, why } => {
            let why = match why {
                Precedence::Name => {
                    "the same host and path in an object that is as old and comes first by namespace and name"
                }
                Precedence::Older => "the same host and path in an older object",
                Precedence::Position => "the same host and path earlier in this object",
            };
            ("shadowed", Some(name_of(by, rule)), why.to_owned())
        }
        Verdict::Unmatched => {
            let why = match own {
                Some(PathMatch::Exact(_)) => "the path is not exactly this one",
                _ => "the path is not below it",
            };
            ("unmatched", None, why.to_owned())
        }
    }
}

fn name_of(group: &RouteGroup, rule: Option<&Rule>) -> String {
    named(&group.source, rule.map(|rule| rule.position))
}

fn named(source: &ObjectRef, position: Option<RulePosition>) -> String {
    format!("{source} {}", field(position))
}

fn field(position: Option<RulePosition>) -> String {
    position.map_or_else(|| "spec.defaultBackend".to_owned(), |position| position.to_string())
}

fn path_view(path: Option<&PathMatch>) -> (String, Option<String>) {
    let path_type = match path {
        None => "DefaultBackend",
        Some(PathMatch::Exact(_)) => "Exact",
        Some(PathMatch::Prefix(_)) => "Prefix",
    };
    (path_type.to_owned(), path.map(|path| path.path().to_string()))
}

fn policy(policy: &RoutePolicy) -> PolicyView {
    PolicyView {
        connect_timeout_ms: millis(policy.connect_timeout),
        response_timeout_ms: millis(policy.response_timeout),
        response_idle_timeout_ms: millis(policy.response_idle_timeout),
        request_timeout_ms: policy.request_timeout.map(millis),
        tunnel_idle_timeout_ms: millis(policy.tunnel_idle_timeout),
        retries: policy.retry.attempts,
        retry_on: policy.retry.on.names().map(str::to_owned).collect(),
    }
}

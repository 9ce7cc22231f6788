//! Rules that no request reaches, and rules that take more from others than their author may expect.

use std::collections::BTreeSet;

use propylon_model::{HostPattern, ReportReason, RouteGroup};

use super::{View, host_field, wildcard_above};
use crate::{
    classes::Served,
    reports::{Reports, name_some},
};

pub(super) fn check(view: &View<'_>, reports: &mut Reports) {
    for ingress in &view.served {
        unreached_default(view, ingress, reports);
        without_effect(view, ingress, reports);
        hides_wider_host(view, ingress, reports);
    }
}

/// A default backend behind a `/` that takes all requests of its host, on every host.
fn unreached_default(view: &View<'_>, ingress: &Served<'_>, reports: &mut Reports) {
    let mut takers = BTreeSet::new();
    for group in view.groups_of(&ingress.object) {
        let taker = view.hosts.get(&group.host).and_then(|host| host.catch_all);
        match taker.filter(|_| group.default_backend.is_some()) {
            Some(taker) => takers.insert((&group.host, taker)),
            None => return,
        };
    }
    if takers.is_empty() {
        return;
    }
    let takers = takers.into_iter().map(|(host, taker)| {
        let whose = if *taker == ingress.object {
            "this object".to_owned()
        } else {
            taker.to_string()
        };
        format!("{} (of {whose})", describe(host))
    });
    let message = format!(
        "spec.defaultBackend: no request reaches it, because a Prefix path / takes all that is left {}; remove one of the two",
        name_some(takers)
    );
    reports.add(&ingress.object, ReportReason::RouteShadowed, message);
}

/// An Ingress all of whose rules lose to others.
fn without_effect(view: &View<'_>, ingress: &Served<'_>, reports: &mut Reports) {
    let Some(winners) = view.losers.get(&ingress.object) else {
        return;
    };
    let serves = |group: &&RouteGroup| {
        view.hosts.get(&group.host).is_some_and(|host| {
            let by_default = host.default == Some(&ingress.object) && host.catch_all.is_none();
            by_default || host.serving.contains(&ingress.object)
        })
    };
    if !view.groups_of(&ingress.object).iter().any(serves) {
        let message = format!(
            "spec.rules: no request reaches this Ingress, because all that it says is served by {}; remove it, or change its \
             hosts or paths",
            name_some(winners)
        );
        reports.add(&ingress.object, ReportReason::RouteShadowed, message);
    }
}

/// An exact host, not served whole, that a wildcard or the rules without a host would serve if it were not named.
fn hides_wider_host(view: &View<'_>, ingress: &Served<'_>, reports: &mut Reports) {
    for group in view.groups_of(&ingress.object) {
        let any = || view.hosts.get_key_value(&HostPattern::Any);
        let wildcard = wildcard_above(&group.host).and_then(|wildcard| view.hosts.get_key_value(&wildcard));
        let Some((wider, rules)) = wildcard.or_else(any).filter(|(wider, _)| **wider != &group.host) else {
            continue;
        };
        let is_whole = view
            .hosts
            .get(&group.host)
            .is_some_and(|host| host.catch_all.is_some() || host.default.is_some());
        // Without rules it says no more than what becomes of requests that nobody else wants.
        if is_whole || rules.serving.is_empty() {
            continue;
        }
        let Some(field) = host_field(ingress, &group.host) else {
            continue;
        };
        let message = format!(
            "{field}: requests for {} come to the rules that name it alone, so those for other paths are answered 404, and not \
             served by the rules {} (of {}); add a Prefix path / if that is not meant",
            group.host,
            describe(wider),
            name_some(&rules.serving)
        );
        reports.add(&ingress.object, ReportReason::HostHidesWildcard, message);
    }
}

fn describe(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "without a host".to_owned(),
        host => format!("for {host}"),
    }
}

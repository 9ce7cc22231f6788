//! What a linter says beyond the reports of a compile: what is served as written, and probably not as meant.
//!
//! None of it belongs on a running cluster: it would be an Event for something that works.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressRule};
use propylon_model::{HostPattern, ObjectRef, PathMatch, Report, Resources, RouteGroup};
use propylon_routing::merge;

use crate::{
    classes::{self, Served},
    reports::Reports,
    world::{Options, World},
};

mod annotations;
mod hosts;
mod objects;
mod paths;
mod shadows;

/// Looks for what is probably a mistake in a world that these resources were compiled of. The reports are by object,
/// reason and message, each once, and none of them is one of the compile.
///
/// # Cost
/// n log n in the world.
pub fn lint(world: &World, options: &Options, resources: &Resources) -> Vec<Report> {
    let mut reports = Reports::default();
    let view = View::new(world, options, resources);
    annotations::check(&view, &mut reports);
    hosts::check(&view, &mut reports);
    objects::check(&view, &mut reports);
    paths::check(&view, &mut reports);
    shadows::check(&view, &mut reports);
    reports.into_sorted()
}

/// What the checks look at.
struct View<'a> {
    world: &'a World,
    options: &'a Options,
    resources: &'a Resources,
    /// The Ingresses that are served, oldest first.
    served: Vec<Served<'a>>,
    hosts: BTreeMap<&'a HostPattern, Host<'a>>,
    /// The groups that each object gave.
    groups: BTreeMap<&'a ObjectRef, Vec<&'a RouteGroup>>,
    /// The objects that have a rule which another object's stands in front of, by that other one.
    losers: BTreeMap<ObjectRef, BTreeSet<ObjectRef>>,
    /// Hosts of which Propylon hands TLS on unopened.
    passthrough: BTreeSet<&'a HostPattern>,
}

/// What is known of one host.
#[derive(Default)]
struct Host<'a> {
    groups: Vec<&'a RouteGroup>,
    /// The objects that have a rule, or the default backend, that serves.
    serving: BTreeSet<&'a ObjectRef>,
    /// The object whose `Prefix` path `/` takes what no longer path does.
    catch_all: Option<&'a ObjectRef>,
    /// The object whose default backend serves; no request reaches it behind a `catch_all`.
    default: Option<&'a ObjectRef>,
}

impl<'a> View<'a> {
    fn new(world: &'a World, options: &'a Options, resources: &'a Resources) -> Self {
        let mut hosts: BTreeMap<&HostPattern, Host<'_>> = BTreeMap::new();
        let mut groups: BTreeMap<&ObjectRef, Vec<&RouteGroup>> = BTreeMap::new();
        for group in resources.groups.values() {
            hosts.entry(&group.host).or_default().groups.push(group);
            groups.entry(&group.source).or_default().push(group);
        }
        let mut losers: BTreeMap<ObjectRef, BTreeSet<ObjectRef>> = BTreeMap::new();
        for host in hosts.values_mut() {
            let merged = merge(host.groups.iter().copied());
            host.serving = merged.rules.iter().map(|winner| &winner.group.source).collect();
            host.catch_all = merged
                .rules
                .iter()
                .find(|winner| takes_all(&winner.rule.path))
                .map(|winner| &winner.group.source);
            host.default = merged.default_backend.map(|group| &group.source);
            for conflict in merged
                .conflicts
                .into_iter()
                .filter(|conflict| conflict.winner != conflict.loser)
            {
                losers.entry(conflict.loser).or_default().insert(conflict.winner);
            }
        }
        Self {
            world,
            options,
            resources,
            // What it says was said by the compile.
            served: classes::served(world, options),
            hosts,
            groups,
            losers,
            passthrough: resources.passthrough.values().map(|entry| &entry.host).collect(),
        }
    }

    /// The groups that an Ingress gave.
    fn groups_of(&self, ingress: &ObjectRef) -> &[&'a RouteGroup] {
        self.groups.get(ingress).map_or(&[], Vec::as_slice)
    }
}

fn takes_all(path: &PathMatch) -> bool {
    match path {
        PathMatch::Exact(_) => false,
        PathMatch::Prefix(path) => path.without_trailing_slash().is_empty(),
    }
}

/// The rules of an Ingress.
fn rules<'a>(ingress: &Served<'a>) -> impl Iterator<Item = (usize, &'a IngressRule)> + use<'a> {
    let spec = ingress.ingress.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.rules.iter().flatten())
        .enumerate()
}

/// The paths of an Ingress, with their fields.
fn paths<'a>(ingress: &Served<'a>) -> impl Iterator<Item = (String, &'a HTTPIngressPath)> + use<'a> {
    rules(ingress).flat_map(|(rule, given)| {
        let paths = given.http.iter().flat_map(|http| &http.paths).enumerate();
        paths.map(move |(path, given)| (format!("spec.rules[{rule}].http.paths[{path}]"), given))
    })
}

/// The field of the first rule of an Ingress for a host.
fn host_field(ingress: &Served<'_>, host: &HostPattern) -> Option<String> {
    rules(ingress)
        .find(|(_, rule)| pattern(rule).as_ref() == Some(host))
        .map(|(index, _)| format!("spec.rules[{index}].host"))
}

/// The host of a rule; none where it is malformed.
fn pattern(rule: &IngressRule) -> Option<HostPattern> {
    HostPattern::parse(rule.host.as_deref().unwrap_or_default()).ok()
}

/// The wildcard that takes the requests of a host where no rule names it.
fn wildcard_above(host: &HostPattern) -> Option<HostPattern> {
    match host {
        HostPattern::Exact(name) => {
            let (_, suffix) = name.as_str().split_once('.')?;
            HostPattern::parse(&format!("*.{suffix}")).ok()
        }
        HostPattern::Any | HostPattern::Wildcard(_) => None,
    }
}

#[cfg(test)]
mod tests;

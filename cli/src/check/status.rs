//! `propylon status`: what is installed and what it serves, of a cluster or of a folder.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use propylon_kit::clock;
use propylon_model::{Kind, ObjectRef, ReportReason, Severity};
use propylon_translate::{Compiler, Key, Options, ReportsByObject, World};
use serde::Serialize;

use super::{CheckError, Form, cluster::read as read_installation, facts::Facts};
use crate::{
    cluster::{ClusterArgs, block_on, read},
    failure::Failure,
    folder::Folder,
    run::CompileArgs,
};

/// Flags of `propylon status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// Folder of manifests instead of a cluster
    #[arg(short = 'f', long = "manifests", value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    folder: Option<PathBuf>,
    /// Which cluster
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    schema: u32,
    /// The installation; none of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<Installation>,
    ingresses: Vec<IngressView>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Installation {
    kubernetes: String,
    namespace: String,
    workloads: Vec<WorkloadView>,
    /// Empty: nobody leads.
    leader: String,
    proxies: Vec<ProxyView>,
}

/// A Deployment or `DaemonSet`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadView {
    name: String,
    component: String,
    version: String,
    wanted: i32,
    ready: i32,
}

/// A proxy that follows a replica of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyView {
    name: String,
    node: String,
    /// The version of its configuration: equal ones are equal everywhere.
    state: String,
    /// The replica.
    follows: String,
}

/// One Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IngressView {
    name: String,
    served: bool,
    hosts: Vec<String>,
    addresses: Vec<String>,
    errors: usize,
    warnings: usize,
}

/// Shows what is installed and served.
pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let overview = match &args.folder {
        Some(folder) => of_folder(folder)?,
        None => block_on(of_cluster(&args.cluster))??,
    };
    let answer = match args.output {
        Form::Json => serde_json::to_string_pretty(&overview).unwrap_or_default(),
        Form::Text => text(&overview).join("\n"),
    };
    // Where standard output is gone, nobody can be told.
    drop(writeln!(io::stdout().lock(), "{answer}"));
    Ok(ExitCode::SUCCESS)
}

fn of_folder(root: &Path) -> Result<Overview, Failure> {
    let mut folder = Folder::open_named("folder", root)?;
    folder.read();
    let mut compiler = Compiler::new(CompileArgs::default().into_options(Vec::new()));
    compiler.follow(folder.world());
    compiler.compile(now_unix_s());
    Ok(Overview {
        schema: SCHEMA,
        ingresses: ingresses(folder.world(), compiler.reports(), &BTreeMap::new()),
        missing: folder.reports().iter().map(ToString::to_string).collect(),
        ..Overview::default()
    })
}

async fn of_cluster(args: &ClusterArgs) -> Result<Overview, Failure> {
    let client = args.connect().await?;
    let facts = read_installation(&client, &args.namespace()).await;
    let facts = facts.map_err(CheckError::Api)?;
    let reading = read(&client).await;
    let mut compiler = Compiler::new(Options::default());
    compiler.follow(&reading.world);
    compiler.compile(facts.now_unix_s);
    Ok(Overview {
        schema: SCHEMA,
        installation: Some(installation(&facts)),
        ingresses: ingresses(&reading.world, compiler.reports(), &reading.addresses),
        missing: reading.missing,
    })
}

fn installation(facts: &Facts) -> Installation {
    let workloads = facts.workloads.iter().map(|found| WorkloadView {
        name: found.title.clone(),
        component: found.component.clone(),
        version: found.version.clone(),
        wanted: found.desired,
        ready: found.ready,
    });
    let told = facts.replicas.iter().flat_map(|replica| {
        let told = replica.told.iter().flatten();
        told.map(|(proxy, told)| ProxyView {
            name: proxy.clone(),
            node: told.node.clone(),
            state: told.version.to_string(),
            follows: replica.pod.clone(),
        })
    });
    let leader = facts.leader.as_ref().map(|leader| leader.holder.clone());
    Installation {
        kubernetes: facts.kubernetes.clone(),
        namespace: facts.namespace.clone(),
        workloads: workloads.collect(),
        leader: leader.unwrap_or_default(),
        proxies: told.collect(),
    }
}

fn ingresses(world: &World, reports: &ReportsByObject, addresses: &BTreeMap<Key, Vec<String>>) -> Vec<IngressView> {
    let views = world.ingresses.iter().map(|(key, ingress)| {
        let object = ObjectRef::new(Kind::Ingress, key.namespace.clone(), key.name.clone());
        let reports = reports.get(&object).map_or(&[][..], |reports| reports);
        let count = |severity: Severity| reports.iter().filter(|report| report.severity() == severity).count();
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        let hosts = rules.map(|rule| rule.host.clone().unwrap_or_else(|| "*".to_owned()));
        IngressView {
            name: key.to_string(),
            served: !reports.iter().any(|report| report.reason == ReportReason::ClassNotOurs),
            hosts: hosts.collect(),
            addresses: addresses.get(key).cloned().unwrap_or_default(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        }
    });
    views.collect()
}

/// The overview for people.
pub(super) fn text(overview: &Overview) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(facts) = &overview.installation {
        lines.push(format!(
            "Kubernetes {}, namespace {}",
            facts.kubernetes, facts.namespace
        ));
        if facts.workloads.is_empty() {
            lines.push("nothing is installed there; name the namespace with -n".to_owned());
        }
        for found in &facts.workloads {
            lines.push(format!(
                "{} {}: {} of {} ready, version {}",
                found.component, found.name, found.ready, found.wanted, found.version
            ));
        }
        if !facts.leader.is_empty() {
            lines.push(format!("leader {}", facts.leader));
        }
        for proxy in &facts.proxies {
            let ProxyView {
                name,
                node,
                state,
                follows,
            } = proxy;
            let state = state.get(..12).unwrap_or(state);
            lines.push(format!("proxy {name} on {node}: state {state}, follows {follows}"));
        }
    }
    for ingress in &overview.ingresses {
        let state = if ingress.served { "" } else { " (of another class)" };
        let addresses = match ingress.addresses.as_slice() {
            [] => "no address".to_owned(),
            addresses => addresses.join(", "),
        };
        let faults = match (ingress.errors, ingress.warnings) {
            (0, 0) => String::new(),
            (errors, warnings) => format!("; {errors} errors, {warnings} warnings"),
        };
        let hosts = ingress.hosts.join(", ");
        lines.push(format!("Ingress {}{state}: {hosts}; {addresses}{faults}", ingress.name));
    }
    lines.extend(overview.missing.iter().map(|missing| format!("not read: {missing}")));
    lines
}

/// The number of the form for scripts.
const SCHEMA: u32 = 1;

fn now_unix_s() -> i64 {
    i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use propylon_model::Report;

    use super::*;

    #[test]
    fn an_ingress_is_one_line_with_its_faults() {
        let mut world = World::default();
        for name in ["web", "other"] {
            let text = propylon_testkit::manifest::ingress("shop", name)
                .prefix("h.example", "/", "web", 80)
                .yaml();
            for object in propylon_translate::manifest::parse(&text) {
                world.insert(propylon_translate::admit::admit(object.unwrap()).unwrap());
            }
        }
        let report = |name, reason| {
            let object = ObjectRef::new(Kind::Ingress, "shop", name);
            (object.clone(), [Report::new(object, reason, "why")].into())
        };
        let reports = [
            report("web", ReportReason::BackendServiceNotFound),
            report("other", ReportReason::ClassNotOurs),
        ];
        let addresses = [(Key::new("shop", "web"), vec!["192.0.2.1".to_owned()])].into();
        let overview = Overview {
            ingresses: ingresses(&world, &reports.into(), &addresses),
            ..Overview::default()
        };
        let wanted = [
            "Ingress shop/other (of another class): h.example; no address",
            "Ingress shop/web: h.example; 192.0.2.1; 0 errors, 1 warnings",
        ];
        assert_eq!(text(&overview), wanted);
    }
}

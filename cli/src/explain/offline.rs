//! A folder of manifests, compiled as `propylon run` does it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Parser};
use propylon_kit::clock;
use propylon_model::{Kind, Report, Resources, Severity};
use propylon_proxy::{
    config::{Config, DataPlaneArgs, Switch},
    explain::{BackendView, Explainer, Explanation, Query, RuleView},
};
use propylon_translate::Options;

use super::ExplainError;
use crate::{
    cluster::{ClusterArgs, ClusterError, block_on, read},
    compiler::Compiler,
    failure::Failure,
    folder::Folder,
    run::CompileArgs,
};

/// The flags of the data plane that a request depends on; where one is not given, the environment and the default of
/// `propylon run` hold.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ServingArgs {
    /// With -f: address for plain HTTP (repeatable; `off` switches it off)
    #[arg(long = "http", value_name = "ADDR:PORT", value_delimiter = ',')]
    listen_http: Vec<String>,
    /// With -f: address for HTTPS (repeatable; `off` switches it off)
    #[arg(long = "https", value_name = "ADDR:PORT", value_delimiter = ',')]
    listen_https: Vec<String>,
    /// With -f: port in redirects to HTTPS
    #[arg(long = "https-public-port", value_name = "N")]
    redirect_port: Option<u16>,
    /// With -f: peers whose forwarded headers are believed
    #[arg(long = "trusted-proxies", value_name = "CIDR,...", value_delimiter = ',')]
    believed_proxies: Vec<String>,
    /// With -f: add `Via` to requests
    #[arg(long = "via", value_enum)]
    via_field: Option<Switch>,
    /// With -f: longest request head in bytes
    #[arg(long = "max-header-bytes", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    most_header_bytes: Option<u32>,
    /// With -f: most request header fields
    #[arg(long = "max-headers", value_name = "N", value_parser = clap::value_parser!(u32).range(8..=4096))]
    most_headers: Option<u32>,
    /// With -f: longest request target in bytes
    #[arg(long = "max-uri-bytes", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(256..=65_000))]
    most_uri_bytes: Option<u32>,
    /// With -f: key of affinity cookies, so that one given with -H can be read
    #[arg(long = "sticky-key-file", value_name = "FILE")]
    sticky_key: Option<PathBuf>,
    /// With -f: name of the node that the proxy runs on
    #[arg(long = "node", value_name = "NAME")]
    here_node: Option<String>,
    /// With -f: zone of that node
    #[arg(long = "zone", value_name = "NAME")]
    here_zone: Option<String>,
}

impl ServingArgs {
    fn into_config(self) -> Result<Config, Failure> {
        #[derive(Parser)]
        struct Run {
            #[command(flatten)]
            args: DataPlaneArgs,
        }
        let mut args = Run::parse_from(["propylon explain"]).args;
        for (own, default) in [
            (self.listen_http, &mut args.http),
            (self.listen_https, &mut args.https),
            (self.believed_proxies, &mut args.trusted_proxies),
        ] {
            if !own.is_empty() {
                *default = own;
            }
        }
        args.https_public_port = self.redirect_port.or(args.https_public_port);
        args.via = self.via_field.unwrap_or(args.via);
        args.max_header_bytes = self.most_header_bytes.unwrap_or(args.max_header_bytes);
        args.max_headers = self.most_headers.unwrap_or(args.max_headers);
        args.max_uri_bytes = self.most_uri_bytes.unwrap_or(args.max_uri_bytes);
        args.sticky_key_file = self.sticky_key.or(args.sticky_key_file);
        args.node = self.here_node.or(args.node);
        args.zone = self.here_zone.or(args.zone);
        Ok(args.into_config(FILES)?)
    }
}

/// Explains a request to what a proxy that serves the folder would do.
pub(super) fn explain(
    folder: &Path,
    compile: CompileArgs,
    serving: ServingArgs,
    query: &Query,
) -> Result<Explanation, Failure> {
    let config = serving.into_config()?;
    let taken = config.http.iter().chain(&config.https).copied().collect();
    let (resources, reports) = compiled(folder, compile, taken)?;
    explain_resources(&config, &resources, &reports, query)
}

/// Explains a request to what a proxy of a cluster would do with the objects as they are now. Local endpoints are refused,
/// as they are there.
pub(super) fn explain_cluster(
    cluster: &ClusterArgs,
    compile: CompileArgs,
    serving: ServingArgs,
    query: &Query,
) -> Result<Explanation, Failure> {
    let config = serving.into_config()?;
    let reading = block_on(async {
        let client = cluster.connect().await?;
        Ok::<_, ClusterError>(read(&client).await)
    })??;
    let options = Options {
        allow_local_endpoints: false,
        lb_bind: None,
        ..compile.into_options(Vec::new())
    };
    let mut compiler = propylon_translate::Compiler::new(options);
    compiler.follow(&reading.world);
    compiler.compile(i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX));
    let reports = compiler.reports().values().flat_map(|reports| reports.iter());
    let reports: Vec<Report> = reports.cloned().collect();
    let mut explanation = explain_resources(&config, compiler.resources(), &reports, query)?;
    explanation.notes.extend(reading.missing);
    Ok(explanation)
}

fn explain_resources(
    config: &Config,
    resources: &Resources,
    reports: &[Report],
    query: &Query,
) -> Result<Explanation, Failure> {
    let now_unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
    let explainer = Explainer::offline(config, resources, now_unix_s).map_err(ExplainError::from)?;
    let mut explanation = explainer.explain(query).map_err(ExplainError::from)?;
    let concerned: Vec<String> = reports
        .iter()
        .filter(|report| concerns(report, &explanation))
        .map(ToString::to_string)
        .collect();
    explanation.notes.extend(concerned);
    Ok(explanation)
}

/// The resources of a folder, and what there is to say about its objects.
pub(super) fn compiled(
    root: &Path,
    compile: CompileArgs,
    taken: Vec<SocketAddr>,
) -> Result<(Resources, Vec<Report>), Failure> {
    let mut folder = Folder::open_named("folder", root)?;
    folder.read();
    let step = Compiler::new(compile.into_options(taken)).step(folder.world());
    let mut resources = Resources::default();
    resources.apply(&step.delta);
    Ok((resources, folder.reports().into_iter().chain(step.reports).collect()))
}

/// Whether a report may be why the request ends as it does: it is about the Service, about a rule that matches or the
/// object of one as a whole, or something could not be read at all.
fn concerns(report: &Report, explanation: &Explanation) -> bool {
    let object = report.object.to_string();
    let is_unread = report.severity() == Severity::Error && report.object.kind == Kind::File;
    let is_of_path = report.message.starts_with("spec.rules[");
    let is_of_rule = |rule: &RuleView| {
        let matches = !matches!(rule.verdict.as_str(), "unmatched" | "passedOver");
        matches && rule.object == object && (!is_of_path || report.message.starts_with(&rule.field))
    };
    let is_of_backend = |backend: &BackendView| backend.service == object;
    is_unread || explanation.rules.iter().any(is_of_rule) || explanation.backend.iter().any(is_of_backend)
}

/// Any limit will do: nothing is opened.
const FILES: u64 = 1 << 20;

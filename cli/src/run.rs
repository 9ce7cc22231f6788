//! `propylon run`: a folder of manifests, compiled, served and followed.

mod control;
mod flags;
mod objects;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use propylon_kit::telemetry;
use propylon_model::Report;
use propylon_proxy::{
    Addresses,
    config::{Config, DataPlaneArgs},
    process::{Signals, Spans, UNLIMITED_FILES, raise_file_limit},
};
use propylon_translate::{Key, Options, ServiceMap};

use crate::{
    compiler::Compiler,
    failure::Failure,
    folder::{Folder, Watch},
    printer::{self, Printer},
};

use control::Control;
use flags::{parse_key, parse_map};

/// Flags of `propylon run`; each is also an environment variable `PROPYLON_...`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Folder of manifests, watched (*.yaml, *.yml, *.json; names with a leading dot are skipped)
    #[arg(long, value_name = "DIR", env = "PROPYLON_MANIFESTS")]
    pub(crate) manifests: PathBuf,
    /// Settings of the compile
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
    /// Compile, print the reports, exit 1 if any is an error; nothing is served
    #[arg(long, env = "PROPYLON_ONCE")]
    pub(crate) once: bool,
    /// Flags of the data plane
    #[command(flatten)]
    pub(crate) data_plane: DataPlaneArgs,
}

/// Flags that decide what manifests compile to.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompileArgs {
    /// Send a Service to a local process instead of its endpoints (repeatable)
    #[arg(long, value_name = "NS/SVC[:PORT]=HOST:PORT", env = "PROPYLON_MAP", value_delimiter = ',', value_parser = parse_map)]
    pub(crate) map: Vec<ServiceMap>,
    /// Serve exactly these classes, whatever their controller (repeatable; default: the classes whose controller is
    /// ours, and every Ingress where the folder has no `IngressClass`)
    #[arg(long, value_name = "NAME", env = "PROPYLON_INGRESS_CLASS", value_delimiter = ',')]
    pub(crate) ingress_class: Vec<String>,
    /// Certificate where nothing matches (default: self-signed)
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_DEFAULT_TLS_SECRET", value_parser = parse_key)]
    pub(crate) default_tls_secret: Option<Key>,
    /// Whether endpoints may be loopback and link-local addresses
    #[arg(long, value_enum, env = "PROPYLON_ALLOW_LOCAL_ENDPOINTS", default_value_t, num_args = 0..=1, default_missing_value = "on")]
    pub(crate) allow_local_endpoints: Switch,
    /// Whether Services of type `ExternalName` are served
    #[arg(long, value_enum, env = "PROPYLON_EXTERNAL_NAME", default_value_t, num_args = 0..=1, default_missing_value = "on")]
    pub(crate) external_name: Switch,
    /// Address of the ports of `LoadBalancer` Services, where the Service itself names none of the machine's
    #[arg(long, value_name = "ADDR", env = "PROPYLON_LB_BIND", default_value_t = LB_BIND)]
    pub(crate) lb_bind: IpAddr,
    /// `ConfigMap` of TCP ports in the form of ingress-nginx ("9000": "NS/SVC:PORT:PROXY:PROXY")
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_TCP_SERVICES_CONFIGMAP", value_parser = parse_key)]
    pub(crate) tcp_services_configmap: Option<Key>,
    /// `ConfigMap` of UDP ports in the form of ingress-nginx ("53": "NS/SVC:PORT")
    #[arg(long, value_name = "NS/NAME", env = "PROPYLON_UDP_SERVICES_CONFIGMAP", value_parser = parse_key)]
    pub(crate) udp_services_configmap: Option<Key>,
}

impl Default for CompileArgs {
    fn default() -> Self {
        Self {
            map: Vec::new(),
            ingress_class: Vec::new(),
            default_tls_secret: None,
            allow_local_endpoints: Switch::On,
            external_name: Switch::On,
            lb_bind: LB_BIND,
            tcp_services_configmap: None,
            udp_services_configmap: None,
        }
    }
}

/// A feature that is on unless it is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

impl CompileArgs {
    /// The options of the compile; the time and the machine's addresses are set by each compile. `taken` is where the
    /// proxy itself listens.
    pub(crate) fn into_options(self, taken: Vec<SocketAddr>) -> Options {
        Options {
            ingress_classes: self.ingress_class,
            default_tls_secret: self.default_tls_secret,
            maps: self.map,
            allow_local_endpoints: self.allow_local_endpoints == Switch::On,
            external_name: self.external_name == Switch::On,
            lb_bind: Some(self.lb_bind),
            taken,
            tcp_services: self.tcp_services_configmap,
            udp_services: self.udp_services_configmap,
            ..Options::default()
        }
    }
}

/// Runs until a signal ends it, or, with `--once`, until the reports are printed.
pub(crate) fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let folder = Folder::open(&args.manifests)?;
    let files = if args.once { UNLIMITED_FILES } else { raise_file_limit() };
    let config = args.data_plane.into_config(files)?;
    if args.once {
        return Ok(once(folder, args.compile, configured(&config)));
    }
    serve(folder, args.compile, config, &args.manifests, |_| {})
}

/// Serves a folder until a signal ends it. `announce` is called once the manifests are live.
pub(crate) fn serve(
    folder: Folder,
    compile: CompileArgs,
    config: Config,
    root: &Path,
    announce: impl FnOnce(&Addresses),
) -> Result<ExitCode, Failure> {
    // It fails only where a log is installed already.
    drop(telemetry::init(LOG_FILTER));
    let spans = Spans {
        grace: config.drain_accept_grace,
        linger: config.takeover_linger,
    };
    // Before the first thread, so that a signal during the start is not lost.
    let signals = Signals::listen().map_err(|source| Failure::System {
        attempt: "catch signals",
        source,
    })?;
    let watch = Watch::start(folder);
    let mut taken = configured(&config);
    let proxy = Arc::new(propylon_proxy::start(config)?);
    for (scheme, address) in addresses(proxy.addresses()) {
        printer::line(&format!("listening {scheme} {address}"));
    }
    taken.extend(addresses(proxy.addresses()).into_iter().map(|(_, address)| address));
    let mut control = Control::new(watch, Compiler::new(compile.into_options(taken)), Arc::clone(&proxy));
    control.apply();
    proxy.take_over()?;
    printer::line(&format!("serving {}", root.display()));
    announce(proxy.addresses());
    let control = control.spawn()?;
    Ok(signals.serve(&proxy, spans, || control.stop()))
}

/// Compiles once and prints the reports.
fn once(mut folder: Folder, compile: CompileArgs, taken: Vec<SocketAddr>) -> ExitCode {
    folder.read();
    let step = Compiler::new(compile.into_options(taken)).step(folder.world());
    let reports: Vec<Report> = folder.reports().into_iter().chain(step.reports).collect();
    Printer::default()
        .update(&reports)
        .iter()
        .for_each(|line| printer::line(line));
    if printer::has_error(&reports) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Where the proxy is told to listen; ports that the system chooses are known once they are bound.
fn configured(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.http.iter().chain(&config.https).copied();
    let operation = config.admin.into_iter().chain(config.status);
    listeners
        .chain(operation)
        .filter(|address| address.port() != 0)
        .collect()
}

fn addresses(addresses: &Addresses) -> Vec<(&'static str, SocketAddr)> {
    let http = addresses.http.iter().map(|address| ("http", *address));
    let https = addresses.https.iter().map(|address| ("https", *address));
    http.chain(https)
        .chain(addresses.admin.map(|address| ("admin", address)))
        .collect()
}

/// `--lb-bind` where it is not given.
const LB_BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the process says about itself on standard error, beside the reports.
const LOG_FILTER: &str = "info";

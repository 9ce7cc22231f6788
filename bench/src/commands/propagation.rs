//! `propagation`: from a watch event to live on every proxy, with a real API server and a large world.
//!
//! A controller and proxies run as processes with the chart's identities. Changes are made one at a time; a change is
//! live on a proxy when a request through it says so.

mod backends;
mod probe;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, ensure};
use propylon_e2e::lab::{ApiServer, Options, Release, Running};

use crate::args::PropagationArgs;
use crate::report::{Table, verdict};
use crate::stats::percentile;
use crate::tools;

use backends::Backends;
use probe::Probe;
use world::World;

/// Greatest p99 of a change of an Ingress, milliseconds.
const INGRESS_MS: f64 = 100.0;
/// Greatest p99 of a change of an endpoint, milliseconds.
const ENDPOINT_MS: f64 = 20.0;
/// Greatest memory of the controller, MiB.
const CONTROLLER_MIB: f64 = 300.0;
/// Greatest memory of a proxy, MiB.
const PROXY_MIB: f64 = 150.0;
/// Greatest time of a full start, seconds.
const START_S: f64 = 5.0;

/// Measures and prints everything.
///
/// # Errors
///
/// When Kubernetes was not built (`lab deps`), or a part does not start or does not follow a change.
pub(crate) fn run(args: &PropagationArgs) -> Result<()> {
    let binaries = binaries(args)?;
    backends::enter_namespace()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = ApiServer::start(Options::default())?;
    let backends = Backends::start()?;
    println!("machine: {}", tools::machine());
    println!(
        "{} Ingresses, {} endpoints, {} proxies; {} spaced changes of each kind\n",
        args.ingresses,
        args.ingresses * world::ENDPOINTS,
        args.proxies,
        args.changes
    );
    let release = runtime.block_on(Release::install(&server, &binaries, &[]))?;
    let world = runtime.block_on(World::create(&server, args.ingresses, &backends))?;
    let parts = runtime.block_on(Parts::start(&release, args.proxies))?;
    let session = Session {
        runtime: &runtime,
        world: &world,
        backends: &backends,
        proxies: parts.proxies.iter().map(|proxy| proxy.address).collect(),
    };
    let endpoints = session.measure(args.changes, Session::endpoint)?;
    let ingresses = session.measure(args.changes, Session::ingress)?;
    print(&parts, &ingresses, &endpoints)
}

/// The processes that are measured.
struct Parts<'a> {
    controller: Running,
    proxies: Vec<Running>,
    /// Only the processes are of use; the release keeps their files.
    _release: &'a Release<'a>,
}

impl<'a> Parts<'a> {
    async fn start(release: &'a Release<'a>, proxies: usize) -> Result<Self> {
        let controller = release.controller(&[]).await.context("the controller")?;
        let mut started = Vec::new();
        for _ in 0..proxies {
            started.push(release.proxy(&[&controller], &[]).await.context("a proxy")?);
        }
        Ok(Self {
            controller,
            proxies: started,
            _release: release,
        })
    }
}

/// What a change needs.
struct Session<'a> {
    runtime: &'a tokio::runtime::Runtime,
    world: &'a World,
    backends: &'a Backends,
    proxies: Vec<SocketAddr>,
}

impl Session<'_> {
    /// Nanoseconds from the watch event to the last proxy, sorted, of `count` changes.
    fn measure(&self, count: usize, change: impl Fn(&Self, usize) -> Result<u64>) -> Result<Vec<u64>> {
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            times.push(change(self, number).with_context(|| format!("change {number}"))?);
        }
        times.sort_unstable();
        Ok(times)
    }

    /// A new path on one host: it is 404 before.
    fn ingress(&self, number: usize) -> Result<u64> {
        let target = self.world.target(number);
        let path = format!("/live-{number}");
        let probe = Probe::status(&target.host, &path, |status| status == 200);
        self.change(&probe, || self.runtime.block_on(self.world.set_path(&target, &path)))
    }

    /// One host's only endpoint moves to the other backend.
    fn endpoint(&self, number: usize) -> Result<u64> {
        let target = self.world.target(number);
        // Each target is moved once a round, there and back in turns.
        let side = (number / self.world.targets() + 1) % 2;
        let letter = Backends::letter(side);
        let probe = Probe::body(&target.host, "/base", letter);
        let port = self.backends.port(side);
        self.change(&probe, || self.runtime.block_on(self.world.set_endpoint(&target, port)))
    }

    /// Makes a change while every proxy is asked; nanoseconds from its watch event until the last proxy has it.
    fn change(&self, probe: &Probe, make: impl FnOnce() -> Result<u64>) -> Result<u64> {
        let started = Barrier::new(self.proxies.len() + 1);
        thread::scope(|scope| {
            let ask = |proxy: &SocketAddr| {
                let (proxy, started) = (*proxy, &started);
                scope.spawn(move || probe.wait(proxy, started))
            };
            let asking: Vec<_> = self.proxies.iter().map(ask).collect();
            started.wait();
            let event = make();
            let mut last = 0;
            for asking in asking {
                let live = asking.join().map_err(|_| anyhow::anyhow!("a probe panicked"))?;
                last = last.max(live?);
            }
            let event = event?;
            ensure!(last > 0, "no proxy was asked");
            Ok(last.saturating_sub(event))
        })
    }
}

fn print(parts: &Parts<'_>, ingresses: &[u64], endpoints: &[u64]) -> Result<()> {
    let milliseconds = |values: &[u64], per_mille| percentile(values, per_mille) as f64 / 1e6;
    let mut table = Table::new(&[
        "watch event to live on every proxy",
        "p50 ms",
        "p99 ms",
        "max ms",
        "verdict",
    ]);
    for (name, values, limit) in [("Ingress", ingresses, INGRESS_MS), ("endpoint", endpoints, ENDPOINT_MS)] {
        let p99 = milliseconds(values, 990);
        table.row(vec![
            name.to_owned(),
            format!("{:.1}", milliseconds(values, 500)),
            format!("{p99:.1}"),
            format!("{:.1}", milliseconds(values, 1000)),
            verdict(Some(p99), limit, " ms"),
        ]);
    }
    table.print();
    let mut table = Table::new(&["part", "start to ready s", "peak RSS MiB", "verdict of memory"]);
    let controller = ("controller", &parts.controller, CONTROLLER_MIB);
    let proxies = parts.proxies.iter().map(|proxy| ("proxy", proxy, PROXY_MIB));
    for (name, running, limit) in [controller].into_iter().chain(proxies) {
        let mebibytes = running.peak_bytes()? as f64 / f64::from(1 << 20);
        table.row(vec![
            name.to_owned(),
            format!("{:.2}", running.start.as_secs_f64()),
            format!("{mebibytes:.0}"),
            verdict(Some(mebibytes), limit, " MiB"),
        ]);
    }
    table.print();
    let slowest = parts.proxies.iter().map(|proxy| proxy.start).max().unwrap_or_default();
    let start = (parts.controller.start + slowest).as_secs_f64();
    println!(
        "full start to ready (controller, then the slowest proxy): {start:.2} s, {}",
        verdict(Some(start), START_S, " s")
    );
    Ok(())
}

/// The folder of the two binaries, which are built in the `release` profile unless one is given.
fn binaries(args: &PropagationArgs) -> Result<PathBuf> {
    if let Some(folder) = &args.binaries {
        return Ok(folder.clone());
    }
    let arguments = [
        "build",
        "--release",
        "-p",
        "propylon-controller",
        "-p",
        "propylon-proxy",
        "--bins",
    ];
    let status = Command::new("cargo").args(arguments).status().context("start cargo")?;
    ensure!(status.success(), "the build ended with {status}");
    let own = std::env::current_exe().context("the path of this program")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("this program lies in TARGET/PROFILE")?;
    Ok(target.join("release"))
}

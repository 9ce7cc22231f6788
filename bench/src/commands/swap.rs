//! `swap`: latency at a constant rate while the manifests change, beside the same without changes.
//!
//! Half of the changes edit an Ingress (a host of its own comes and goes), half the endpoints of the Service that
//! serves the load (an endpoint that is not ready comes and goes). All go through the watched folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::{Client, SwapArgs};
use crate::clients::Outcome;
use crate::clock::{now_ns, wait_until};
use crate::http::status_of;
use crate::lab::Lab;
use crate::manifests;
use crate::peers::propylon::MANIFESTS;
use crate::peers::{Running, StartOptions, propylon_program, start_propylon};
use crate::procs::tree_cpu;
use crate::report::{Table, spread, verdict};
use crate::stats::Spread;
use crate::tools;

/// The greatest ratio of the p99 with changes to that without (median of the pairs) that is accepted.
const TARGET: f64 = 1.5;

/// Measures and prints everything.
///
/// # Errors
///
/// When Propylon does not serve or does not follow the changes.
pub(crate) fn run(args: &SwapArgs) -> Result<()> {
    let program = propylon_program(&args.lab)?.context("swap measures propylon itself")?;
    let mut lab = Lab::new(&args.lab)?;
    if !args.pin_proxy {
        lab.proxy.cpu = None;
    }
    let mut proxy = start_propylon(&lab, &program, &StartOptions::default())?;
    println!("machine: {}", tools::machine());
    println!("propylon: {}", proxy.version);
    let place = if args.pin_proxy {
        "one CPU for worker and control threads"
    } else {
        "all CPUs, one worker"
    };
    println!("proxy on {place}; load and backend on CPU {}", args.lab.load_cpu);
    println!(
        "{} requests/s (Poisson, 64 connections, latency from the intended time), {} pairs of {} s windows after \
         one that is thrown away, {} hosts\n",
        args.rate,
        args.pairs,
        args.seconds,
        lab.hosts.len()
    );
    let (mut still, mut changing, mut per_change) = (Vec::new(), Vec::new(), Vec::new());
    let mut editor = Editor::new(&lab);
    for round in 0..=args.pairs {
        proxy.process.check_alive()?;
        let (without, quiet) = with_cpu(&proxy, || window(&lab, args, &proxy, round))?;
        let made = editor.made;
        let (with, busy) = with_cpu(&proxy, || {
            if args.control {
                return window(&lab, args, &proxy, round);
            }
            editor.during(&proxy, args.changes, || window(&lab, args, &proxy, round))
        })?;
        eprintln!(
            "round {round}: p99 {:.0} us without, {:.0} us with changes",
            without.p99_us, with.p99_us
        );
        if round > 0 {
            still.push(without);
            changing.push(with);
            per_change.push((busy - quiet) / (editor.made - made).max(1) as f64);
        }
    }
    println!("changes made: {}", editor.made);
    println!(
        "CPU us of the proxy per change, min / median / max: {}\n",
        spread(&per_change, 0)
    );
    print(&still, &changing);
    Ok(())
}

/// Does `work` and gives the proxy's CPU microseconds meanwhile with its value.
fn with_cpu<T>(proxy: &Running, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let before = tree_cpu(proxy.process.pid());
    let value = work()?;
    Ok((value, tree_cpu(proxy.process.pid()).since(before).total_us()))
}

fn window(lab: &Lab, args: &SwapArgs, proxy: &Running, round: usize) -> Result<Outcome> {
    let client = [
        format!("--addr={}", proxy.http),
        "--connections=64".to_owned(),
        format!("--rate={}", args.rate),
        format!("--seconds={}", args.seconds),
        format!("--seed={}", round + 1),
    ];
    lab.run_client(args.seconds + 20, Client::Open, &client)
}

fn print(still: &[Outcome], changing: &[Outcome]) {
    let mut table = Table::new(&[
        "windows",
        "requests",
        "errors",
        "p50 us min / median / max",
        "p99 us",
        "p99.9 us",
    ]);
    for (name, outcomes) in [("without changes", still), ("with changes", changing)] {
        let each = |value: fn(&Outcome) -> f64| outcomes.iter().map(value).collect::<Vec<f64>>();
        table.row(vec![
            name.to_owned(),
            outcomes.iter().map(|outcome| outcome.requests).sum::<u64>().to_string(),
            outcomes.iter().map(|outcome| outcome.errors).sum::<u64>().to_string(),
            spread(&each(|outcome| outcome.p50_us), 0),
            spread(&each(|outcome| outcome.p99_us), 0),
            spread(&each(|outcome| outcome.p999_us), 0),
        ]);
    }
    table.print();
    let ratios: Vec<f64> = still.iter().zip(changing).map(|(a, b)| b.p99_us / a.p99_us).collect();
    let median = Spread::of(&ratios).map(|spread| spread.median);
    println!(
        "p99 with / without changes: {}: {}",
        spread(&ratios, 2),
        verdict(median, TARGET, "x")
    );
}

/// Edits the folder from a thread of its own.
struct Editor {
    folder: PathBuf,
    hosts: Vec<String>,
    backend: std::net::SocketAddr,
    made: u64,
}

impl Editor {
    fn new(lab: &Lab) -> Self {
        let folder = lab.dir().join("propylon").join(MANIFESTS);
        Self {
            folder,
            hosts: lab.hosts.clone(),
            backend: lab.backend_addr,
            made: 0,
        }
    }

    /// Makes `rate` changes a second while `work` runs, then sees that the last one is served.
    fn during<T>(&mut self, proxy: &Running, rate: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = AtomicBool::new(false);
        let value = std::thread::scope(|scope| {
            let edits = scope.spawn(|| self.edit_until(rate, &stop));
            let value = work();
            stop.store(true, Ordering::Relaxed);
            match edits.join() {
                Ok(Ok(())) => value,
                Ok(Err(error)) => Err(error),
                Err(_) => bail!("the editing thread ended"),
            }
        })?;
        self.check_served(proxy)?;
        Ok(value)
    }

    fn edit_until(&mut self, rate: u32, stop: &AtomicBool) -> Result<()> {
        let interval = 1_000_000_000 / u64::from(rate.max(1));
        let mut due = now_ns();
        while !stop.load(Ordering::Relaxed) {
            self.change()?;
            due += interval;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        }
        Ok(())
    }

    fn change(&mut self) -> Result<()> {
        self.made += 1;
        let number = self.made;
        if number.is_multiple_of(2) {
            let address = format!("192.0.2.{}", number / 4 % 250 + 1);
            let text = manifests::endpoints(self.backend, number.is_multiple_of(4).then_some(address.as_str()));
            return manifests::replace(&manifests::endpoints_file(&self.folder), &text);
        }
        self.edit_host(number, &format!("change-{number}.bench.test"))
    }

    /// Gives an Ingress other than the measured one a second host.
    fn edit_host(&self, number: u64, extra: &str) -> Result<()> {
        let index = 1 + usize::try_from(number)? % (self.hosts.len() - 1).max(1);
        let host = self.hosts.get(index).context("two hosts are needed")?;
        write_host(&self.folder, index, host, extra)
    }

    /// Makes one more change and waits until the proxy serves it: the changes before were followed too.
    fn check_served(&mut self, proxy: &Running) -> Result<()> {
        self.made += 1;
        let extra = format!("change-{}.bench.test", self.made);
        self.edit_host(self.made, &extra)?;
        wait_until("the last change", Duration::from_secs(10), || {
            Ok(status_of(proxy.http, &extra, "/1k").is_ok_and(|status| status == 200))
        })
    }
}

fn write_host(folder: &Path, index: usize, host: &str, extra: &str) -> Result<()> {
    manifests::replace(
        &manifests::ingress_file(folder, index),
        &manifests::ingress(index, host, Some(extra)),
    )
}

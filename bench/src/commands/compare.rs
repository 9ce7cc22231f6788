//! `compare`: CPU microseconds per request of each workload, alternately for each proxy.

use std::time::Duration;

use anyhow::Result;

use crate::args::CompareArgs;
use crate::clients::Outcome;
use crate::clock::wait_until;
use crate::lab::Lab;
use crate::peers::{Running, propylon_program, start_all};
use crate::procs::{CpuTime, tree_cpu};
use crate::report::{Table, spread, verdict};
use crate::stats::Spread;
use crate::tools;
use crate::workloads::{Target, Workload};

/// One run of one workload against one proxy.
#[derive(Debug)]
struct Sample {
    outcome: Outcome,
    cpu: CpuTime,
    seconds: f64,
    unlogged: u64,
}

impl Sample {
    fn per_request(&self, microseconds: f64) -> f64 {
        microseconds / (self.outcome.requests.max(1) as f64)
    }
}

/// The samples of one proxy, one per round that counts.
#[derive(Debug)]
struct Series {
    name: &'static str,
    samples: Vec<Sample>,
}

impl Series {
    fn each(&self, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(value).collect()
    }

    fn cost(&self) -> Vec<f64> {
        self.each(|sample| sample.per_request(sample.cpu.total_us()))
    }

    fn errors(&self) -> u64 {
        self.samples.iter().map(|sample| sample.outcome.errors).sum()
    }
}

/// Measures and prints everything.
///
/// # Errors
///
/// When a tool is missing or Propylon does not serve.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let all: Vec<Workload> = clap::ValueEnum::value_variants().to_vec();
    let workloads = if args.workloads.is_empty() {
        all
    } else {
        args.workloads.clone()
    };
    let needed: Vec<&str> = workloads.iter().filter_map(|workload| workload.tool()).collect();
    tools::require(&needed)?;
    let program = propylon_program(&args.lab)?;
    let lab = Lab::new(&args.lab)?;
    let mut proxies = start_all(&lab, &args.lab, program.as_deref())?;
    header(args, &proxies);
    let mut verdicts = Vec::new();
    for workload in workloads {
        let series = measure(&lab, args, workload, &mut proxies)?;
        print_workload(workload, &series);
        if let (Some(limit), true) = (workload.target(), program.is_some()) {
            let (median, limit, whom) = match limit {
                Target::Nginx(limit) => (median_ratio(&series, "nginx"), limit, "x nginx"),
                // The greatest ratio is the one to the peer that is cheapest.
                Target::Best(limit) => {
                    let peers = series.iter().filter(|one| one.name != "propylon");
                    let ratios = peers.filter_map(|peer| median_ratio(&series, peer.name));
                    (ratios.reduce(f64::max), limit, "x the better peer")
                }
            };
            verdicts.push((workload, median, verdict(median, limit, whom)));
        }
    }
    print_verdicts(verdicts);
    Ok(())
}

/// Prints what was measured against what, and where.
fn header(args: &CompareArgs, proxies: &[Running]) {
    println!("machine: {}", tools::machine());
    println!(
        "method: {} rounds of {} s after one that is thrown away; {} hosts; access log {}; proxy on CPU {}, load \
         and backend on CPU {}{}",
        args.pairs,
        args.seconds,
        args.lab.hosts,
        if args.lab.access_log { "to a file" } else { "off" },
        args.lab.proxy_cpu,
        args.lab.load_cpu,
        if args.lab.realtime { ", SCHED_RR" } else { "" },
    );
    for proxy in proxies {
        println!("{}: {}", proxy.name, proxy.version);
    }
    println!();
}

fn measure(lab: &Lab, args: &CompareArgs, workload: Workload, proxies: &mut [Running]) -> Result<Vec<Series>> {
    let mut proxies: Vec<&mut Running> = proxies.iter_mut().filter(|proxy| workload.is_for(proxy)).collect();
    let mut all: Vec<Series> = proxies
        .iter()
        .map(|proxy| Series {
            name: proxy.name,
            samples: Vec::new(),
        })
        .collect();
    for round in 0..=args.pairs {
        for (proxy, series) in proxies.iter_mut().zip(&mut all) {
            proxy.process.check_alive()?;
            let before = tree_cpu(proxy.process.pid());
            let outcome = workload.run(lab, proxy, args.seconds)?;
            let cpu = tree_cpu(proxy.process.pid()).since(before);
            let unlogged = if lab.access_log && !workload.is_stream() {
                unlogged(proxy, outcome.requests)
            } else {
                0
            };
            proxy.empty_logs()?;
            let sample = Sample {
                outcome,
                cpu,
                seconds: f64::from(args.seconds),
                unlogged,
            };
            eprintln!(
                "{} round {round} {}: {:.1} us/request, {} requests, {} errors",
                workload.name(),
                proxy.name,
                sample.per_request(cpu.total_us()),
                sample.outcome.requests,
                sample.outcome.errors
            );
            if round > 0 {
                series.samples.push(sample);
            }
        }
    }
    Ok(all)
}

/// Requests without a line in the access log three seconds later: a proxy that drops lines does less than the others.
fn unlogged(proxy: &Running, requests: u64) -> u64 {
    let mut missing = requests;
    let all = wait_until("log", Duration::from_secs(3), || {
        missing = requests.saturating_sub(proxy.log_lines()?);
        Ok(missing == 0)
    });
    if all.is_err() {
        eprintln!(
            "{}: {missing} of {requests} requests are not in the access log",
            proxy.name
        );
    }
    missing
}

/// Cost of `name` over cost of `peer`, round by round.
fn ratios(series: &[Series], name: &str, peer: &str) -> Option<Vec<f64>> {
    let find = |wanted: &str| series.iter().find(|series| series.name == wanted).map(Series::cost);
    Some(
        find(name)?
            .iter()
            .zip(find(peer)?)
            .map(|(ours, theirs)| ours / theirs)
            .collect(),
    )
}

fn median_ratio(series: &[Series], peer: &str) -> Option<f64> {
    Some(Spread::of(&ratios(series, "propylon", peer)?)?.median)
}

fn print_workload(workload: Workload, series: &[Series]) {
    println!("### {}\n", workload.name());
    let mut table = Table::new(&[
        "proxy",
        "CPU us/request min / median / max",
        "user / system us",
        "requests/s",
        "propylon's ratio to it",
        "errors",
        "not logged",
    ]);
    for one in series {
        let median = |value: &dyn Fn(&Sample) -> f64| Spread::of(&one.each(value)).map_or(0.0, |spread| spread.median);
        let user = median(&|sample| sample.per_request(sample.cpu.user_us));
        let system = median(&|sample| sample.per_request(sample.cpu.system_us));
        let ratio = if one.name == "propylon" {
            None
        } else {
            ratios(series, "propylon", one.name)
        };
        table.row(vec![
            one.name.to_owned(),
            spread(&one.cost(), 1),
            format!("{user:.1} / {system:.1}"),
            format!(
                "{:.0}",
                median(&|sample| sample.outcome.requests as f64 / sample.seconds)
            ),
            spread(&ratio.unwrap_or_default(), 2),
            one.errors().to_string(),
            one.samples
                .iter()
                .map(|sample| sample.unlogged)
                .sum::<u64>()
                .to_string(),
        ]);
    }
    table.print();
    print_handshakes(series);
}

/// For the handshake workloads: what was negotiated, and how many handshakes resumed.
fn print_handshakes(series: &[Series]) {
    for one in series {
        let Some(sample) = one.samples.last().filter(|sample| !sample.outcome.tls.is_empty()) else {
            continue;
        };
        let share = sample.per_request(100.0 * sample.outcome.resumed as f64);
        println!("{}: {}, {share:.1} % resumed", one.name, sample.outcome.tls);
    }
}

fn print_verdicts(verdicts: Vec<(Workload, Option<f64>, String)>) {
    if verdicts.is_empty() {
        return;
    }
    let mut table = Table::new(&["workload", "median ratio", "verdict"]);
    for (workload, median, text) in verdicts {
        table.row(vec![
            workload.name(),
            median.map_or_else(|| "-".to_owned(), |m| format!("{m:.2}")),
            text,
        ]);
    }
    table.print();
}

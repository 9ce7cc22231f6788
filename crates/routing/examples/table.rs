//! Measures the route table: 100,000 rules on 25,000 hosts, built, changed and looked up.
//!
//! Builds and lookups are given in CPU time, which other processes on the machine disturb less; single changes are too
//! short for its clock and are given in elapsed time.
//!
//! `cargo run --release -p propylon-routing --example table`

#![expect(clippy::print_stdout, reason = "the figures are what this is for")]
#![expect(
    clippy::disallowed_types,
    reason = "it measures, and the clock of the shells is not a dependency of this crate"
)]

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use propylon_model::{
    Action, Delta, GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch, PoolName, RouteGroup, RoutePolicy,
    Rule, RulePosition,
    path::{PathError, RequestPath},
};
use propylon_routing::{Claim, Compiler, Found, RouteTable};

type Target = Arc<str>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let groups = all_groups()?.groups;
    let rss_before = rss_bytes()?;
    let mut targets = |_: &RouteGroup, _: Claim<'_>| Target::from("pool");

    let mut builds = Vec::new();
    for _ in 0..RUNS {
        let mut compiler = Compiler::new();
        let started = cpu_time()?;
        let table = compiler.apply(&groups, &mut targets);
        builds.push(cpu_time()?.saturating_sub(started));
        drop((table, compiler));
    }
    let mut compiler = Compiler::new();
    let table = compiler.apply(&groups, &mut targets);
    let used_bytes = rss_bytes()?.saturating_sub(rss_before);
    println!(
        "build of {RULES} rules on {HOSTS} hosts: {} (asked: <= 250 ms)",
        spread(&mut builds)
    );
    println!(
        "memory, compiler and table: {} MiB (asked: <= 100 MiB)",
        used_bytes / 1_048_576
    );

    println!(
        "one changed host: {} (asked: <= 100 us)",
        spread(&mut changes(&mut compiler, &table)?)
    );
    lookups(&table)?;
    Ok(())
}

/// Every host has one object with four rules, each with a pool of its own.
fn all_groups() -> Result<Delta, Box<dyn std::error::Error>> {
    let mut delta = Delta::default();
    for number in 0..HOSTS {
        delta.groups.insert(name(number), Some(Arc::new(group(number, "/v1")?)));
    }
    Ok(delta)
}

fn name(number: usize) -> GroupName {
    GroupName::new(format!("default/web-{number}/{}", host(number)))
}

fn host(number: usize) -> String {
    format!("app-{number}.example.com")
}

fn group(number: usize, version: &str) -> Result<RouteGroup, Box<dyn std::error::Error>> {
    let rule = |(position, path): (usize, String)| {
        let path = PathMatch::Prefix(NormalPath::parse_rule(&path)?);
        let action = Action::Forward(PoolName::new(format!("default/web-{number}:{position}")));
        Ok::<_, PathError>(Rule {
            path,
            action,
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        })
    };
    let paths = [
        "/".to_owned(),
        "/api".to_owned(),
        format!("/api{version}/orders"),
        "/static".to_owned(),
    ];
    Ok(RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", format!("web-{number}")),
        created_unix_s: Some(1_700_000_000),
        host: HostPattern::parse(&host(number))?,
        rules: paths.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?,
        default_backend: None,
        redirect_https: false,
    })
}

/// Changes one host after the other, while the table before is still in use, as in the proxy.
fn changes(
    compiler: &mut Compiler<Target>,
    table: &RouteTable<Target>,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let mut in_use = table.clone();
    let mut elapsed = Vec::new();
    for round in 0..CHANGES {
        let number = scattered(round);
        let change = BTreeMap::from([(name(number), Some(Arc::new(group(number, &format!("/v{round}"))?)))]);
        let started = Instant::now();
        let next = compiler.apply(&change, &mut |_, _| Target::from("pool"));
        elapsed.push(started.elapsed());
        in_use = next;
    }
    drop(in_use);
    Ok(elapsed)
}

fn lookups(table: &RouteTable<Target>) -> Result<(), Box<dyn std::error::Error>> {
    let hosts: Vec<String> = (0..HOSTS).map(|round| host(scattered(round))).collect();
    for raw in [
        "/",
        "/api/v1/orders/17",
        "/a%20b;x/../static/../api/x",
        "/group%2Fproject",
    ] {
        let mut elapsed = Vec::new();
        for _ in 0..RUNS {
            let started = cpu_time()?;
            for host in hosts.iter().cycle().take(LOOKUPS) {
                let path = RequestPath::parse(black_box(raw))?;
                if !matches!(black_box(table.find(black_box(host), &path)), Found::Route(_)) {
                    return Err(format!("{host}{raw} has no route").into());
                }
            }
            elapsed.push(cpu_time()?.saturating_sub(started) / u32::try_from(LOOKUPS)?);
        }
        println!(
            "path read and looked up, random hosts, {raw}: {} (asked: <= 1 us)",
            spread(&mut elapsed)
        );
    }
    Ok(())
}

/// The hosts in an order that caches cannot foresee.
fn scattered(round: usize) -> usize {
    round.wrapping_mul(7_919).wrapping_add(13) % HOSTS
}

fn spread(elapsed: &mut [Duration]) -> String {
    elapsed.sort_unstable();
    let at = |position: usize| elapsed.get(position).copied().unwrap_or_default();
    format!(
        "{:?} / {:?} / {:?} (min/median/max of {})",
        at(0),
        at(elapsed.len() / 2),
        at(elapsed.len().saturating_sub(1)),
        elapsed.len()
    )
}

/// Of this thread, in steps of the scheduler's tick (some milliseconds).
fn cpu_time() -> Result<Duration, Box<dyn std::error::Error>> {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat")?;
    let used_ns = statistics.split(' ').next().ok_or("no CPU time")?.parse()?;
    Ok(Duration::from_nanos(used_ns))
}

fn rss_bytes() -> Result<usize, Box<dyn std::error::Error>> {
    let pages: usize = fs::read_to_string("/proc/self/statm")?
        .split(' ')
        .nth(1)
        .ok_or("no resident size")?
        .parse()?;
    Ok(pages * 4_096)
}

const HOSTS: usize = 25_000;
const RULES: usize = 4 * HOSTS;
const LOOKUPS: usize = 20 * HOSTS;
const RUNS: usize = 7;
const CHANGES: usize = 2_000;

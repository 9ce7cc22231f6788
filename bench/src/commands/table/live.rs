//! Changes applied to a running proxy that holds the large table.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Delta, Endpoint, Endpoints, EndpointsName, GroupName, HostPattern, Kind,
    NormalPath, ObjectRef, PathMatch, Pool, PoolName, PoolPolicy, RouteGroup, RoutePolicy, Rule, RulePosition,
};
use propylon_proxy::ProxyHandle;
use propylon_proxy::config::DataPlaneArgs;

use crate::clock::now_ns;
use crate::report::{Table, spread, verdict};
use crate::stats::Spread;

const HOSTS: usize = 25_000;
const CHANGES: usize = 1_000;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    data_plane: DataPlaneArgs,
}

/// Measures [`ProxyHandle::apply`] of one host and of the endpoints of one Service, on 100,000 rules.
///
/// # Errors
///
/// When the proxy does not start.
pub(super) fn run() -> Result<()> {
    let flags = [
        "bench",
        "--http",
        "127.0.0.1:0",
        "--https",
        "off",
        "--admin",
        "off",
        "--access-log",
        "off",
    ];
    let flags = Flags::try_parse_from(flags.into_iter().chain(["--workers", "1"]))?;
    let proxy = propylon_proxy::start(flags.data_plane.into_config(crate::tools::raise_open_files())?)?;
    let everything = everything()?;
    let first = timed(&proxy, &everything);
    let mut hosts = Vec::new();
    let mut endpoints = Vec::new();
    for round in 0..CHANGES {
        let number = scattered(round);
        let group = Arc::new(group(number, &format!("/v{round}"))?);
        hosts.push(timed(
            &proxy,
            &Delta {
                groups: one(group_name(number), group),
                ..Delta::default()
            },
        ));
        let list = Arc::new(list(2 + round % 3, round)?);
        endpoints.push(timed(
            &proxy,
            &Delta {
                endpoints: one(endpoints_name(number), list),
                ..Delta::default()
            },
        ));
    }
    let mut table = Table::new(&["change of a running proxy", "us min / median / max", "verdict"]);
    table.row(vec![
        "everything at once, 100,000 rules".to_owned(),
        format!("{first:.0}"),
        String::new(),
    ]);
    for (name, values, limit) in [
        ("one host", hosts, 100.0),
        ("endpoints of one Service", endpoints, 10.0),
    ] {
        let median = Spread::of(&values).map(|spread| spread.median);
        table.row(vec![name.to_owned(), spread(&values, 1), verdict(median, limit, " us")]);
    }
    println!();
    table.print();
    Ok(())
}

/// Microseconds that the change took.
fn timed(proxy: &ProxyHandle, delta: &Delta) -> f64 {
    let before = now_ns();
    proxy.apply(delta);
    (now_ns() - before) as f64 / 1000.0
}

fn one<K: Ord, V>(name: K, value: V) -> BTreeMap<K, Option<V>> {
    BTreeMap::from([(name, Some(value))])
}

/// Every host has one Ingress with four rules and one Service with two endpoints.
fn everything() -> Result<Delta> {
    let mut delta = Delta::default();
    for number in 0..HOSTS {
        delta
            .groups
            .insert(group_name(number), Some(Arc::new(group(number, "/v1")?)));
        delta.pools.insert(pool_name(number), Some(Arc::new(pool(number))));
        delta
            .endpoints
            .insert(endpoints_name(number), Some(Arc::new(list(2, number)?)));
    }
    Ok(delta)
}

fn host(number: usize) -> String {
    format!("app-{number}.example.com")
}

fn group_name(number: usize) -> GroupName {
    GroupName::new(format!("default/web-{number}/{}", host(number)))
}

fn pool_name(number: usize) -> PoolName {
    PoolName::new(format!("default/web-{number}:80"))
}

fn endpoints_name(number: usize) -> EndpointsName {
    EndpointsName::new(format!("default/web-{number}:http"))
}

fn group(number: usize, version: &str) -> Result<RouteGroup> {
    let paths = [
        "/".to_owned(),
        "/api".to_owned(),
        format!("/api{version}/orders"),
        "/static".to_owned(),
    ];
    let rule = |path: &String| -> Result<Rule> {
        Ok(Rule {
            path: PathMatch::Prefix(NormalPath::parse_rule(path)?),
            action: Action::Forward(pool_name(number)),
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        })
    };
    Ok(RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", format!("web-{number}")),
        created_unix_s: Some(1_700_000_000),
        host: HostPattern::parse(&host(number))?,
        rules: paths.iter().map(rule).collect::<Result<_>>()?,
        default_backend: None,
        redirect_https: false,
    })
}

fn pool(number: usize) -> Pool {
    Pool {
        service: ObjectRef::new(Kind::Service, "default", format!("web-{number}")),
        port: 80,
        endpoints: endpoints_name(number),
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        policy: PoolPolicy::default(),
    }
}

fn list(count: usize, seed: usize) -> Result<Endpoints> {
    let endpoint = |index: usize| -> Result<Endpoint> {
        let host = [
            10,
            u8::try_from(seed / 250 % 250)?,
            u8::try_from(seed % 250)?,
            u8::try_from(index)?,
        ];
        Ok(Endpoint::new((host, 8080).into()))
    };
    Ok(Endpoints::new((0..count).map(endpoint).collect::<Result<_>>()?))
}

/// The hosts in an order that caches cannot foresee.
fn scattered(round: usize) -> usize {
    round.wrapping_mul(7_919).wrapping_add(13) % HOSTS
}

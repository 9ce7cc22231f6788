//! Faults that last: each is a test of the cluster tier when it is short, and a command of `lab` when it is long.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, ensure};
use propylon_testkit::wait;

use crate::{
    load::{Load, Outcome, Target},
    stage::{App, PATIENCE, Stage, get, ingress, kill_container},
};

/// The part of the control plane that goes.
const API_SERVER: &str = "kube-apiserver";

/// Requests a second while it is away.
const RATE: u32 = 200;

/// How long a proxy that crashed may take to answer again: the kubelet starts it anew without the API server.
const RESTART: Duration = Duration::from_secs(30);

/// What was seen while the API server was away.
#[derive(Debug)]
pub struct Report {
    /// For how long it was.
    pub away: Duration,
    /// What the load at the nodes whose proxies lived came to.
    pub outcome: Outcome,
    /// How long the node of a proxy that was killed meanwhile did not answer.
    pub proxy_back: Duration,
    /// From the API server's return to a new Ingress being served.
    pub caught_up: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            away,
            outcome,
            proxy_back,
            caught_up,
        } = self;
        write!(
            formatter,
            "API server away for {} s: {} answers, {} failed; a killed proxy answered again after {:.1} s; a new Ingress \
             was served {:.1} s after the return",
            away.as_secs(),
            outcome.new + outcome.kept,
            outcome.failures,
            proxy_back.as_secs_f64(),
            caught_up.as_secs_f64()
        )
    }
}

/// Kills the API server (SIGKILL) and starts it again after `away`. Meanwhile one proxy is killed.
///
/// What must hold: the proxies that live serve without one failed request; the one that was killed comes back and serves
/// what it served before; after the return no address was withdrawn, and a new Ingress is served.
///
/// # Errors
/// When any of that does not hold. The API server is started again in any case.
pub fn api_server_away(stage: &Stage, away: Duration) -> Result<Report> {
    let space = stage.namespace("api-away");
    let host = "app.api-away.example";
    space.deploy(&App::new("app", 2));
    space.apply(&ingress("app", host, "app", None).to_string());
    stage.until_status(host, "/", 200);
    stage.until("status is written", PATIENCE, || !space.addresses("app").is_empty());
    let addresses = space.addresses("app");
    let victim = stage.pods_of("proxy").into_iter().next().context("a proxy runs")?;
    let node = stage.node_of(&victim);
    let (of_victim, others): (Vec<_>, Vec<_>) = stage.http().into_iter().partition(|http| http.ip() == node.ipv4);
    let of_victim = *of_victim.first().context("its node has an address")?;
    let target = Target {
        addresses: others,
        host: host.to_owned(),
        path: "/headers".to_owned(),
    };

    let load = Load::spread(target, RATE / 2, RATE / 2);
    stage.cluster.kill(API_SERVER)?;
    let began = tokio::time::Instant::now();
    kill_container(&victim, "/propylon-proxy");
    let answers = || get(of_victim, host, "/").is_ok_and(|answer| answer.status == 200);
    let proxy_back = wait::until(RESTART, answers);
    let left = away.saturating_sub(began.elapsed());
    // Nothing but time: a failure ends it early.
    let failed = wait::until(left, || load.failures() > 0);
    let still = answers();
    stage.cluster.start(API_SERVER)?;
    stage.until("the API server answers", PATIENCE, || stage.objects.is_up());
    let returned = tokio::time::Instant::now();
    space.apply(&ingress("late", "late.api-away.example", "app", None).to_string());
    stage.until_status("late.api-away.example", "/", 200);
    let caught_up = returned.elapsed();
    let outcome = load.stop();

    ensure!(
        failed.is_none() && outcome.failures == 0,
        "requests failed: {:#?}",
        outcome.described
    );
    let proxy_back = proxy_back.context("the killed proxy did not come back while the API server was away")?;
    ensure!(still, "the proxy that came back does not serve any more");
    let now = space.addresses("app");
    ensure!(now == addresses, "the addresses changed from {addresses:?} to {now:?}");
    Ok(Report {
        away,
        outcome,
        proxy_back,
        caught_up,
    })
}

use std::sync::atomic::{AtomicU64, Ordering};

use propylon_model::{BackendProtocol, BackendTls, Endpoint, Probe, TrafficDistribution};
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer},
    wait::{PATIENCE, until_async},
};
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::{duties::CheckSpec, endpoint_state::EndpointsHandle};

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(test);
}

fn spec(probe: Probe, protocol: BackendProtocol) -> CheckSpec {
    CheckSpec {
        check: HealthCheck {
            interval: Duration::from_millis(20),
            ..HealthCheck::new(probe)
        },
        protocol,
        tls: BackendTls::default(),
        host: None,
    }
}

fn duties(handle: &Arc<EndpointsHandle>, checks: &[CheckSpec]) -> BTreeMap<EndpointsName, CheckDuty> {
    let duty = CheckDuty {
        handle: Arc::clone(handle),
        checks: checks.to_vec(),
    };
    [(EndpointsName::new("default/web:80"), duty)].into()
}

fn handle(addresses: &[SocketAddr]) -> Arc<EndpointsHandle> {
    let handle = EndpointsHandle::default();
    replace(&handle, addresses);
    Arc::new(handle)
}

fn replace(handle: &EndpointsHandle, addresses: &[SocketAddr]) {
    let endpoints: Vec<Endpoint> = addresses.iter().map(|address| Endpoint::new(*address)).collect();
    handle.replace(&endpoints, TrafficDistribution::Any);
}

fn verdicts(handle: &EndpointsHandle) -> Vec<CheckVerdict> {
    let list = handle.current.load();
    list.endpoints.iter().map(|endpoint| endpoint.state.verdict()).collect()
}

async fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        until_async(PATIENCE, condition).await.is_some(),
        "waited in vain until {what}"
    );
}

fn echo() -> EchoServer {
    EchoServer::start(EchoOptions::named("web")).unwrap()
}

fn http() -> Probe {
    Probe::Http("/health".into())
}

#[test]
fn verdicts_need_the_exact_number_of_results() {
    run(async {
        let server = echo();
        let handle = handle(&[server.address]);
        let mut checks = Checks::new(Arc::default());
        checks.follow(&duties(&handle, &[spec(http(), BackendProtocol::Http1)]));
        until("it is healthy", || verdicts(&handle) == [CheckVerdict::Healthy]).await;
        assert!(server.health_checks() <= 2, "one success is enough");
        server.set_health(500);
        // The counter is read before the verdict: a check in between can only make it smaller.
        let asked = AtomicU64::new(0);
        let before = server.health_checks();
        until("it is unhealthy", || {
            let now = server.health_checks();
            let over = verdicts(&handle) == [CheckVerdict::Unhealthy];
            if !over {
                asked.store(now, Ordering::Relaxed);
            }
            over
        })
        .await;
        let failures = asked.load(Ordering::Relaxed) - before + 1;
        assert!((3..=4).contains(&failures), "{failures}");
        server.set_health(204);
        let before = server.health_checks();
        until("it is healthy again", || verdicts(&handle) == [CheckVerdict::Healthy]).await;
        assert!(server.health_checks() - before >= 2);
        let (host, agent) = server.last_health_check().unwrap();
        assert_eq!(host, server.address.to_string());
        assert_eq!(agent, concat!("propylon-health/", env!("CARGO_PKG_VERSION")));
    });
}

#[test]
fn what_is_unhealthy_is_reported_when_nothing_else_is_left() {
    run(async {
        let (one, two) = (echo(), echo());
        let handle = handle(&[one.address, two.address]);
        let problems: Arc<Problems> = Arc::default();
        let mut checks = Checks::new(Arc::clone(&problems));
        checks.follow(&duties(&handle, &[spec(http(), BackendProtocol::Http1)]));
        one.set_health(503);
        until("one is unhealthy", || {
            verdicts(&handle).contains(&CheckVerdict::Unhealthy)
        })
        .await;
        checks.look();
        assert!(problems.reports().is_empty());
        two.set_health(503);
        until("both are", || verdicts(&handle) == [CheckVerdict::Unhealthy; 2]).await;
        checks.look();
        let report = problems.reports().pop().unwrap();
        assert_eq!(report.reason, ReportReason::EndpointsUnhealthy);
        assert!(
            report.message.starts_with("port 80: every endpoint (2) fails"),
            "{}",
            report.message
        );
        checks.follow(&BTreeMap::new());
        assert!(problems.reports().is_empty());
        assert_eq!(verdicts(&handle), [CheckVerdict::Unknown; 2]);
    });
}

#[test]
fn verdicts_survive_changes_of_the_checks_and_of_the_endpoints() {
    run(async {
        let (bad, other) = (echo(), echo());
        bad.set_health(500);
        let handle = handle(&[bad.address]);
        let mut checks = Checks::new(Arc::default());
        let first = spec(http(), BackendProtocol::Http1);
        checks.follow(&duties(&handle, std::slice::from_ref(&first)));
        until("it is unhealthy", || verdicts(&handle) == [CheckVerdict::Unhealthy]).await;
        let mut rarer = first;
        rarer.check.interval = Duration::from_hours(1);
        checks.follow(&duties(&handle, &[rarer]));
        replace(&handle, &[bad.address, other.address]);
        checks.look();
        let address = |live: &crate::endpoint_state::LiveEndpoint| live.spec.address;
        let list = handle.current.load_full();
        for (live, verdict) in list.endpoints.iter().zip(verdicts(&handle)) {
            let expected = if address(live) == bad.address {
                CheckVerdict::Unhealthy
            } else {
                CheckVerdict::Unknown
            };
            assert_eq!(verdict, expected);
        }
    });
}

#[test]
fn grpc_servers_say_themselves_how_they_are() {
    run(async {
        let server = echo();
        let known = spec(Probe::Grpc("echo".into()), BackendProtocol::H2c);
        let unknown = spec(Probe::Grpc("other".into()), BackendProtocol::H2c);
        let check = |spec: &CheckSpec| {
            let prober = Prober::new(spec.clone());
            let address = server.address;
            async move { prober.check(address).await }
        };
        assert_eq!(check(&known).await, Ok(()));
        assert_eq!(
            check(&spec(Probe::Grpc("".into()), BackendProtocol::Http1)).await,
            Ok(())
        );
        assert!(check(&unknown).await.unwrap_err().0.contains("grpc-status 5"));
        server.set_health(500);
        assert_eq!(check(&known).await, Err("NOT_SERVING".into()));
    });
}

#[test]
fn the_transport_is_that_of_the_pool() {
    run(async {
        let authority = Authority::new("test");
        let leaf = authority.leaf(&["web.example"]);
        let options = EchoOptions::named("web").with_tls(leaf.server_config(&["h2", "http/1.1"]));
        let server = EchoServer::start(options).unwrap();
        for protocol in [BackendProtocol::Https, BackendProtocol::Wss] {
            for probe in [Probe::Tcp, http()] {
                assert_eq!(Prober::new(spec(probe, protocol)).check(server.address).await, Ok(()));
            }
        }
        let grpc = spec(Probe::Grpc("".into()), BackendProtocol::Https);
        assert_eq!(Prober::new(grpc).check(server.address).await, Ok(()));
        let mut strict = spec(Probe::Tcp, BackendProtocol::Https);
        strict.tls.ca_der = Some([Authority::new("other").der().to_vec()].into());
        let error = Prober::new(strict).check(server.address).await.unwrap_err();
        assert!(error.0.contains("certificate"), "{error}");
    });
}

#[test]
fn a_check_ends_in_time() {
    run(async {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let mut spec = spec(http(), BackendProtocol::Http1);
        spec.check.timeout = Duration::from_millis(50);
        let error = Prober::new(spec.clone()).check(address).await.unwrap_err();
        assert_eq!(error.0, "no answer within 50ms");
        drop(silent);
        spec.check.probe = Probe::Tcp;
        let error = Prober::new(spec).check(address).await.unwrap_err();
        assert!(error.0.contains("refused"), "{error}");
    });
}

//! A new authority while proxies are connected, with the programs and the rights that are shipped.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use propylon_e2e::lab::{ApiServer, Options, Release, Running};
use propylon_testkit::{process::binary, raw::RawClient, wait};

/// An overlap and certificates so short that a rotation takes seconds in place of a day.
const TIMES: &[&str] = &["--ca-overlap=3s", "--certificate-lifetime=12s"];
/// A rotation takes two overlaps and the life of a certificate.
const ROTATION: Duration = Duration::from_mins(2);
/// A proxy may be without a stream for as long as it takes to come back with another certificate.
const RECONNECT: Duration = Duration::from_secs(3);

const SITE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: HOST, namespace: default}
spec:
  ingressClassName: propylon
  rules:
    - host: HOST.example
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

/// The status of a request; none where the connection fails.
fn status(proxy: &Running, host: &str) -> Option<u16> {
    let mut client = RawClient::connect(proxy.address).ok()?;
    client.get(host, "/").ok().map(|response| response.status)
}

fn apply(server: &ApiServer, folder: &std::path::Path, host: &str) {
    let file = folder.join(format!("{host}.yaml"));
    fs::write(&file, SITE.replace("HOST", host)).unwrap();
    let applied = server.kubectl(&["apply", "--filename", &file.display().to_string()]);
    assert!(applied.succeeded(), "{}", applied.text());
}

/// What the `ConfigMap` says to trust.
async fn trust(server: &ApiServer, namespace: &str) -> String {
    let maps = Api::<ConfigMap>::namespaced(server.client(), namespace);
    maps.get("propylon-trust")
        .await
        .unwrap()
        .data
        .unwrap()
        .remove("ca.crt")
        .unwrap()
}

fn roots(pem: &str) -> BTreeSet<String> {
    pem.split_inclusive("-----END CERTIFICATE-----")
        .map(|pem| pem.trim().to_owned())
        .filter(|pem| !pem.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn a_rotation_of_the_authority_fails_no_request() {
    let server = ApiServer::start(Options::default()).unwrap();
    let binaries = binary("propylon-controller").unwrap();
    let release = Release::install(&server, binaries.parent().unwrap(), &[])
        .await
        .unwrap();
    let controller = release.controller(TIMES).await.unwrap();
    let proxy = release.proxy(&[&controller], &[]).await.unwrap();
    apply(&server, release.folder(), "before");
    let served = |host: &str| wait::until(Duration::from_secs(30), || status(&proxy, host) == Some(503));
    assert!(
        served("before.example").is_some(),
        "{}\n{}",
        controller.log(),
        proxy.log()
    );
    let first = roots(&trust(&server, release.namespace()).await);
    assert_eq!(first.len(), 1);

    let stop = Arc::new(AtomicBool::new(false));
    let (asked, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (stop, asked, failed, address) = (
            Arc::clone(&stop),
            Arc::clone(&asked),
            Arc::clone(&failed),
            proxy.address,
        );
        thread::spawn(move || {
            while !stop.load(Relaxed) {
                asked.fetch_add(1, Relaxed);
                let answer = RawClient::connect(address).and_then(|mut client| client.get("before.example", "/"));
                // The Service has no endpoint: anything else than 503 is a failure.
                if !answer.is_ok_and(|answer| answer.status == 503) {
                    failed.fetch_add(1, Relaxed);
                }
            }
        })
    };
    let annotate = [
        "annotate",
        "secret",
        "propylon-ca",
        "propylon.dev/rotate=now",
        "--namespace",
    ];
    let asked_for = server.kubectl(&[&annotate[..], &[release.namespace()]].concat());
    assert!(asked_for.succeeded(), "{}", asked_for.text());
    // The kubelet's part, and a look at the stream.
    let mounted = release.folder().join(&proxy.pod).join("ca.crt");
    let (mut seen, mut away, mut longest) = (BTreeSet::from([first.clone()]), None, Duration::ZERO);
    let deadline = tokio::time::Instant::now() + ROTATION;
    loop {
        let pem = trust(&server, release.namespace()).await;
        fs::write(mounted.with_extension("new"), &pem).unwrap();
        fs::rename(mounted.with_extension("new"), &mounted).unwrap();
        let now = roots(&pem);
        seen.insert(now.clone());
        let is_connected = proxy.metrics().contains("\npropylon_stream_connected 1\n");
        let since = *away.get_or_insert_with(tokio::time::Instant::now);
        if is_connected {
            away = None;
        } else {
            longest = longest.max(since.elapsed());
        }
        if now.len() == 1 && now != first && is_connected {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the rotation does not end: {} roots\n{}\n{}",
            now.len(),
            controller.log(),
            proxy.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A change arrives under the new authority.
    apply(&server, release.folder(), "after");
    assert!(
        served("after.example").is_some(),
        "{}\n{}",
        controller.log(),
        proxy.log()
    );
    stop.store(true, Relaxed);
    load.join().unwrap();
    assert!(asked.load(Relaxed) > 100, "no load");
    assert_eq!(failed.load(Relaxed), 0, "of {}", asked.load(Relaxed));
    assert!(seen.iter().any(|roots| roots.len() == 2), "no overlap");
    assert!(
        longest <= RECONNECT,
        "without a stream for {longest:?}\n{}",
        proxy.log()
    );
}

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    ConnectionState, MethodLabel, ProtocolLabel, Registry, RegistryConfig, RequestSample, RouteId, RouteLabels,
    SniMatch, TlsCipher, TlsResult, TlsVersion, UpstreamSample, WorkerMetrics, table::Metric,
};

const CONFIG: RegistryConfig = RegistryConfig {
    reasons: &["no_route", "connect_refused"],
    retry_reasons: &["connect"],
    max_routes: 4,
};

fn labels(ingress: &str) -> RouteLabels {
    RouteLabels::new("default", ingress, "web")
}

fn get(status: u16) -> RequestSample {
    RequestSample {
        method: MethodLabel::Get,
        status,
        duration_us: 4_000,
        request_bytes: 3,
        response_bytes: 1024,
        upstream: Some(UpstreamSample {
            ttfb_us: Some(2_000),
            total_us: Some(3_000),
            ..UpstreamSample::default()
        }),
    }
}

fn record(worker: &WorkerMetrics, id: RouteId, times: usize) {
    let series = worker.route(id);
    (0..times).for_each(|_| series.record(&get(200)));
}

/// The value of the one sample that starts with `series`; none where there is none.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut found = text
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    let value = found.next();
    assert_eq!(found.next(), None, "{series} twice");
    value
}

fn requests(text: &str, ingress: &str) -> Option<f64> {
    let labels = format!("namespace=\"default\",ingress=\"{ingress}\",service=\"web\",method=\"GET\",code=\"200\"");
    value(text, &format!("propylon_requests_total{{{labels}}}"))
}

#[test]
fn threads_are_summed() {
    let registry = Arc::new(Registry::new(CONFIG));
    let id = registry.route(&labels("a"));
    let threads: Vec<_> = (1..=3)
        .map(|count| {
            let registry = Arc::clone(&registry);
            std::thread::spawn(move || {
                let worker = registry.worker();
                record(&worker, id, count);
                worker.reason(1);
                worker.retry(0);
                worker.overhead_us(100);
                worker.route(id).inflight().inc();
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let text = registry.render();
    let route = "namespace=\"default\",ingress=\"a\",service=\"web\"";
    assert_eq!(requests(&text, "a"), Some(6.0));
    assert_eq!(
        value(&text, &format!("propylon_request_bytes_total{{{route}}}")),
        Some(18.0)
    );
    assert_eq!(
        value(&text, &format!("propylon_response_bytes_total{{{route}}}")),
        Some(6144.0)
    );
    assert_eq!(
        value(&text, &format!("propylon_inflight_requests{{{route}}}")),
        Some(3.0)
    );
    assert_eq!(
        value(&text, &format!("propylon_request_duration_seconds_count{{{route}}}")),
        Some(6.0)
    );
    assert_eq!(
        value(&text, &format!("propylon_request_duration_seconds_sum{{{route}}}")),
        Some(0.024)
    );
    assert_eq!(
        value(
            &text,
            &format!("propylon_upstream_duration_seconds_sum{{{route},phase=\"ttfb\"}}")
        ),
        Some(0.012)
    );
    assert_eq!(
        value(
            &text,
            &format!("propylon_upstream_duration_seconds_count{{{route},phase=\"connect\"}}")
        ),
        None
    );
    assert_eq!(
        value(&text, "propylon_responses_by_reason_total{reason=\"no_route\"}"),
        Some(0.0)
    );
    assert_eq!(
        value(&text, "propylon_responses_by_reason_total{reason=\"connect_refused\"}"),
        Some(3.0)
    );
    assert_eq!(value(&text, "propylon_retries_total{reason=\"connect\"}"), Some(3.0));
    assert_eq!(value(&text, "propylon_overhead_seconds_count"), Some(3.0));
}

#[test]
fn series_go_with_their_object_and_a_reused_slot_starts_at_zero() {
    let registry = Registry::new(CONFIG);
    let worker = registry.worker();
    let (kept, gone) = (registry.route(&labels("kept")), registry.route(&labels("gone")));
    record(&worker, kept, 5);
    record(&worker, gone, 7);
    let outlives = worker.route(gone);
    assert_eq!(requests(&registry.render(), "gone"), Some(7.0));

    registry.set_live(&HashSet::from([kept]));
    assert_eq!(requests(&registry.render(), "gone"), None);
    let next = registry.route(&labels("next"));
    assert_eq!(next.slot, gone.slot, "the slot is used again");
    assert_ne!(next, gone);
    record(&worker, next, 1);
    // A request of the old table ends after the slot has its next owner.
    outlives.record(&get(200));
    record(&worker, gone, 3);
    record(&worker, next, 1);
    let text = registry.render();
    assert_eq!(requests(&text, "next"), Some(2.0));
    assert_eq!(requests(&text, "gone"), None);
    assert_eq!(requests(&text, "kept"), Some(5.0));
}

#[test]
fn a_route_that_is_first_used_after_it_was_retired_is_not_resurrected() {
    let registry = Registry::new(CONFIG);
    let worker = registry.worker();
    let id = registry.route(&labels("a"));
    registry.retire(id);
    record(&worker, id, 1);
    assert_eq!(requests(&registry.render(), "a"), None);
    let again = registry.route(&labels("a"));
    record(&worker, again, 1);
    assert_eq!(requests(&registry.render(), "a"), Some(1.0));
    registry.retire(id);
    assert_eq!(
        requests(&registry.render(), "a"),
        Some(1.0),
        "a stale id retires nothing"
    );
}

#[test]
fn the_same_labels_share_an_id_and_the_cap_holds() {
    let registry = Registry::new(CONFIG);
    let ids: BTreeSet<RouteId> = (0..4)
        .map(|index| registry.route(&labels(&index.to_string())))
        .collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(registry.route(&labels("0")), *ids.first().expect("four"));
    assert_eq!(registry.route(&labels("5th")), RouteId::OTHER);
    let worker = registry.worker();
    worker.route(RouteId::OTHER).record(&get(200));
    worker.route(RouteId::UNMATCHED).record(&RequestSample {
        upstream: None,
        ..get(404)
    });
    registry.retire(RouteId::UNMATCHED);
    registry.set_live(&HashSet::new());
    let text = registry.render();
    for (ingress, code) in [("__other__", 200), ("__unmatched__", 404)] {
        let labels = format!("namespace=\"\",ingress=\"{ingress}\",service=\"\",method=\"GET\",code=\"{code}\"");
        assert_eq!(
            value(&text, &format!("propylon_requests_total{{{labels}}}")),
            Some(1.0),
            "{ingress}"
        );
    }
    assert_ne!(
        registry.route(&labels("5th")),
        RouteId::OTHER,
        "retired routes make room"
    );
}

#[test]
fn connections_and_handshakes_are_told_apart() {
    let registry = Registry::new(CONFIG);
    let worker = registry.worker();
    let https = registry.listener("https");
    assert_eq!(registry.listener("http"), registry.listener("http"));
    worker
        .connections(https, ConnectionState::Idle, ProtocolLabel::Http2)
        .inc();
    worker
        .connections(https, ConnectionState::Active, ProtocolLabel::Http2)
        .inc();
    worker
        .connections(https, ConnectionState::Active, ProtocolLabel::Http2)
        .dec();
    worker.tls_handshake(
        TlsVersion::Tls13,
        TlsCipher::Aes256GcmSha384,
        SniMatch::Wildcard,
        TlsResult::Resumed,
    );
    let text = registry.render();
    let connections = |state| format!("propylon_connections{{listener=\"https\",state=\"{state}\",protocol=\"h2\"}}");
    assert_eq!(value(&text, &connections("idle")), Some(1.0));
    assert_eq!(value(&text, &connections("active")), Some(0.0));
    let handshake = "version=\"1.3\",cipher=\"TLS_AES_256_GCM_SHA384\",sni_match=\"wildcard\",result=\"resumed\"";
    assert_eq!(
        value(&text, &format!("propylon_tls_handshakes_total{{{handshake}}}")),
        Some(1.0)
    );
    assert_eq!(text.matches("propylon_tls_handshakes_total{").count(), 1);
}

#[test]
fn every_rendered_name_is_in_the_table_and_the_series_are_counted() {
    let registry = Registry::new(CONFIG);
    let worker = registry.worker();
    record(&worker, registry.route(&labels("a")), 1);
    registry.control().record_compile(std::time::Duration::from_millis(2));
    registry.control().record_panic();
    worker.panic();
    registry.add_source(|exposition| exposition.gauge(Metric::EndpointUp, &["default", "web", "10.0.0.1:80"], 1.0));
    let text = registry.render();
    let names: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.def().name).collect();
    let mut samples = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        assert!(
            names.contains(name) || family.is_some_and(|family| names.contains(family)),
            "{line}"
        );
        samples += 1;
    }
    assert_eq!(value(&text, "propylon_metric_series"), Some(f64::from(samples - 1)));
    assert_eq!(value(&text, "propylon_panics_total"), Some(2.0));
    assert!(text.contains("propylon_build_info{version=\""));
    assert!(text.contains("propylon_endpoint_up{namespace=\"default\",service=\"web\",endpoint=\"10.0.0.1:80\"} 1\n"));
    let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(types, text.lines().filter(|line| line.starts_with("# HELP ")).count());
}

#[test]
fn scrapes_lose_nothing_while_threads_write() {
    const REQUESTS: usize = 200_000;
    let registry = Arc::new(Registry::new(CONFIG));
    let id = registry.route(&labels("a"));
    let writer = std::thread::spawn({
        let registry = Arc::clone(&registry);
        move || record(&registry.worker(), id, REQUESTS)
    });
    let mut last = 0.0;
    while !writer.is_finished() {
        let seen = requests(&registry.render(), "a").unwrap_or_default();
        assert!(seen >= last, "a counter never falls");
        last = seen;
    }
    writer.join().expect("no panic");
    assert_eq!(requests(&registry.render(), "a"), Some(200_000.0));
}

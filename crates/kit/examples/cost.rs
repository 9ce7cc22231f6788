//! What recording a request costs, to be counted by callgrind:
//!
//! ```text
//! cargo build --release -p propylon-kit --example cost
//! for part in none metrics json upstreaminfo; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/cost $part 100000
//! done
//! ```
//!
//! Instructions per request: the total of a part less that of `none`, over the number.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use propylon_kit::{
    access_log::{AccessLog, AccessLogConfig, Destination, Entry, Format, UpstreamEntry},
    metrics::{MethodLabel, Registry, RegistryConfig, RequestSample, RouteLabels, UpstreamSample},
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let requests: u64 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    match part.as_str() {
        "metrics" => metrics(requests),
        "json" => log(Format::Json, requests),
        "upstreaminfo" => log(Format::Upstreaminfo, requests),
        _ => {}
    }
}

fn metrics(requests: u64) {
    let registry = Registry::new(RegistryConfig::default());
    let id = registry.route(&RouteLabels::new("default", "web", "cart"));
    let worker = registry.worker();
    for request in 0..requests {
        let series = worker.route(black_box(id));
        series.inflight().inc();
        series.record(&black_box(RequestSample {
            method: MethodLabel::Get,
            status: 200,
            duration_us: request % 3_000,
            request_bytes: 0,
            response_bytes: 1_024,
            upstream: Some(UpstreamSample {
                connect_us: None,
                tls_us: None,
                ttfb_us: Some(request % 2_000),
                total_us: Some(request % 2_500),
            }),
        }));
        worker.overhead_us(black_box(request % 100));
        series.inflight().dec();
    }
    black_box(registry.render());
}

fn log(format: Format, requests: u64) {
    let destination = Destination::File(PathBuf::from("/dev/null"));
    let Ok(log) = AccessLog::start(&AccessLogConfig::new(destination, format)) else {
        return;
    };
    let buffer = log.buffer();
    for request in 0..requests {
        buffer.record(&black_box(Entry {
            unix_ms: 1_795_273_445_000 + request / 10,
            client_address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
            client_port: 40_000,
            method: "GET",
            scheme: "https",
            host: b"shop.example.com",
            path: b"/products/4711/reviews",
            version: http::Version::HTTP_11,
            status: 200,
            request_length: 321,
            request_body_bytes: 0,
            response_body_bytes: 1_024,
            user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
            referer: Some(b"https://shop.example.com/"),
            duration_us: 1_000 + request % 3_000,
            upstream: Some(UpstreamEntry {
                address: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 8_080)),
                status: Some(200),
                duration_us: 900 + request % 2_000,
                response_bytes: 1_024,
                attempts: 1,
            }),
            namespace: "default",
            ingress: "web",
            service: "cart",
            service_port: "80",
            request_id: b"0123456789abcdef0123456789abcdef",
            reason: None,
        }));
    }
    buffer.flush();
    drop(buffer);
    drop(log.shutdown(Duration::from_mins(1)));
}

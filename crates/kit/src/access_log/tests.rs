use std::{
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    AccessLog, AccessLogConfig, Destination, Entry, Format, StreamEntry, UpstreamEntry, json, timestamp::SecondText,
};
use crate::clock::Monotonic;

const DEADLINE: Duration = Duration::from_secs(20);

fn entry() -> Entry<'static> {
    Entry {
        unix_ms: 1_795_273_445_007,
        client_address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        client_port: 40_000,
        method: "GET",
        scheme: "https",
        host: b"shop.example",
        path: b"/cart?token=secret",
        version: http::Version::HTTP_2,
        status: 200,
        request_length: 321,
        request_body_bytes: 0,
        response_body_bytes: 1024,
        user_agent: Some(b"curl/8.5"),
        referer: Some(b"https://shop.example/?q=secret"),
        duration_us: 5_678,
        upstream: Some(UpstreamEntry {
            address: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 8080)),
            status: Some(200),
            duration_us: 4_321,
            response_bytes: 1024,
            attempts: 2,
        }),
        namespace: "default",
        ingress: "web",
        service: "cart",
        service_port: "80",
        request_id: b"0123456789abcdef",
        reason: None,
    }
}

fn start(path: &Path, format: Format, queue_batches: usize) -> AccessLog {
    let destination = Destination::File(path.to_owned());
    AccessLog::start(&AccessLogConfig {
        queue_batches,
        ..AccessLogConfig::new(destination, format)
    })
    .expect("starts")
}

fn one_line(format: Format, entry: &Entry<'_>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = start(&path, format, 4);
    log.buffer().record(entry);
    log.shutdown(DEADLINE).expect("written");
    fs::read_to_string(path).expect("a file")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Monotonic::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn connections_of_layer_4_have_a_line_in_either_format() {
    let entry = StreamEntry {
        unix_ms: 1_795_273_445_007,
        client: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 40_000)),
        transport: "tcp",
        namespace: "default",
        service: "db",
        listener: "5432/TCP",
        upstream: Some(SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 5432))),
        received_bytes: 10,
        sent_bytes: 2_000,
        duration_us: 1_234_567,
        status: 200,
        end: "complete",
    };
    let line = |format| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let log = start(&path, format, 4);
        log.buffer().record_stream(&entry);
        log.shutdown(DEADLINE).expect("written");
        fs::read_to_string(path).expect("a file")
    };
    assert_eq!(
        line(Format::Json),
        concat!(
            r#"{"timestamp":"2026-11-21T15:04:05.007Z","client.address":"203.0.113.9","client.port":40000,"#,
            r#""network.transport":"tcp","propylon.received_bytes":10,"propylon.sent_bytes":2000,"#,
            r#""propylon.duration_ms":1234.567,"propylon.namespace":"default","propylon.service":"db","#,
            r#""propylon.listener":"5432/TCP","propylon.upstream.address":"10.0.0.7:5432","propylon.reason":"complete"}"#,
            "\n",
        )
    );
    assert_eq!(
        line(Format::Upstreaminfo),
        "[203.0.113.9] [21/Nov/2026:15:04:05 +0000] TCP 200 2000 10 1.234\n"
    );
}

#[test]
fn json_has_the_names_of_opentelemetry_and_no_query() {
    let line = one_line(Format::Json, &entry());
    assert_eq!(
        line,
        concat!(
            r#"{"timestamp":"2026-11-21T15:04:05.007Z","client.address":"203.0.113.9","client.port":40000,"#,
            r#""http.request.method":"GET","url.scheme":"https","server.address":"shop.example","url.path":"/cart","#,
            r#""network.protocol.name":"http","network.protocol.version":"2","http.response.status_code":200,"#,
            r#""http.request.body.size":0,"http.response.body.size":1024,"user_agent.original":"curl/8.5","#,
            r#""propylon.request_id":"0123456789abcdef","propylon.duration_ms":5.678,"propylon.namespace":"default","#,
            r#""propylon.ingress":"web","propylon.service":"cart","propylon.upstream.address":"10.0.0.7:8080","#,
            r#""propylon.upstream.status":200,"propylon.upstream.duration_ms":4.321,"propylon.upstream.attempts":2}"#,
            "\n",
        )
    );
}

#[test]
fn json_leaves_out_what_is_absent_and_names_the_reason() {
    let unmatched = Entry {
        upstream: None,
        user_agent: None,
        namespace: "",
        ingress: "",
        service: "",
        status: 404,
        reason: Some("no_route"),
        ..entry()
    };
    let line = one_line(Format::Json, &unmatched);
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).expect("JSON");
    assert_eq!(object["propylon.reason"], "no_route");
    assert_eq!(object["http.response.status_code"], 404);
    for absent in [
        "user_agent.original",
        "propylon.ingress",
        "propylon.service",
        "propylon.upstream.address",
    ] {
        assert!(!object.contains_key(absent), "{absent}");
    }
}

#[test]
fn upstreaminfo_is_the_line_of_ingress_nginx() {
    assert_eq!(
        one_line(Format::Upstreaminfo, &entry()),
        "203.0.113.9 - - [21/Nov/2026:15:04:05 +0000] \"GET /cart HTTP/2.0\" 200 1024 \"https://shop.example/\" \
         \"curl/8.5\" 321 0.005 [default-cart-80] [] 10.0.0.7:8080 1024 0.004 200 0123456789abcdef\n"
    );
    let unmatched = Entry {
        upstream: None,
        referer: None,
        user_agent: None,
        service: "",
        status: 404,
        ..entry()
    };
    assert_eq!(
        one_line(Format::Upstreaminfo, &unmatched),
        "203.0.113.9 - - [21/Nov/2026:15:04:05 +0000] \"GET /cart HTTP/2.0\" 404 1024 \"-\" \"-\" 321 0.005 [-] [] \
         - - - - 0123456789abcdef\n"
    );
}

proptest! {
    #[test]
    fn every_line_parses_as_one_json_object(
        path: Vec<u8>, host: Vec<u8>, user_agent: Option<Vec<u8>>, request_id: Vec<u8>, numbers: [u64; 5],
        client: SocketAddr, status: u16, namespace: String,
    ) {
        let entry = Entry {
            unix_ms: numbers[0] % 253_402_300_800_000,
            client_address: client.ip(),
            client_port: client.port(),
            host: &host,
            path: &path,
            user_agent: user_agent.as_deref(),
            request_id: &request_id,
            request_body_bytes: numbers[1],
            response_body_bytes: numbers[2],
            duration_us: numbers[3],
            status,
            namespace: &namespace,
            upstream: Some(UpstreamEntry {
                address: client, status: None, duration_us: numbers[4], response_bytes: 0, attempts: 1,
            }),
            ..entry()
        };
        let mut line = Vec::new();
        json::push_line(&mut line, &mut SecondText::new(json::LAYOUT), &entry);
        let text = String::from_utf8(line).expect("UTF-8");
        prop_assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
        prop_assert!(!text.trim_end().chars().any(char::is_control));
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let client_address = client.ip().to_string();
        prop_assert_eq!(object["client.address"].as_str(), Some(&*client_address));
        prop_assert_eq!(object["http.response.body.size"].as_u64(), Some(numbers[2]));
        let date: jiff::Timestamp = object["timestamp"].as_str().expect("text").parse().expect("RFC 3339");
        prop_assert_eq!(u64::try_from(date.as_millisecond()).ok(), Some(numbers[0] % 253_402_300_800_000));
    }
}

#[test]
fn a_log_that_is_off_costs_nothing_and_a_missing_folder_is_an_error() {
    let off = AccessLog::start(&AccessLogConfig::new(Destination::Off, Format::Json)).expect("starts");
    let buffer = off.buffer();
    assert!(!buffer.is_enabled());
    buffer.record(&entry());
    buffer.flush();
    assert_eq!(off.dropped_lines(), 0);
    off.shutdown(DEADLINE).expect("nothing to do");
    let missing = Destination::File("/nonexistent/access.log".into());
    assert!(AccessLog::start(&AccessLogConfig::new(missing, Format::Json)).is_err());
}

#[test]
fn rename_and_reopen_lose_no_line() {
    const LINES: usize = 20_000;
    const RENAMES: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = start(&path, Format::Json, 100_000);
    let buffers: Vec<_> = (0..2).map(|_| log.buffer()).collect();
    std::thread::scope(|scope| {
        for buffer in buffers {
            scope.spawn(move || {
                for line in 0..LINES {
                    buffer.record(&entry());
                    if line % 50 == 0 {
                        buffer.flush();
                    }
                }
            });
        }
        for rename in 0..RENAMES {
            wait_until("the file is there again", || path.exists());
            fs::rename(&path, folder.path().join(format!("access.log.{rename}"))).expect("renamed");
            log.reopen();
        }
    });
    wait_until("the last reopen", || path.exists());
    assert_eq!((log.dropped_lines(), log.write_errors()), (0, 0));
    log.shutdown(DEADLINE).expect("written");
    let mut lines = 0;
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'));
        lines += text
            .lines()
            .inspect(|line| assert!(line.starts_with('{') && line.ends_with('}')))
            .count();
    }
    assert_eq!(lines, 2 * LINES);
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_waiting() {
    const LINES: u64 = 20_000;
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    // Opened for both, so that neither end waits for the other.
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .expect("opens");
    let log = start(&pipe, Format::Json, 2);
    let buffer = log.buffer();
    for _ in 0..LINES {
        buffer.record(&entry());
    }
    buffer.flush();
    let dropped = log.dropped_lines();
    assert!(dropped > 0 && dropped < LINES, "{dropped}");
    let error = log
        .shutdown(Duration::from_millis(50))
        .expect_err("the writer is stuck");
    assert!(error.to_string().contains("50ms"), "{error}");
    // What was not dropped is written once somebody reads; the thread then ends by itself.
    let mut read = 0;
    let mut bytes = vec![0; 64 * 1024];
    while read < LINES - dropped {
        let count = reader.read(&mut bytes).expect("reads");
        read += bytes[..count]
            .split(|byte| *byte == b'\n')
            .skip(1)
            .map(|_| 1)
            .sum::<u64>();
    }
    assert_eq!(read, LINES - dropped);
}

#[test]
fn refused_writes_are_counted_by_line() {
    let log = start(Path::new("/dev/full"), Format::Json, 8);
    let buffer = log.buffer();
    for _ in 0..3 {
        buffer.record(&entry());
    }
    buffer.flush();
    wait_until("the writer gives up", || log.dropped_lines() == 3);
    assert_eq!(log.write_errors(), 1);
    let registry = crate::metrics::Registry::new(crate::metrics::RegistryConfig::default());
    log.register(&registry);
    assert!(registry.render().contains("\npropylon_access_log_dropped_total 3\n"));
    log.shutdown(DEADLINE).expect("ends");
}

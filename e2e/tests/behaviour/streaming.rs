//! Bodies of any size in constant memory, with back-pressure.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use propylon_e2e::{
    Gate, Http2,
    manifests::{echo, site},
    programs,
};

const MEBIBYTE: u64 = 1024 * 1024;
const ONE_GIBIBYTE: u64 = 1024 * MEBIBYTE;

#[test]
fn a_gibibyte_streams_in_constant_memory() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    assert_eq!(gate.get("web.example", "/bytes/1000000").body.len(), 1_000_000);
    let before = gate.resident_bytes();
    let (url, size) = (
        format!("http://{}/bytes/{ONE_GIBIBYTE}", gate.http),
        ONE_GIBIBYTE.to_string(),
    );
    let mut most = before;
    let download = thread::spawn(move || {
        let arguments = [
            "-H",
            "Host: web.example",
            "--max-time",
            "120",
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download}",
            &url,
        ];
        programs::curl(&arguments).stdout()
    });
    gate.until_within(Duration::from_mins(2), "the download ends", || {
        most = most.max(gate.resident_bytes());
        download.is_finished()
    });
    assert_eq!(download.join().unwrap(), size);
    assert!(
        most < before + 32 * MEBIBYTE,
        "{} KiB before, {} KiB at most",
        before / 1024,
        most / 1024
    );
}

/// A backend that counts what it could write until its socket was full, and goes on when told to.
fn endless_backend() -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let counter = Arc::clone(&counter);
            thread::spawn(move || drop(stream.and_then(|stream| pour(stream, &counter))));
        }
    });
    (address, written)
}

fn pour(mut stream: TcpStream, counter: &AtomicU64) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let _count = stream.read(&mut head)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
        counter.fetch_add(0x4000, Ordering::Relaxed);
    }
}

/// Waits until a counter stands still, and gives where.
fn settled(gate: &Gate, counter: &AtomicU64) -> u64 {
    let (mut last, mut same) = (0, 0);
    gate.until("the backend is held up", || {
        let now = counter.load(Ordering::Relaxed);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same > 100
    });
    last
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_up() {
    let (address, written) = endless_backend();
    let gate = Gate::start(&site("web.example", "web", &[address]));
    let mut client = gate.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    let held = settled(&gate, &written);
    assert!(held < 64 * MEBIBYTE, "{held} bytes were taken from the backend");
    // It flows again when the client reads.
    client.exactly(usize::try_from(held).unwrap() / 2).unwrap();
    gate.until("more is taken", || written.load(Ordering::Relaxed) > held);
}

#[test]
fn a_stream_that_is_not_read_does_not_hold_up_the_others() {
    let (address, written) = endless_backend();
    let echo = echo("web");
    let gate =
        Gate::start(&(site("endless.example", "endless", &[address]) + &site("web.example", "web", &[echo.address])));
    let mut client = Http2::tls(gate.https, "web.example");
    let request = client.request_to("GET", "endless.example", "/");
    let mut stream = client.open(request, true).unwrap();
    assert_eq!(stream.head().unwrap().status(), 200);
    let held = settled(&gate, &written);
    assert!(held < 64 * MEBIBYTE, "{held} bytes were taken from the backend");
    // Responses without a body do not need the connection's window, which the unread stream may have used up.
    assert_eq!(client.get("web.example", "/status/204").unwrap().status, 204);
}

#[test]
fn a_large_upload_arrives_whole_over_every_protocol() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    let size = 64 * MEBIBYTE;
    std::fs::File::create(&file).unwrap().set_len(size).unwrap();
    let data = format!("@{}", file.display());
    let url = format!("http://{}/upload", gate.http);
    for flags in [
        &["--http1.1"][..],
        &["--http1.1", "-H", "Transfer-Encoding: chunked"],
        &["--http2-prior-knowledge"],
    ] {
        let arguments = [
            flags,
            &[
                "-H",
                "Host: web.example",
                "-H",
                "Content-Type: x/y",
                "--data-binary",
                &data,
                &url,
            ],
        ]
        .concat();
        let result = programs::curl(&arguments);
        let report = propylon_e2e::report::Report::parse(&result.0.stdout);
        assert_eq!(report.number("body_bytes"), size, "{flags:?}");
    }
}

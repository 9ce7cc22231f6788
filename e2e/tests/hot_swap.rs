//! A hundred file edits per second for half a minute, under load: no request fails and no connection closes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a failure here is a failed test"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress},
    report::Report,
    websocket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    time::{Instant, interval, timeout},
};

const TIME: Duration = Duration::from_secs(30);
const EDITS_PER_SECOND: u64 = 100;
const CLIENTS: usize = 64;
const WEBSOCKETS: usize = 100;
const GRPC_STREAMS: usize = 20;
/// Between two requests, or messages, of one client: about 5,000 in a second from all.
const PACE: Duration = Duration::from_millis(30);
/// No answer for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, who: &str, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            self.failures.lock().unwrap().push(format!("{who}: {error:#}"));
        }
    }
}

/// Requests on one connection, one after the other, until the end.
async fn keep_alive(gate: SocketAddr, seen: &Seen) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(gate).await?;
    let mut pace = interval(PACE);
    let mut buffer = Vec::new();
    while !seen.is_over() {
        pace.tick().await;
        stream
            .write_all(b"GET /status/204 HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .await?;
        buffer.clear();
        while !buffer.ends_with(b"\r\n\r\n") {
            anyhow::ensure!(timeout(PATIENCE, stream.read_buf(&mut buffer)).await?? > 0, "closed");
        }
        anyhow::ensure!(
            buffer.starts_with(b"HTTP/1.1 204 "),
            "{}",
            String::from_utf8_lossy(&buffer)
        );
        seen.answered();
    }
    Ok(())
}

/// Messages there and back on one WebSocket until the end.
async fn web_socket(gate: SocketAddr, seen: &Seen) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(gate).await?;
    stream
        .write_all(websocket::request("ws.example", "/").as_bytes())
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await??);
    }
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut pace = interval(PACE);
    let (message, expected) = (
        websocket::client_text("still here"),
        websocket::server_text("still here"),
    );
    let mut answer = vec![0; expected.len()];
    while !seen.is_over() {
        pace.tick().await;
        stream.write_all(&message).await?;
        timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
        anyhow::ensure!(answer == expected, "{answer:?}");
        seen.answered();
    }
    Ok(())
}

/// Messages there and back on one gRPC stream until the end, then its trailers.
async fn grpc(gate: SocketAddr, seen: &Seen) -> anyhow::Result<()> {
    let (sender, connection) = h2::client::handshake(TcpStream::connect(gate).await?).await?;
    let connection = tokio::runtime::Handle::current().spawn(connection);
    let request = http::Request::post("http://grpc.example/echo.Echo/Stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    sending.send_data(message.clone(), false)?;
    let response = timeout(PATIENCE, response).await??;
    anyhow::ensure!(response.status() == 200, "{response:?}");
    let mut body = response.into_body();
    let mut pace = interval(PACE);
    loop {
        let mut received = Vec::new();
        while received.len() < message.len() {
            let Some(data) = timeout(PATIENCE, body.data()).await? else {
                anyhow::bail!("the stream ended")
            };
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            received.extend_from_slice(&data);
        }
        anyhow::ensure!(received == message, "{received:?}");
        seen.answered();
        if seen.is_over() {
            break;
        }
        pace.tick().await;
        anyhow::ensure!(!connection.is_finished(), "the connection was closed");
        sending.send_data(message.clone(), false)?;
    }
    sending.send_data(Bytes::new(), true)?;
    while timeout(PATIENCE, body.data()).await?.transpose()?.is_some() {}
    let trailers = timeout(PATIENCE, body.trailers()).await??.unwrap_or_default();
    anyhow::ensure!(
        trailers.get("grpc-status").is_some_and(|status| status == "0"),
        "{trailers:?}"
    );
    Ok(())
}

/// The files of one moment: the load's own hosts change backend, path set and timeouts; others come and go.
fn edit(gate: &Gate, number: u64, backends: &[SocketAddr]) {
    let pick = |offset: u64| backends[usize::try_from((number / 4 + offset) % 2).unwrap()];
    let timeout = format!("{}s", 30 + number % 10);
    match number % 4 {
        0 => {
            let path = format!("/path-{}", number % 17);
            let web = ingress("web")
                .prefix("web.example", "/", "web", 80)
                .prefix("web.example", &path, "web", 80)
                .annotation("propylon.dev/response-timeout", &timeout);
            gate.write("web.yaml", &web.yaml());
        }
        1 => gate.write("web-endpoints.yaml", &backend("web", &[pick(0)])),
        2 => {
            let swapped =
                backend("ws", &[pick(0)]) + &propylon_e2e::manifests::backend_with("grpc", "grpc", &[pick(1)]);
            gate.write("stream-endpoints.yaml", &swapped);
        }
        _ => {
            let host = format!("host-{}.example", number % 101);
            gate.write("other.yaml", &ingress("other").prefix(&host, "/", "web", 80).yaml());
        }
    }
}

#[test]
fn a_hundred_file_edits_per_second_disturb_no_one() {
    let servers = [echo("a"), echo("b")];
    let backends = servers.each_ref().map(|server| server.address);
    let streams = ingress("ws").prefix("ws.example", "/", "ws", 80).yaml()
        + &ingress("grpc").prefix("grpc.example", "/", "grpc", 80).yaml();
    let gate = Gate::start_files(&[("streams.yaml", &streams)], &[]);
    for number in 0..4 {
        edit(&gate, number, &backends);
    }
    gate.until_status("web.example", "/", 200);
    gate.until_status("ws.example", "/", 200);
    gate.until_status("grpc.example", "/", 200);

    let seen = Arc::new(Seen::default());
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let http = gate.http;
    let mut clients = Vec::new();
    for number in 0..CLIENTS + WEBSOCKETS + GRPC_STREAMS {
        let seen = Arc::clone(&seen);
        clients.push(runtime.spawn(async move {
            let (who, outcome) = match number {
                _ if number < CLIENTS => ("keep-alive", keep_alive(http, &seen).await),
                _ if number < CLIENTS + WEBSOCKETS => ("WebSocket", web_socket(http, &seen).await),
                _ => ("gRPC", grpc(http, &seen).await),
            };
            seen.record(who, outcome);
        }));
    }
    let before = gate.metric("propylon_snapshot_generation", &[]).unwrap_or_default();
    let mut edits = 0;
    runtime.block_on(async {
        let mut tick = interval(Duration::from_secs(1) / u32::try_from(EDITS_PER_SECOND).unwrap());
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            tick.tick().await;
            edit(&gate, edits, &backends);
            edits += 1;
        }
    });
    assert!(
        edits >= EDITS_PER_SECOND * TIME.as_secs() * 9 / 10,
        "only {edits} edits were made"
    );

    // The last edits are live, so that the load ran over tables that really changed.
    gate.write("web-endpoints.yaml", &backend("web", &[backends[1]]));
    let live = gate.until("the last edit is live", || {
        Report::of(&gate.get("web.example", "/")).name() == "b"
    });
    assert!(live < Duration::from_secs(1), "{live:?}");
    let after = gate.metric("propylon_snapshot_generation", &[]).unwrap_or_default();
    assert!(
        after - before >= TIME.as_secs_f64(),
        "{before} to {after}: the table hardly changed"
    );

    seen.stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for client in clients {
            client.await.unwrap();
        }
    });
    let failures = seen.failures.lock().unwrap();
    assert!(
        failures.is_empty(),
        "{} failures: {:?}",
        failures.len(),
        failures.iter().take(10).collect::<Vec<_>>()
    );
    let answers = seen.answers.load(Ordering::Relaxed);
    assert!(
        answers > 1_000 * TIME.as_secs(),
        "only {answers} answers: this was no load"
    );
}

//! Configuration changes under load: no request fails and no connection is closed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use propylon_model::{BackendProtocol, Delta, Resources};
use propylon_testkit::echo::{EchoOptions, EchoServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::common::{Builder, start};

const LOAD: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(10);
const HOST: &str = "web.example.com";
const GRPC_HOST: &str = "grpc.example.com";

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    requests: AtomicU64,
    messages: AtomicU64,
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }
}

/// The load of the issue: 64 keep-alive clients, 100 `WebSocket`s, 20 gRPC streams; 100 deltas per second.
#[test]
fn deltas_under_load_fail_no_request_and_close_no_connection() {
    let backends: Vec<EchoServer> = (0..3)
        .map(|index| EchoServer::start(EchoOptions::named(&format!("web-{index}"))).unwrap())
        .collect();
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let proxy = start(&[]);
    let mut live = resources(&addresses, 0);
    proxy.apply(&Delta::between(&Resources::default(), &live));
    let tally = Arc::new(Tally::default());
    let runtime = Runtime::new().unwrap();
    let address = proxy.addresses().http[0];
    let swaps = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..64 {
            clients.spawn(keep_alive(address, Arc::clone(&tally)));
        }
        for _ in 0..100 {
            clients.spawn(web_socket(address, Arc::clone(&tally)));
        }
        for _ in 0..20 {
            clients.spawn(grpc_stream(address, Arc::clone(&tally)));
        }
        let mut ticks = interval(Duration::from_millis(10));
        let end = Instant::now() + LOAD;
        let mut swaps = 0;
        while Instant::now() < end {
            ticks.tick().await;
            swaps += 1;
            let next = resources(&addresses, swaps);
            proxy.apply(&Delta::between(&live, &next));
            live = next;
        }
        tally.stop.store(true, Relaxed);
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        swaps
    });
    let (requests, messages) = (tally.requests.load(Relaxed), tally.messages.load(Relaxed));
    println!("{swaps} deltas, {requests} requests, {messages} messages on streams");
    assert!(swaps >= 2_900, "{swaps}");
    assert!(requests > 10_000 && messages > 10_000, "{requests} {messages}");
    proxy.drain(Duration::ZERO);
    proxy.join();
}

/// The served host with changing endpoints (never none), beside other hosts that come and go.
fn resources(addresses: &[SocketAddr], round: usize) -> Resources {
    let kept: Vec<SocketAddr> = addresses
        .iter()
        .enumerate()
        .filter(|(index, _)| round % 4 == 3 || index % 3 != round % 3)
        .map(|(_, address)| *address)
        .collect();
    let other = format!("other-{}.example.com", round % 7);
    Builder::default()
        .host(HOST, &kept)
        .host_with(GRPC_HOST, &kept, BackendProtocol::H2c)
        .host(&other, addresses)
        .build()
}

async fn keep_alive(address: SocketAddr, tally: Arc<Tally>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /bytes/1024 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut buffer = BytesMut::new();
    while tally.goes_on() {
        stream.write_all(request.as_bytes()).await.unwrap();
        read_response(&mut stream, &mut buffer).await;
        tally.requests.fetch_add(1, Relaxed);
    }
}

async fn read_response(stream: &mut TcpStream, buffer: &mut BytesMut) {
    buffer.clear();
    loop {
        let read = timeout(PATIENCE, stream.read_buf(buffer))
            .await
            .expect("an answer in time")
            .unwrap();
        assert_ne!(read, 0, "the proxy closed the connection");
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        if buffer.len() >= end + 4 + 1024 {
            return;
        }
    }
}

async fn web_socket(address: SocketAddr, tally: Arc<Tally>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let request = format!("ws://{HOST}/socket").into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut ticks = interval(Duration::from_millis(50));
    while tally.goes_on() {
        ticks.tick().await;
        socket.send(Message::text("ping")).await.unwrap();
        let answer = timeout(PATIENCE, socket.next())
            .await
            .expect("an answer in time")
            .expect("still open")
            .unwrap();
        assert_eq!(answer.to_text().unwrap(), "ping");
        tally.messages.fetch_add(1, Relaxed);
    }
}

/// A bidirectional stream over HTTP/2 with prior knowledge: one message out, the same back, again and again.
async fn grpc_stream(address: SocketAddr, tally: Arc<Tally>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(format!("http://{GRPC_HOST}/echo.Echo/Stream"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut sender) = client.send_request(request, false).unwrap();
    let message = Bytes::from_static(&[0, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    sender.send_data(message.clone(), false).unwrap();
    let mut body = timeout(PATIENCE, response)
        .await
        .expect("a head in time")
        .unwrap()
        .into_body();
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        let mut echoed = 0;
        while echoed < message.len() {
            let data = timeout(PATIENCE, body.data())
                .await
                .expect("an echo in time")
                .expect("still open")
                .unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            echoed += data.len();
        }
        tally.messages.fetch_add(1, Relaxed);
        if !tally.goes_on() {
            break;
        }
        ticks.tick().await;
        sender.send_data(message.clone(), false).unwrap();
    }
    sender.send_data(Bytes::new(), true).unwrap();
    // The empty frame that ends the request may be echoed as one.
    while let Some(rest) = timeout(PATIENCE, body.data()).await.expect("an end in time") {
        assert!(rest.unwrap().is_empty());
    }
    let trailers = timeout(PATIENCE, body.trailers())
        .await
        .expect("trailers in time")
        .unwrap()
        .expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    drop(client);
    drop(driver);
}

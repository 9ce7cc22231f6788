use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
};

use super::{AdminError, AdminServer, Heartbeat, Probe, Routes};
use crate::metrics::{Registry, RegistryConfig};

mod pages;

const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    probe: Arc<Probe>,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

async fn start(stale_after: Duration) -> Server {
    let probe = Arc::new(Probe::new(stale_after));
    let registry = Arc::new(Registry::new(RegistryConfig::default()));
    let routes = Routes::new()
        .probes(&probe)
        .metrics(&registry)
        .json("/routes", || b"{\"hosts\":[]}".to_vec())
        .json("/broken", || panic!("on purpose"));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = AdminServer::bind(&[any, any], routes).await.expect("binds");
    let addresses = server.local_addresses();
    assert_eq!(addresses.len(), 2);
    let (stop, stopped) = oneshot::channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(async move { drop(stopped.await) }));
    Server {
        address: addresses[1],
        probe,
        stop,
        tasks,
    }
}

async fn exchange(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("reads");
    answer
}

async fn get(server: &Server, path: &str) -> (u16, String) {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.address
    );
    status_and_body(&exchange(server.address, &head).await)
}

fn status_and_body(answer: &str) -> (u16, String) {
    let status = answer
        .split(' ')
        .nth(1)
        .expect("a status line")
        .parse()
        .expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a head").1.to_owned())
}

#[tokio::test]
async fn readiness_needs_tables_and_listeners_and_fails_while_draining() {
    let server = start(DEADLINE).await;
    let (status, body) = get(&server, "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("[-] tables:") && body.contains("[-] listeners:") && !body.contains("shutdown"),
        "{body}"
    );
    assert_eq!(get(&server, "/startupz").await.0, 503);
    server.probe.set_tables_applied();
    assert_eq!(get(&server, "/readyz").await.0, 503);
    server.probe.set_listeners_bound();
    server.probe.set_started();
    assert_eq!(get(&server, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&server, "/startupz").await.0, 200);
    let (_, verbose) = get(&server, "/readyz?verbose").await;
    assert_eq!(verbose, "[+] tables\n[+] listeners\n[+] shutdown\nok\n");
    server.probe.set_draining();
    let (status, body) = get(&server, "/readyz").await;
    assert_eq!((status, body.contains("shutting down")), (503, true));
    assert_eq!(
        get(&server, "/livez").await,
        (200, "ok\n".to_owned()),
        "draining is alive"
    );
}

#[tokio::test]
async fn a_thread_that_stalls_or_panics_is_not_alive_and_one_that_ends_is_forgotten() {
    let server = start(Duration::ZERO).await;
    let silent: Heartbeat = server.probe.thread("worker-0");
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while get(&server, "/livez").await.0 == 200 {
        assert!(tokio::time::Instant::now() < deadline, "a silent thread is noticed");
    }
    assert!(
        get(&server, "/livez")
            .await
            .1
            .contains("worker-0: the thread gives no sign of life")
    );
    drop(silent);
    assert_eq!(get(&server, "/livez").await.0, 200);
    let pulse = server.probe.thread("worker-1");
    let panicked = std::thread::spawn(move || {
        pulse.beat();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let (status, body) = get(&server, "/livez").await;
    assert_eq!((status, body.contains("worker-1: the thread panicked")), (503, true));
}

#[tokio::test]
async fn views_and_metrics_are_served_and_the_rest_is_refused() {
    let server = start(DEADLINE).await;
    let (status, metrics) = get(&server, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE propylon_build_info gauge\n"), "{metrics}");
    assert_eq!(get(&server, "/routes").await, (200, "{\"hosts\":[]}".to_owned()));
    assert_eq!(get(&server, "/broken").await.0, 500);
    assert_eq!(get(&server, "/").await.0, 404);
    assert_eq!(get(&server, "/readyz/").await.0, 404);
    let post = exchange(
        server.address,
        "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        post.starts_with("HTTP/1.1 405 ") && post.to_lowercase().contains("\r\nallow: get, head\r\n"),
        "{post}"
    );
    let head = exchange(
        server.address,
        "HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_and_body(&head), (200, String::new()));
}

#[tokio::test]
async fn json_views_answer_no_foreign_name() {
    let server = start(DEADLINE).await;
    for (host, expected) in [
        ("localhost:9902", 200),
        ("LOCALHOST", 200),
        ("[::1]:9902", 200),
        ("127.0.0.1", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:9902", 403),
        ("[evil]", 403),
        ("", 403),
    ] {
        let head = format!("GET /routes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(
            status_and_body(&exchange(server.address, &head).await).0,
            expected,
            "{host}"
        );
    }
    let head = "GET /metrics HTTP/1.1\r\nHost: propylon.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status_and_body(&exchange(server.address, head).await).0, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(DEADLINE).await;
    let head = format!(
        "GET /livez HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n",
        "a".repeat(32 * 1024)
    );
    let answer = exchange(server.address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_the_port() {
    let mut server = start(DEADLINE).await;
    let mut idle = TcpStream::connect(server.address).await.expect("connects");
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("writes");
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.send(()).expect("it serves");
    server.tasks.join_next().await.expect("one task").expect("no panic");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, idle.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is closed");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = start(DEADLINE).await;
    let error = AdminServer::bind(&[server.address], Routes::new())
        .await
        .expect_err("taken");
    let AdminError::Bind { address, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(address, server.address);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_head_is_closed() {
    let server = start(DEADLINE).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(b"GET /livez HTTP/1.1\r\nHos").await.expect("writes");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "closed after the header timeout");
}

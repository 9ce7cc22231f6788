//! Pages and streams of events.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use super::*;

async fn start_pages() -> (SocketAddr, JoinSet<()>) {
    let counter = AtomicU64::new(0);
    let routes = Routes::new()
        .html("/", HeaderValue::from_static("default-src 'none'"), |query| {
            format!("<p>{query}</p>").into_bytes()
        })
        .events("/events", Duration::from_millis(20), move |query| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            format!("{query}\n{number}\r\nend").into_bytes()
        })
        .events("/still", Duration::from_millis(20), |_| b"the same".to_vec())
        .events("/large", Duration::from_millis(1), {
            let counter = AtomicU64::new(0);
            move |_| {
                let number = counter.fetch_add(1, Ordering::Relaxed);
                [number.to_string().as_bytes(), &vec![b'x'; 1 << 20]].concat()
            }
        });
    let server = AdminServer::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], routes)
        .await
        .expect("binds");
    let address = server.local_addresses()[0];
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(std::future::pending()));
    (address, tasks)
}

async fn open(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("writes");
    stream
}

/// Reads until the text was seen.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk).await.expect("reads");
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..length]);
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("in time");
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn a_page_gets_its_query_and_says_what_it_may_do() {
    let (address, _server) = start_pages().await;
    let head = format!("GET /?a=%3Cb HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &head).await;
    assert!(answer.ends_with("<p>a=%3Cb</p>"), "{answer}");
    for field in [
        "content-security-policy: default-src 'none'",
        "content-type: text/html; charset=utf-8",
        "referrer-policy: no-referrer",
        "x-frame-options: DENY",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(answer.contains(&format!("\r\n{field}\r\n")), "{field} in {answer}");
    }
}

#[tokio::test]
async fn pages_and_events_answer_no_foreign_name() {
    let (address, _server) = start_pages().await;
    for path in ["/", "/events"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        assert_eq!(status_and_body(&exchange(address, &head).await).0, 403, "{path}");
    }
}

#[tokio::test]
async fn a_view_that_changes_is_sent_again_and_lines_stay_one_event() {
    let (address, _server) = start_pages().await;
    let mut stream = open(address, "/events?q=1").await;
    let seen = read_until(&mut stream, "data: 2\n").await;
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    assert!(
        seen.contains("event: view\ndata: q=1\ndata: 0\ndata: \ndata: end\n\n"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_view_that_stays_is_sent_once_and_the_connection_kept_in_use() {
    let (address, _server) = start_pages().await;
    let mut stream = open(address, "/still").await;
    let first = read_until(&mut stream, "data: the same\n\n").await;
    let later = read_until(&mut stream, ":\n\n").await;
    assert_eq!(first.matches("the same").count() + later.matches("the same").count(), 1);
}

#[tokio::test]
async fn too_many_who_watch_are_refused_and_make_room_when_they_leave() {
    let (address, _server) = start_pages().await;
    let mut watching = Vec::new();
    for _ in 0..16 {
        let mut stream = open(address, "/events").await;
        read_until(&mut stream, "event: view").await;
        watching.push(stream);
    }
    let refused = format!("GET /events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // Other answers still have room, and HEAD takes no place.
    let page = format!("HEAD /events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    assert_eq!(status_and_body(&exchange(address, &page).await).0, 200);
    watching.clear();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let mut stream = open(address, "/events").await;
        if read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "places become free");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed() {
    let (address, _server) = start_pages().await;
    let mut stream = open(address, "/large").await;
    // The end shows without reading: the kernel answers what is sent to a closed socket with a reset.
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let reset = async {
        while stream.write_all(b"x").await.is_ok() {
            seconds.tick().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_mins(1), reset).await;
    assert!(ended.is_ok(), "the connection ends although nothing is read");
}

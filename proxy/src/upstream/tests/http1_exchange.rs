//! HTTP/1.1 exchanges: answers, reuse, interim responses, upgrades, failures.

use http::{StatusCode, Version};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn failure<B>(answer: Result<Answer<B>, SendError<B>>) -> SendError<B> {
    match answer {
        Err(error) => error,
        Ok(answer) => panic!("a failure was expected, not {answer:?}"),
    }
}

#[tokio::test]
async fn complete_answer_is_whole_and_the_connection_home_at_once() {
    let server = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=3\r\nx: y\r\n\r\nhi");
    let shelf = Shelf::new();
    let response = response(get(&server, &shelf).await);
    let (mut connection, keep_alive) = shelf.take();
    assert_eq!(keep_alive, Some(Duration::from_secs(3)));
    assert!(connection.is_reusable());
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers(), &fields(&[("content-length", "2"), ("x", "y")]));
    assert_eq!(response.body().size_hint().exact(), Some(2));
    let mut body = response.into_body();
    let frame = patiently(body.frame()).await.expect("a frame").expect("data");
    assert_eq!(frame.into_data().expect("data"), "hi");
    assert!(body.is_end_stream());
    let sent = received(&server, "\r\n\r\n").await;
    assert_eq!(sent, "GET /path?query HTTP/1.1\r\nhost: example.com\r\n\r\n");
}

#[tokio::test]
async fn connection_serves_one_exchange_after_the_other() {
    let answer = |text| Step::write(text);
    let server = server(vec![
        Step::ReadHead,
        answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"),
        Step::ReadHead,
        answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"),
        Step::ReadHead,
        answer("HTTP/1.1 204 No Content\r\n\r\n"),
        Step::Hold,
    ]);
    let shelf = Shelf::new();
    let first = response(get(&server, &shelf).await);
    assert_eq!(read(first.into_body()).await.expect("a body").0, "a");
    for (status, body) in [(200, "b"), (204, "")] {
        let (mut connection, _) = shelf.take();
        assert!(connection.is_reusable());
        let headers = HeaderMap::new();
        let home: Rc<dyn Home> = Rc::<Shelf>::clone(&shelf);
        let answer =
            patiently(connection.exchange(&head(&Method::GET, &headers), Empty::<Bytes>::new(), Some(home))).await;
        let response = response(answer);
        assert_eq!(response.status(), status);
        assert_eq!(read(response.into_body()).await.expect("a body").0, body);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn single_chunk_that_arrived_complete_gets_a_length() {
    let server = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: a\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let shelf = Shelf::new();
    let response = response(get(&server, &shelf).await);
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert!(response.headers().is_empty());
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn rs_11_http_10_answers_become_11() {
    let server = answering_and_closing("HTTP/1.0 200 OK\r\n\r\nold");
    let shelf = Shelf::new();
    let response = response(get(&server, &shelf).await);
    assert_eq!(response.version(), Version::HTTP_11);
    assert_eq!(read(response.into_body()).await.expect("a body").0, "old");
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn answers_to_head_have_no_body() {
    let server = answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
    let shelf = Shelf::new();
    let response = response(send(&Method::HEAD, &server, &shelf).await);
    assert_eq!(response.headers()["content-length"], "1000");
    assert!(response.body().is_end_stream());
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn connection_in_doubt_is_closed() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na",
        "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx",
        "HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\na",
    ] {
        let server = answering(answer);
        let shelf = Shelf::new();
        let response = response(get(&server, &shelf).await);
        assert!(read(response.into_body()).await.is_ok(), "{answer:?}");
        assert_eq!(shelf.count(), 0, "{answer:?}");
    }
}

#[tokio::test]
async fn rs_40_idle_connection_that_speaks_or_closes_is_not_reusable() {
    for end in [
        Step::write("HTTP/1.1 408 Request Timeout\r\n\r\n"),
        Step::Reset,
        Step::Read(0),
    ] {
        let answer = Step::write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
        let server = server(vec![
            Step::ReadHead,
            answer,
            Step::ReadUntil(b"now".to_vec()),
            end.clone(),
        ]);
        let shelf = Shelf::new();
        drop(response(get(&server, &shelf).await));
        let (mut connection, _) = shelf.take();
        assert!(connection.is_reusable());
        connection.io().write_all(b"now").await.expect("written");
        let noticed = propylon_testkit::wait::until_async(PATIENCE, || !connection.is_reusable()).await;
        assert!(noticed.is_some(), "{end:?}");
    }
}

#[tokio::test]
async fn interim_responses_are_absorbed_up_to_a_limit() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let server = answering(&format!("HTTP/1.1 100 Continue\r\n\r\n{}{last}", early.repeat(19)));
    let answered = response(get(&server, &Shelf::new()).await);
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.headers().get("link"), None);
    let server = answering(&format!("{}{last}", early.repeat(21)));
    let error = failure(get(&server, &Shelf::new()).await);
    assert_eq!(
        error.kind,
        UpstreamErrorKind::ProtocolError("too many interim responses")
    );
    assert!(error.response_started);
}

#[tokio::test]
async fn unasked_101_is_a_protocol_error() {
    let server = answering("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let error = failure(get(&server, &Shelf::new()).await);
    assert_eq!(error.kind, UpstreamErrorKind::ProtocolError("unexpected 101"));
}

async fn upgrade(server: &ScriptedServer) -> GetResult {
    let connection = open(server).await;
    let (headers, protocol) = (HeaderMap::new(), HeaderValue::from_static("websocket"));
    let mut head = head(&Method::GET, &headers);
    (head.upgrade, head.websocket_key) = (Some(&protocol), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    patiently(connection.exchange(&head, Empty::new(), None)).await
}

#[tokio::test]
async fn upgrade_gives_the_stream_and_what_came_with_the_head() {
    let server = server(vec![
        Step::ReadHead,
        Step::write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nfirst",
        ),
        Step::ReadUntil(b"ping".to_vec()),
        Step::write("pong"),
    ]);
    let Ok(Answer::Upgraded(mut upgraded)) = upgrade(&server).await else {
        panic!("no upgrade")
    };
    assert_eq!(upgraded.response.status, 101);
    assert_eq!(
        upgraded.response.headers,
        fields(&[("sec-websocket-accept", "x"), ("upgrade", "websocket")])
    );
    assert_eq!(upgraded.leftover, "first");
    upgraded.io.write_all(b"ping").await.expect("written");
    let mut rest = Vec::new();
    patiently(upgraded.io.read_to_end(&mut rest)).await.expect("read");
    assert_eq!(rest, b"pong");
    let sent = received(&server, "ping").await;
    assert!(
        sent.contains("\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        "{sent}"
    );
    assert!(
        sent.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"),
        "{sent}"
    );
}

#[tokio::test]
async fn refused_upgrade_is_an_ordinary_answer() {
    let server = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let response = response(upgrade(&server).await);
    assert_eq!(response.status(), 403);
    assert_eq!(read(response.into_body()).await.expect("a body").0, "no");
    let server = answering("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    let error = failure(upgrade(&server).await);
    assert_eq!(error.kind, UpstreamErrorKind::ProtocolError("unexpected 101"));
}

#[tokio::test]
async fn broken_answers_are_protocol_errors() {
    for (answer, started) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            true,
        ),
        ("SSH-2.0\r\n", true),
        ("HTTP/1.1 200 OK\r\na: b", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", true),
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
        ("", false),
    ] {
        let server = answering_and_closing(answer);
        let error = failure(get(&server, &Shelf::new()).await);
        match error.kind {
            UpstreamErrorKind::ProtocolError(_) => {}
            UpstreamErrorKind::ClosedBeforeResponse => assert!(answer.is_empty() || answer.contains("100")),
            kind => panic!("{answer:?}: {kind:?}"),
        }
        assert_eq!(
            (error.response_started, error.sent),
            (started, Sent::Some),
            "{answer:?}"
        );
        assert!(error.body.is_some(), "{answer:?}");
    }
    let server = answering(&format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(70_000)));
    assert_eq!(
        failure(get(&server, &Shelf::new()).await).kind,
        UpstreamErrorKind::HeadTooLarge
    );
}

#[tokio::test]
async fn co_08_connection_that_died_idle_gives_the_body_back() {
    let server = server(vec![Step::ReadUntil(b"now".to_vec()), Step::Reset]);
    let mut connection = open(&server).await;
    connection.io().write_all(b"now").await.expect("written");
    let closed = propylon_testkit::wait::until_async(PATIENCE, || !connection.is_reusable()).await;
    assert!(closed.is_some());
    let headers = HeaderMap::new();
    let request = head(&Method::GET, &headers);
    let error = failure(patiently(connection.exchange(&request, Full::new(Bytes::from("x")), None)).await);
    assert!(
        matches!(
            error.kind,
            UpstreamErrorKind::Reset | UpstreamErrorKind::ClosedBeforeResponse
        ),
        "{error:?}"
    );
    assert!(!error.response_started);
    assert_eq!(error.sent, Sent::Nothing);
    assert!(error.body.is_some());
}

#[tokio::test]
async fn bytes_before_the_request_are_refused() {
    let server = server(vec![
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        Step::Hold,
    ]);
    let mut connection = open(&server).await;
    let spoken = propylon_testkit::wait::until_async(PATIENCE, || !connection.is_reusable()).await;
    assert!(spoken.is_some());
}

#[tokio::test]
async fn dropping_the_exchange_closes_the_connection() {
    let server = server(vec![Step::ReadHead, Step::ReadUntil(b"never".to_vec())]);
    let connection = open(&server).await;
    let headers = HeaderMap::new();
    let shelf = Shelf::new();
    let request = head(&Method::GET, &headers);
    {
        let home: Rc<dyn Home> = Rc::<Shelf>::clone(&shelf);
        let exchange = connection.exchange(&request, Empty::<Bytes>::new(), Some(home));
        tokio::select! {
            biased;
            _ = exchange => panic!("the server never answers"),
            sent = received(&server, "\r\n\r\n") => assert!(sent.starts_with("GET ")),
        }
    }
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn exchange_future_is_small() {
    let server = answering("");
    let connection = open(&server).await;
    let headers = HeaderMap::new();
    let request = head(&Method::GET, &headers);
    let exchange = connection.exchange(&request, Empty::<Bytes>::new(), None);
    assert!(size_of_val(&exchange) <= 2048, "{} bytes", size_of_val(&exchange));
}

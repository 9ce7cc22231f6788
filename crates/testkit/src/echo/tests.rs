use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::{
    certs::Authority,
    raw::{RawClient, exchange},
};

fn server() -> EchoServer {
    EchoServer::start(EchoOptions::named("unit")).unwrap()
}

/// A multi-thread-free runtime for the client's side of an asynchronous test.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_report_says_what_was_received() {
    let server = server();
    let mut client = RawClient::connect(server.address).unwrap();
    client
        .send(b"POST /a/%2F?q=1 HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 3\r\n\r\nabc")
        .unwrap();
    let report = client.response().unwrap().json();
    assert_eq!(report["name"], "unit");
    assert_eq!(report["target"], "/a/%2F?q=1");
    assert_eq!(report["host"], "h.example");
    assert_eq!(report["body_bytes"], 3);
    assert_eq!(report["protocol"], "HTTP/1.1");
    assert_eq!(report["headers"][2], serde_json::json!(["x-a", "2"]));
    assert_eq!(
        (server.connections(), server.requests(), server.open_connections()),
        (1, 1, 1)
    );
}

#[test]
fn the_path_chooses_what_is_answered() {
    let server = server();
    let mut client = RawClient::connect(server.address).unwrap();
    assert_eq!(client.get("h", "/status/418").unwrap().status, 418);
    assert_eq!(client.get("h", "/delay/1").unwrap().status, 200);
    let bytes = client.get("h", "/bytes/70000").unwrap();
    assert_eq!(
        (bytes.header("content-length"), bytes.body.len()),
        (Some("70000"), 70_000)
    );
    let chunked = client.get("h", "/chunked/70000").unwrap();
    assert_eq!(
        (chunked.header("transfer-encoding"), chunked.body.len()),
        (Some("chunked"), 70_000)
    );
    assert_eq!(client.get("h", "/slow-body/3/1").unwrap().text(), "...");
    client
        .send(b"GET /trailers HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n")
        .unwrap();
    assert_eq!(client.response().unwrap().trailers, "x-echo-trailer: 0\r\n");
}

#[test]
fn connections_break_where_asked() {
    let server = server();
    assert_eq!(
        exchange(server.address, b"GET /close HTTP/1.1\r\nHost: h\r\n\r\n").unwrap(),
        b""
    );
    let mut client = RawClient::connect(server.address).unwrap();
    client.send(b"GET /truncate/10 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(client.head().unwrap().contains("content-length: 10\r\n"));
    assert_eq!(client.rest().unwrap(), b"xxxxx");
}

#[test]
fn echo_gives_the_body_back_as_it_comes() {
    let server = server();
    let mut client = RawClient::connect(server.address).unwrap();
    client
        .send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .unwrap();
    client.head().unwrap();
    assert_eq!(
        client.exactly(8).unwrap(),
        b"3\r\nabc\r\n",
        "before the request has ended"
    );
    client.send(b"0\r\n\r\n").unwrap();
    assert_eq!(client.exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn tls_offers_both_protocols() {
    let config = Authority::new("test")
        .leaf(&["h.example"])
        .server_config(&["h2", "http/1.1"]);
    let server = EchoServer::start(EchoOptions::named("tls").with_tls(config)).unwrap();
    let client = RawClient::connect_tls(server.address, Some("h.example"), &["h2", "http/1.1"]).unwrap();
    assert_eq!(client.alpn().as_deref(), Some("h2"));
    let mut client = RawClient::connect_tls(server.address, Some("h.example"), &["http/1.1"]).unwrap();
    assert_eq!(client.certificates().len(), 1);
    assert_eq!(client.get("h.example", "/").unwrap().json()["tls"], true);
}

#[test]
fn websocket_messages_come_back() {
    let server = server();
    block_on(async {
        let url = format!("ws://{}/any/path", server.address);
        let (mut socket, response) = tokio_tungstenite::connect_async(url).await.unwrap();
        assert_eq!(response.status(), 101);
        for message in [Message::text("hello"), Message::binary(vec![0_u8; 100_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_close());
    });
}

#[test]
fn other_upgrades_echo_bytes() {
    let server = server();
    let mut client = RawClient::connect(server.address).unwrap();
    client
        .send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\nraw")
        .unwrap();
    assert_eq!(client.response().unwrap().status, 101);
    assert_eq!(client.exactly(3).unwrap(), b"raw");
    client.finish().unwrap();
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn grpc_frames_come_back_with_a_status_in_trailers() {
    let server = server();
    block_on(async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = Handle::current().spawn(connection);
        let frame = bytes::Bytes::from_static(b"\0\0\0\0\x03abc");
        let request = http::Request::post("http://h/pkg.Service/Method")
            .header("content-type", "application/grpc")
            .body(Full::new(frame.clone()))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), frame);
        connection.abort();
    });
}

#[test]
fn a_stopped_server_refuses_connections() {
    let server = server();
    let address = server.address;
    server.stop();
    assert!(RawClient::connect(address).is_err());
}

#[test]
fn parameters_ask_like_segments() {
    let server = server();
    let mut client = RawClient::connect(server.address).unwrap();
    assert_eq!(client.get("h", "/bytes?x=1&n=300").unwrap().body.len(), 300);
    let slow = client.get("h", "/slow?ms=1").unwrap();
    assert_eq!((slow.status, slow.json()["target"].as_str()), (200, Some("/slow?ms=1")));
    server.set_health(503);
    assert_eq!(client.get("h", "/health").unwrap().status, 503);
    assert_eq!(client.get("h", "/live").unwrap().status, 200);
}

#[test]
fn facts_stand_in_the_report() {
    let facts = BTreeMap::from([("pod".to_owned(), "web-1".to_owned())]);
    let options = EchoOptions {
        facts,
        ..EchoOptions::named("unit")
    };
    let server = EchoServer::start(options).unwrap();
    let mut client = RawClient::connect(server.address).unwrap();
    let report = client.get("h", "/").unwrap().json();
    assert_eq!(
        (report["pod"].as_str(), report["name"].as_str()),
        (Some("web-1"), Some("unit"))
    );
}

#[test]
fn a_draining_server_ends_what_is_under_way() {
    let server = server();
    let mut idle = RawClient::connect(server.address).unwrap();
    assert_eq!(idle.get("h", "/").unwrap().status, 200);
    let mut busy = RawClient::connect(server.address).unwrap();
    busy.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .unwrap();
    busy.head().unwrap();
    server.drain();
    assert_eq!(idle.rest().unwrap(), b"", "an idle connection is closed");
    busy.send(b"0\r\n\r\n").unwrap();
    assert!(busy.rest().unwrap().ends_with(b"0\r\n\r\n"), "the response is whole");
    assert!(RawClient::connect(server.address).is_err());
    server.stop();
}

#[test]
fn grpc_repeats_as_often_as_asked() {
    let server = server();
    block_on(async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = Handle::current().spawn(connection);
        let frame = bytes::Bytes::from_static(b"\0\0\0\0\x03abc");
        let request = http::Request::post("http://h/echo.Echo/Repeat")
            .header("content-type", "application/grpc")
            .header("echo-count", "3")
            .header("echo-interval-ms", "1")
            .body(Full::new(frame.clone()))
            .unwrap();
        let body = sender
            .send_request(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), frame.repeat(3));
        connection.abort();
    });
}

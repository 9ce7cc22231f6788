//! WebSocket and other upgrades, from HTTP/1.1 and by extended CONNECT.

use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use propylon_e2e::{
    Gate, Http2,
    manifests::{backend_with, echo, ingress, site},
    websocket,
};
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer},
    raw::{RawClient, Step, scripted_server},
    wait::PATIENCE,
};
use tokio::{net::TcpStream, runtime::Builder, time::timeout};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, Message},
};

/// Makes the handshake on a connection and sends one message there and back.
fn greet(mut client: RawClient, host: &str) {
    client
        .send(websocket::request(host, "/chat?room=1").as_bytes())
        .unwrap();
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let lower = head.to_lowercase();
    assert!(
        lower.contains("upgrade: websocket") && lower.contains("connection: upgrade"),
        "{head}"
    );
    assert!(head.contains(websocket::ACCEPT), "{head}");
    for text in ["hello", "again"] {
        client.send(&websocket::client_text(text)).unwrap();
        assert_eq!(client.exactly(text.len() + 2).unwrap(), websocket::server_text(text));
    }
    client.send(&websocket::client_frame(0x8, &[0x03, 0xe8])).unwrap();
    let close = client.rest().unwrap();
    assert_eq!(close.first(), Some(&0x88), "{close:?}");
}

#[test]
fn a_websocket_passes_over_plain_and_tls_to_plain_and_tls() {
    let authority = Authority::new("authority");
    let config = authority.leaf(&["backend.example"]).server_config(&["http/1.1"]);
    let (plain, secure) = (
        echo("plain"),
        EchoServer::start(EchoOptions::named("secure").with_tls(config)).unwrap(),
    );
    let gate = Gate::start(
        &(site("ws.example", "ws", &[plain.address])
            + &ingress("wss").prefix("wss.example", "/", "wss", 80).yaml()
            + &backend_with("wss", "kubernetes.io/wss", &[secure.address])),
    );
    for host in ["ws.example", "wss.example"] {
        greet(gate.connect(), host);
        greet(gate.connect_tls(Some(host), &["http/1.1"]), host);
    }
}

#[test]
fn a_websocket_over_http2_becomes_an_upgrade() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    for mut client in [Http2::plain(gate.http), Http2::tls(gate.https, "web.example")] {
        assert!(client.offers_extended_connect());
        let mut request = client.request_to("CONNECT", "web.example", "/chat");
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request
            .headers_mut()
            .insert("sec-websocket-version", "13".parse().unwrap());
        let mut stream = client.open(request, false).unwrap();
        let head = stream.head().unwrap();
        assert_eq!(head.status(), 200);
        assert!(!head.headers().contains_key("sec-websocket-accept"), "{head:?}");
        for text in ["hello", "again"] {
            stream.send(websocket::client_text(text), false).unwrap();
            assert_eq!(
                &stream.at_least(text.len() + 2).unwrap()[..],
                websocket::server_text(text)
            );
        }
        stream.send(websocket::client_frame(0x8, &[0x03, 0xe8]), true).unwrap();
        assert_eq!(stream.at_least(2).unwrap().first(), Some(&0x88));
    }
}

#[test]
fn other_protocols_are_tunnelled_and_h2c_is_not() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let mut client = gate.connect();
    client
        .send(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: upgrade\r\nUpgrade: chat/1\r\n\r\n")
        .unwrap();
    let head = client.head().unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101") && head.to_lowercase().contains("upgrade: chat/1"),
        "{head}"
    );
    client.send(b"any bytes").unwrap();
    assert_eq!(client.exactly(9).unwrap(), b"any bytes");

    let request = "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let response = gate.send(request);
    assert_eq!(response.status, 200);
    let report = propylon_e2e::report::Report::of(&response);
    assert_eq!(report.headers("upgrade"), [""; 0]);
    assert_eq!(report.headers("http2-settings"), [""; 0]);
}

#[test]
fn an_upgrade_that_the_backend_refuses_is_an_ordinary_response() {
    let server = scripted_server(vec![vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        Step::Hold,
    ]])
    .unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = gate.connect();
    client.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
}

/// What asks for an upgrade may have a body (`docker exec` does): it comes before the tunnel.
#[test]
fn the_body_of_a_request_that_asks_for_an_upgrade_arrives() {
    let server = scripted_server(vec![vec![
        Step::ReadUntil(b"\r\n\r\nhello".to_vec()),
        Step::write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
        Step::ReadUntil(b"ping".to_vec()),
        Step::write("pong"),
        Step::Hold,
    ]])
    .unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = gate.connect();
    let request = "POST /exec HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
                   Content-Length: 5\r\n\r\nhello";
    client.send(request.as_bytes()).unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
    client.send(b"ping").unwrap();
    assert_eq!(client.exactly(4).unwrap(), b"pong");
}

/// To the client of an extended CONNECT, 200 would say that the tunnel is there.
#[test]
fn an_extended_connect_that_the_backend_answers_with_200_is_refused() {
    let server = scripted_server(vec![vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Step::Hold,
    ]])
    .unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = Http2::plain(gate.http);
    assert!(client.offers_extended_connect());
    let mut request = client.request_to("CONNECT", "web.example", "/chat");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let head = client.open(request, false).unwrap().head().unwrap();
    assert_eq!(head.status(), 502);
    let reason = head.headers().get("proxy-status").unwrap().to_str().unwrap();
    assert!(reason.contains("upgrade_refused"), "{reason}");
}

/// Only 101 switches: a 200 to an upgrade request is a response with a body, and what follows is no tunnel.
#[test]
fn no_byte_of_the_client_is_forwarded_before_101() {
    let server = scripted_server(vec![vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Step::Hold,
    ]])
    .unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = gate.connect();
    // Frames that a hasty client sends at once: bytes of a tunnel, and nonsense to HTTP.
    let early = [
        websocket::request("web.example", "/").as_bytes(),
        &websocket::client_text("smuggled"),
    ]
    .concat();
    client.send(&early).unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    let rest = client.rest().unwrap_or_default();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert!(
        received.concat().ends_with(b"\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&received.concat())
    );
}

#[test]
fn a_tunnel_ends_on_both_sides_when_either_ends() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let mut client = gate.connect();
    client.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    client.head().unwrap();
    drop(client);
    gate.until("the backend's connection ends", || echo.open_connections() == 0);

    let mut client = gate.connect();
    client.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    client.head().unwrap();
    echo.stop();
    client.rest().unwrap_or_default();
}

/// A client of a library: long messages in fragments, pings, the closing handshake.
#[test]
fn a_websocket_library_finds_nothing_odd() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let address = gate.http;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let conversation = async move {
        let stream = TcpStream::connect(address).await?;
        let (mut socket, response) = client_async("ws://web.example/chat", stream).await?;
        assert_eq!(response.status(), 101);
        for message in [
            Message::text("hello"),
            Message::binary(vec![7; 1 << 20]),
            Message::text("x".repeat(100_000)),
        ] {
            socket.send(message.clone()).await?;
            assert_eq!(socket.next().await.transpose()?, Some(message));
        }
        socket.send(Message::Ping("are you there".into())).await?;
        assert_eq!(
            socket.next().await.transpose()?,
            Some(Message::Pong("are you there".into()))
        );
        socket.close(None).await?;
        assert!(matches!(socket.next().await.transpose()?, Some(Message::Close(_))));
        assert!(socket.next().await.is_none());
        Ok::<(), tungstenite::Error>(())
    };
    runtime
        .block_on(async { timeout(PATIENCE, conversation).await })
        .unwrap()
        .unwrap();
}

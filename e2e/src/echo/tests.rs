use std::io::{Read, Write};

use propylon_testkit::{
    raw::RawClient,
    wait::{PATIENCE, until},
};

use super::*;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    options: Options,
}

/// Options of a server on ports of the kernel's choice, and further flags.
fn options(flags: &[&str]) -> Options {
    let ports = [
        "--http-port=0",
        "--https-port=0",
        "--tcp-port=0",
        "--udp-port=0",
        "--address=127.0.0.1",
    ];
    let own = ["--pod=web-1", "--node=node2", "--namespace=shop"];
    let words = [["echo"].as_slice(), &ports, &own, flags].concat();
    <Flags as clap::Parser>::try_parse_from(words).unwrap().options
}

fn assert_introduced(report: &Value) {
    let of = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        [of("pod"), of("node"), of("namespace")],
        ["web-1", "node2", "shop"],
        "{report}"
    );
    assert!(of("peer").starts_with("127.0.0.1:"), "{report}");
}

/// Runs `client` on a thread of its own while the runtime serves.
async fn beside<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(client).await.unwrap()
}

#[tokio::test]
async fn every_protocol_says_who_answered_and_who_asked() {
    let echo = Echo::start(&options(&[])).await.unwrap();
    let (http, https, tcp, udp) = (echo.http, echo.https, echo.tcp, echo.udp);
    beside(move || {
        let mut client = RawClient::connect(http).unwrap();
        assert_introduced(&client.get("h", "/").unwrap().json());
        let mut client = RawClient::connect_tls(https, Some("localhost"), &["http/1.1"]).unwrap();
        assert_introduced(&client.get("h", "/").unwrap().json());

        let mut stream = std::net::TcpStream::connect(tcp).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (line, rest) = text.split_once('\n').unwrap();
        assert_introduced(&serde_json::from_str(line).unwrap());
        assert_eq!(rest, "ping");

        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"ping", udp).unwrap();
        let mut bytes = [0; 2048];
        let (length, _) = socket.recv_from(&mut bytes).unwrap();
        let report: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_introduced(&report);
        assert_eq!(report["payload"], "ping");
    })
    .await;
}

#[tokio::test]
async fn its_end_fails_readiness_serves_on_and_drains() {
    let options = options(&["--shutdown-delay-ms=300"]);
    let echo = Echo::start(&options).await.unwrap();
    let http = echo.http;
    let client = tokio::task::spawn_blocking(move || {
        let status = |path| {
            RawClient::connect(http)
                .and_then(|mut client| client.get("h", path))
                .map(|answer| answer.status)
        };
        let unready = until(PATIENCE, || status("/health").is_ok_and(|status| status == 503));
        assert!(unready.is_some(), "readiness fails first");
        assert_eq!(
            (status("/").unwrap(), status("/live").unwrap()),
            (200, 200),
            "but it serves"
        );
        let mut slow = RawClient::connect(http).unwrap();
        let answer = slow.get("h", "/slow?ms=600").unwrap();
        assert_eq!(answer.status, 200, "what is under way ends");
        assert!(until(PATIENCE, || status("/").is_err()).is_some(), "then it is gone");
    });
    echo.finish(&options).await;
    client.await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options {
        tcp_port: port,
        ..options(&[])
    };
    let error = Echo::start(&options).await.err().unwrap();
    assert!(error.to_string().contains(&format!("port {port} of TCP")), "{error}");
}

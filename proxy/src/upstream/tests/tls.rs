//! TLS towards backends: verification, server names, ALPN.

use std::{net::SocketAddr, sync::Arc};

use propylon_model::BackendTls;
use propylon_testkit::certs::{Authority, Leaf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Accepts TLS connections; the task gives the first one's server name and holds the stream until it is closed.
async fn tls_server(leaf: &Leaf, alpn: &[&str]) -> (SocketAddr, JoinHandle<Option<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(leaf.server_config(alpn));
    let task = tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.ok()?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        Some(name.unwrap_or_default())
    });
    (address, task)
}

fn transport(authority: Option<&Authority>, server_name: Option<&str>, alpn: Alpn) -> Transport {
    let tls = BackendTls {
        ca_der: authority.map(|authority| Arc::from(vec![authority.der().to_vec()])),
        server_name: server_name.map(Arc::from),
    };
    Transport::Tls(Arc::new(TlsTransport::new(&tls, alpn).expect("valid settings")))
}

fn kind(result: Result<Connection, UpstreamError>) -> UpstreamErrorKind {
    match result {
        Err(error) => error.kind,
        Ok(connection) => panic!("a failure was expected, not {connection:?}"),
    }
}

async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(Box::pin(test)).await;
}

#[tokio::test]
async fn without_an_authority_any_certificate_is_taken() {
    locally(async {
        let leaf = Authority::new("unknown").leaf(&["other.example"]);
        let (address, task) = tls_server(&leaf, &["http/1.1"]).await;
        let connection = patiently(connect(address, &transport(None, None, Alpn::Http1))).await;
        assert!(matches!(connection, Ok(Connection::Http1(_))));
        drop(connection);
        assert_eq!(
            patiently(task).await.expect("no panic").as_deref(),
            Some(""),
            "an address is not sent as SNI"
        );
    })
    .await;
}

#[tokio::test]
async fn authority_and_name_are_verified() {
    locally(async {
        let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
        for (by, hosts, name, accepted) in [
            (&authority, ["backend.example"], Some("backend.example"), true),
            (&authority, ["127.0.0.1"], None, true),
            (&authority, ["backend.example"], Some("other.example"), false),
            (&authority, ["backend.example"], None, false),
            (&stranger, ["backend.example"], Some("backend.example"), false),
        ] {
            let (address, task) = tls_server(&by.leaf(&hosts), &["http/1.1"]).await;
            let connection = patiently(connect(address, &transport(Some(&authority), name, Alpn::Http1))).await;
            if accepted {
                drop(connection.expect("a connection"));
                assert_eq!(
                    patiently(task).await.expect("no panic").as_deref(),
                    Some(name.unwrap_or(""))
                );
            } else {
                assert_eq!(
                    kind(connection),
                    UpstreamErrorKind::TlsCertificate,
                    "{hosts:?} {name:?}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    locally(async {
        let leaf = Authority::new("unknown").leaf(&["backend.example"]);
        for (server, alpn, http2) in [
            (vec!["h2", "http/1.1"], Alpn::Http2OrHttp1, true),
            (vec!["http/1.1"], Alpn::Http2OrHttp1, false),
            (vec![], Alpn::Http2OrHttp1, false),
            (vec!["h2", "http/1.1"], Alpn::Http1, false),
        ] {
            let (address, _task) = tls_server(&leaf, &server).await;
            let connection = patiently(connect(address, &transport(None, None, alpn)))
                .await
                .expect("a connection");
            assert_eq!(matches!(connection, Connection::Http2(_)), http2, "{server:?} {alpn:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn plain_server_is_a_tls_failure() {
    let server = server(vec![Step::Read(1), Step::write("HTTP/1.1 400 Bad Request\r\n\r\n")]);
    let result = patiently(connect(server.address, &transport(None, None, Alpn::Http1))).await;
    assert_eq!(kind(result), UpstreamErrorKind::TlsFailed);
}

#[tokio::test]
async fn rs_44_closed_port_is_a_refusal() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert_eq!(
        kind(patiently(connect(address, &Transport::Http1)).await),
        UpstreamErrorKind::ConnectRefused
    );
}

#[test]
fn invalid_settings_are_named() {
    let settings = |ca: Option<Vec<u8>>, name: Option<&str>| {
        let tls = BackendTls {
            ca_der: ca.map(|ca| Arc::from(vec![ca])),
            server_name: name.map(Arc::from),
        };
        TlsTransport::new(&tls, Alpn::Http1).err()
    };
    assert!(matches!(
        settings(Some(b"junk".to_vec()), None),
        Some(TlsConfigError::InvalidAuthority(_))
    ));
    assert_eq!(
        settings(None, Some("a b")),
        Some(TlsConfigError::InvalidServerName("a b".to_owned()))
    );
    assert_eq!(settings(None, Some("10.0.0.1")), None);
}

#[tokio::test]
async fn exchanges_and_reuse_work_over_tls() {
    locally(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(
            Authority::new("unknown")
                .leaf(&["backend.example"])
                .server_config(&["http/1.1"]),
        );
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            let mut request = [0; 4096];
            for answer in [
                "200 OK\r\ncontent-length: 2\r\n\r\nhi",
                "200 OK\r\ncontent-length: 9\r\n\r\ncut",
            ] {
                assert_ne!(stream.read(&mut request).await.expect("a request"), 0);
                stream
                    .write_all(format!("HTTP/1.1 {answer}").as_bytes())
                    .await
                    .expect("sent");
                stream.flush().await.expect("sent");
            }
            // The end comes without close_notify.
        });
        let transport = transport(None, None, Alpn::Http2OrHttp1);
        let Ok(Connection::Http1(connection)) = patiently(connect(address, &transport)).await else {
            panic!("HTTP/1.1 was offered")
        };
        let (shelf, headers) = (Shelf::new(), HeaderMap::new());
        let request = head(&Method::GET, &headers);
        let home: Rc<dyn Home> = Rc::<Shelf>::clone(&shelf);
        let answer = patiently(connection.exchange(&request, Empty::<Bytes>::new(), Some(home))).await;
        assert_eq!(read(response(answer).into_body()).await.expect("a body").0, "hi");
        let (mut connection, _) = shelf.take();
        assert!(connection.is_reusable(), "session tickets are not an answer");
        let answer = patiently(connection.exchange(&request, Empty::<Bytes>::new(), None)).await;
        let error = read(response(answer).into_body()).await.expect_err("the body was cut");
        assert!(matches!(error, BodyError::Truncated), "{error:?}");
    })
    .await;
}

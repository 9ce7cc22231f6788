//! HTTP/2 towards a backend, against a server made of the h2 crate.

use std::net::SocketAddr;

use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use http_body_util::{Full, StreamBody};
use tokio::net::TcpListener;

use super::*;

type Responder = SendResponse<Bytes>;

/// Serves one connection; each request is given to `serve` on a task of its own.
async fn h2_server<S>(streams: u32, serve: impl Fn(Request<RecvStream>, Responder) -> S + 'static) -> SocketAddr
where
    S: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::Builder::new()
            .max_concurrent_streams(streams)
            .handshake::<_, Bytes>(stream)
            .await
            .expect("HTTP/2");
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::task::spawn_local(serve(request, respond));
        }
    });
    address
}

async fn h2_connect(address: SocketAddr) -> Http2 {
    match patiently(connect(address, &Transport::H2c))
        .await
        .expect("a connection")
    {
        Connection::Http2(connection) => connection,
        Connection::Http1(_) => panic!("HTTP/2 was asked for"),
    }
}

fn answer(respond: &mut Responder, status: u16, headers: &[(&str, &str)], body: Option<&'static str>) {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = fields(headers);
    let mut stream = respond.send_response(response, body.is_none()).expect("sent");
    if let Some(body) = body {
        stream
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .expect("sent");
    }
}

async fn body_of(request: Request<RecvStream>) -> (http::request::Parts, String, Option<HeaderMap>) {
    let (parts, mut stream) = request.into_parts();
    let mut text = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("data");
        stream.flow_control().release_capacity(data.len()).expect("released");
        text.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.expect("trailers");
    (parts, String::from_utf8(text).expect("text"), trailers)
}

async fn locally(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(Box::pin(test)).await;
}

async fn h2_get(connection: &Http2, headers: &HeaderMap) -> GetResult {
    patiently(connection.exchange(&head(&Method::GET, headers), Empty::new())).await
}

fn failure<B>(answer: Result<Answer<B>, SendError<B>>) -> SendError<B> {
    match answer {
        Err(error) => error,
        Ok(answer) => panic!("a failure was expected, not {answer:?}"),
    }
}

#[tokio::test]
async fn request_carries_the_filtered_fields() {
    locally(async {
        let (seen_in, mut seen) = mpsc::channel(1);
        let address = h2_server(10, move |request, mut respond| {
            let seen_in = seen_in.clone();
            async move {
                seen_in.send(body_of(request).await).await.expect("the test waits");
                answer(&mut respond, 200, &[("content-length", "2"), ("x", "y")], Some("hi"));
            }
        })
        .await;
        let connection = h2_connect(address).await;
        let client = fields(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("host", "other"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "192.0.2.1"),
        ]);
        let response = response(h2_get(&connection, &client).await);
        assert_eq!(response.version(), http::Version::HTTP_11);
        assert_eq!(response.headers(), &fields(&[("content-length", "2"), ("x", "y")]));
        assert_eq!(response.body().size_hint().exact(), Some(2));
        assert_eq!(read(response.into_body()).await.expect("a body").0, "hi");
        let (parts, body, _) = seen.recv().await.expect("a request");
        assert_eq!(parts.uri, "http://example.com/path?query");
        assert_eq!(parts.headers, fields(&[("cookie", "a=1; b=2")]));
        assert_eq!(body, "");
        assert_eq!(connection.active_streams(), 0);
    })
    .await;
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    locally(async {
        let address = h2_server(10, |request, mut respond| async move {
            let (parts, body, trailers) = body_of(request).await;
            assert_eq!(
                parts.headers.get("te").map(HeaderValue::as_bytes),
                Some(&b"trailers"[..])
            );
            assert_eq!(trailers, Some(fields(&[("x-sum", "1")])));
            let mut stream = respond.send_response(Response::new(()), false).expect("sent");
            stream.send_data(Bytes::from(body), false).expect("sent");
            stream
                .send_trailers(fields(&[("grpc-status", "0"), ("content-length", "7")]))
                .expect("sent");
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        let mut request = head(&Method::POST, &headers);
        (request.body, request.te_trailers) = (BodyLength::Unknown, true);
        let trailers = Ok(Frame::trailers(fields(&[("x-sum", "1"), ("host", "no")])));
        let body = StreamBody::new(futures_util::stream::iter([data("hello "), data("there"), trailers]));
        let response = response(patiently(connection.exchange(&request, body)).await);
        let (body, trailers) = read(response.into_body()).await.expect("a body");
        assert_eq!(body, "hello there");
        assert_eq!(trailers, Some(fields(&[("grpc-status", "0")])));
    })
    .await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_under_flow_control() {
    locally(async {
        let address = h2_server(10, |request, mut respond| async move {
            let (parts, mut incoming) = request.into_parts();
            assert_eq!(parts.headers["content-length"], "3000000");
            let mut stream = respond.send_response(Response::new(()), false).expect("sent");
            while let Some(data) = incoming.data().await {
                let data = data.expect("data");
                incoming.flow_control().release_capacity(data.len()).expect("released");
                stream.send_data(data, false).expect("sent");
            }
            stream.send_data(Bytes::new(), true).expect("sent");
        })
        .await;
        let connection = h2_connect(address).await;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let headers = HeaderMap::new();
        let mut request = head(&Method::POST, &headers);
        request.body = BodyLength::Exact(bytes.len() as u64);
        let answer = patiently(connection.exchange(&request, Full::new(Bytes::from(bytes.clone())))).await;
        assert!(read(response(answer).into_body()).await.expect("a body").0 == bytes);
    })
    .await;
}

#[tokio::test]
async fn request_goes_on_although_the_response_is_not_read() {
    locally(async {
        let (done_in, mut done) = mpsc::channel(1);
        let address = h2_server(10, move |request, mut respond| {
            let done_in = done_in.clone();
            async move {
                let mut stream = respond.send_response(Response::new(()), false).expect("sent");
                done_in.send(body_of(request).await.1).await.expect("the test waits");
                stream.send_data(Bytes::from_static(b"bye"), true).expect("sent");
            }
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        let mut request = head(&Method::POST, &headers);
        request.body = BodyLength::Unknown;
        let (feeder, _, body) = FedBody::new();
        let response = response(patiently(connection.exchange(&request, body)).await);
        feeder.send(data("late ")).await.expect("the body is read");
        feeder.send(data("words")).await.expect("the body is read");
        drop(feeder);
        assert_eq!(patiently(done.recv()).await.as_deref(), Some("late words"));
        assert_eq!(read(response.into_body()).await.expect("a body").0, "bye");
    })
    .await;
}

#[tokio::test]
async fn failing_client_body_resets_the_stream() {
    locally(async {
        let address = h2_server(10, |request, respond| async move {
            let (_, mut stream) = request.into_parts();
            while let Some(Ok(_)) = stream.data().await {}
            drop(respond);
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        let mut request = head(&Method::POST, &headers);
        request.body = BodyLength::Unknown;
        let body = StreamBody::new(futures_util::stream::iter([data("a"), Err("client left".into())]));
        let error = failure(patiently(connection.exchange(&request, body)).await);
        assert_eq!(error.kind, UpstreamErrorKind::RequestBody);
        assert!(connection.is_usable());
        assert_eq!(connection.active_streams(), 0);
    })
    .await;
}

#[tokio::test]
async fn refused_stream_may_be_repeated_and_a_reset_not() {
    locally(async {
        for (reason, kind, sent) in [
            (Reason::REFUSED_STREAM, UpstreamErrorKind::Refused, Sent::Nothing),
            (Reason::INTERNAL_ERROR, UpstreamErrorKind::Reset, Sent::Some),
        ] {
            let address = h2_server(10, move |_, mut respond| async move { respond.send_reset(reason) }).await;
            let connection = h2_connect(address).await;
            let error = failure(h2_get(&connection, &HeaderMap::new()).await);
            assert_eq!((error.kind, error.sent), (kind, sent));
            assert!(error.body.is_some());
            assert!(connection.is_usable());
        }
    })
    .await;
}

#[tokio::test]
async fn rs_08_reset_within_the_body_is_a_failure() {
    locally(async {
        let address = h2_server(10, |_, mut respond| async move {
            let mut stream = respond.send_response(Response::new(()), false).expect("sent");
            stream.send_data(Bytes::from_static(b"some"), false).expect("sent");
            stream.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let connection = h2_connect(address).await;
        let result = match h2_get(&connection, &HeaderMap::new()).await {
            Ok(Answer::Response(response)) => read(response.into_body()).await.map(drop),
            Ok(Answer::Upgraded(_)) => panic!("no upgrade was asked for"),
            Err(_) => return,
        };
        assert!(matches!(result, Err(BodyError::Http2(_))), "{result:?}");
    })
    .await;
}

#[tokio::test]
async fn doubtful_lengths_are_refused() {
    locally(async {
        for lengths in [&["2", "2"][..], &["2, 2"], &["-1"], &["x"]] {
            let pairs: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            let headers = fields(&pairs);
            let address = h2_server(10, move |_, mut respond| {
                let headers = headers.clone();
                async move {
                    let mut response = Response::new(());
                    *response.headers_mut() = headers;
                    // The reset of the other side may come first.
                    if let Ok(mut stream) = respond.send_response(response, false) {
                        drop(stream.send_data(Bytes::from_static(b"hi"), true));
                    }
                }
            })
            .await;
            let connection = h2_connect(address).await;
            let error = failure(h2_get(&connection, &HeaderMap::new()).await);
            assert!(
                matches!(error.kind, UpstreamErrorKind::ProtocolError(_)),
                "{lengths:?}: {error:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn answers_without_content_end_at_once() {
    locally(async {
        let address = h2_server(10, |_, mut respond| async move {
            answer(&mut respond, 200, &[("content-length", "9")], None);
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        let answer = patiently(connection.exchange(&head(&Method::HEAD, &headers), Empty::<Bytes>::new())).await;
        let response = response(answer);
        assert_eq!(response.headers()["content-length"], "9");
        assert!(response.body().is_end_stream());
    })
    .await;
}

#[tokio::test]
async fn expect_waits_for_the_answer() {
    locally(async {
        let address = h2_server(10, |request, mut respond| async move {
            assert_eq!(request.headers()["expect"], "100-continue");
            answer(&mut respond, 417, &[], None);
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        let mut request = head(&Method::POST, &headers);
        (request.body, request.expect_continue) = (BodyLength::Exact(4), true);
        let (_feeder, polls, body) = FedBody::new();
        let response = response(patiently(connection.exchange(&request, body)).await);
        assert_eq!(response.status(), 417);
        assert_eq!(polls.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn capacity_follows_the_backend_and_handles_share_the_connection() {
    locally(async {
        let address = h2_server(2, |_, mut respond| async move {
            let _stream = respond.send_response(Response::new(()), false).expect("sent");
            std::future::pending::<()>().await;
        })
        .await;
        let connection = h2_connect(address).await;
        let clone = connection.clone();
        let first = response(h2_get(&connection, &HeaderMap::new()).await);
        assert!(clone.has_capacity());
        let second = response(h2_get(&clone, &HeaderMap::new()).await);
        assert_eq!(connection.active_streams(), 2);
        assert!(!connection.has_capacity());
        drop((first, second));
        assert!(connection.has_capacity());
        assert!(connection.is_usable());
    })
    .await;
}

#[tokio::test]
async fn closed_connection_is_not_usable() {
    locally(async {
        let server = answering_and_closing("");
        let connection = h2_connect(server.address).await;
        let closed = propylon_testkit::wait::until_async(PATIENCE, || !connection.is_usable()).await;
        assert!(closed.is_some());
        let error = failure(h2_get(&connection, &HeaderMap::new()).await);
        assert_eq!(error.sent, Sent::Nothing);
        assert!(error.body.is_some());
    })
    .await;
}

#[tokio::test]
async fn http1_server_is_not_usable() {
    locally(async {
        let server = answering("HTTP/1.1 400 Bad Request\r\n\r\n");
        let connection = h2_connect(server.address).await;
        let error = failure(h2_get(&connection, &HeaderMap::new()).await);
        assert!(!error.response_started, "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn upgrades_are_left_to_http1() {
    locally(async {
        let address = h2_server(10, |_, _| async {}).await;
        let connection = h2_connect(address).await;
        let (headers, protocol) = (HeaderMap::new(), HeaderValue::from_static("websocket"));
        let mut request = head(&Method::GET, &headers);
        request.upgrade = Some(&protocol);
        let error = failure(patiently(connection.exchange(&request, Empty::<Bytes>::new())).await);
        assert_eq!(
            (error.kind, error.sent),
            (UpstreamErrorKind::UpgradeUnsupported, Sent::Nothing)
        );
    })
    .await;
}

#[tokio::test]
async fn goodbye_ends_new_requests_but_not_those_under_way() {
    locally(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, refused) = tokio::sync::oneshot::channel();
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            let (_, mut respond) = connection.accept().await.expect("a request").expect("no failure");
            let mut stream = respond.send_response(Response::new(()), false).expect("sent");
            connection.graceful_shutdown();
            tokio::task::spawn_local(async move { while connection.accept().await.is_some() {} });
            refused.await.expect("the test goes on");
            stream.send_data(Bytes::from_static(b"done"), true).expect("sent");
        });
        let connection = h2_connect(address).await;
        let response = response(h2_get(&connection, &HeaderMap::new()).await);
        let refusing = propylon_testkit::wait::until_async(PATIENCE, || !connection.is_usable()).await;
        assert!(refusing.is_some());
        seen.send(()).expect("the server waits");
        assert_eq!(read(response.into_body()).await.expect("a body").0, "done");
        let error = failure(h2_get(&connection, &HeaderMap::new()).await);
        assert_eq!(error.sent, Sent::Nothing);
    })
    .await;
}

#[tokio::test]
async fn asterisk_and_missing_host_can_be_expressed() {
    locally(async {
        let address = h2_server(10, |request, mut respond| async move {
            let path = request.uri().path().to_owned();
            answer(&mut respond, 200, &[("x-path", &path)], None);
        })
        .await;
        let connection = h2_connect(address).await;
        let headers = HeaderMap::new();
        for (method, target, authority) in [(Method::OPTIONS, "*", &b"example.com"[..]), (Method::GET, "/a", b"")] {
            let mut request = head(&method, &headers);
            (request.target, request.authority) = (target, authority);
            let answer = patiently(connection.exchange(&request, Empty::<Bytes>::new())).await;
            assert_eq!(response(answer).headers()["x-path"], target);
        }
    })
    .await;
}

//! Streamed HTTP/1.1 response bodies.

use super::*;

async fn streamed(steps: Vec<Step>) -> (ScriptedServer, Rc<Shelf>, Response<UpstreamBody<Empty<Bytes>>>) {
    let mut script = vec![Step::ReadHead];
    script.extend(steps);
    let server = server(script);
    let shelf = Shelf::new();
    let response = response(get(&server, &shelf).await);
    (server, shelf, response)
}

async fn next<B>(body: &mut UpstreamBody<B>) -> String
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let frame = patiently(body.frame()).await.expect("a frame").expect("no failure");
    String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text")
}

#[tokio::test]
async fn length_is_counted_down_exactly() {
    let (_server, shelf, response) = streamed(vec![
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\none"),
        Step::ReadUntil(b"go".to_vec()),
        Step::write("two345"),
        Step::Hold,
    ])
    .await;
    let mut body = response.into_body();
    assert_eq!(body.size_hint().exact(), Some(9));
    assert_eq!(next(&mut body).await, "one");
    assert_eq!(body.size_hint().exact(), Some(6));
    assert!(!body.is_end_stream());
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn end_is_known_with_the_last_data() {
    for (announced, parts, sum) in [
        ("content-length: 6", ["", "onetwo"], "onetwo"),
        (
            "transfer-encoding: chunked",
            ["3\r\none\r\n", "3\r\ntwo\r\n0\r\n\r\n"],
            "onetwo",
        ),
    ] {
        let (_server, shelf, response) = streamed(vec![
            Step::write(&format!("HTTP/1.1 200 OK\r\n{announced}\r\n\r\n{}", parts[0])),
            Step::Pause(Duration::from_millis(30)),
            Step::write(parts[1]),
            Step::Hold,
        ])
        .await;
        let mut body = response.into_body();
        let mut text = String::new();
        while text.len() < sum.len() {
            assert!(!body.is_end_stream());
            text.push_str(&next(&mut body).await);
        }
        assert_eq!(text, sum);
        assert!(body.is_end_stream(), "{announced}");
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(shelf.count(), 1, "home before the end is asked for");
        assert!(patiently(body.frame()).await.is_none());
    }
}

#[tokio::test]
async fn large_body_passes_unchanged_and_the_connection_returns() {
    let whole: String = "0123456789abcdefg".repeat(100_000);
    let (_server, shelf, response) = streamed(vec![
        Step::write(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{whole}",
            whole.len()
        )),
        Step::Hold,
    ])
    .await;
    assert_eq!(response.body().size_hint().exact(), Some(whole.len() as u64));
    assert!(read(response.into_body()).await.expect("a body").0 == whole);
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn chunked_trailers_become_a_frame_without_forbidden_fields() {
    let (_server, shelf, response) = streamed(vec![
        Step::write(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n2\r\nhi\r\n0\r\n\
             grpc-status: 0\r\ncontent-length: 5\r\nconnection: x\r\n\r\n",
        ),
        Step::Hold,
    ])
    .await;
    assert_eq!(response.headers(), &fields(&[("trailer", "grpc-status")]));
    let (body, trailers) = read(response.into_body()).await.expect("a body");
    assert_eq!(body, "hi");
    assert_eq!(trailers, Some(fields(&[("grpc-status", "0")])));
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn body_until_close_ends_with_the_connection() {
    let (_server, shelf, response) =
        streamed(vec![Step::write("HTTP/1.1 200 OK\r\n\r\nall of"), Step::write(" it")]).await;
    assert_eq!(response.body().size_hint().exact(), None);
    assert_eq!(read(response.into_body()).await.expect("a body").0, "all of it");
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn rs_08_to_13_truncation_is_never_a_clean_end() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\non",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly\r\n0\r\na: b\r\n",
    ] {
        let (_server, shelf, response) = streamed(vec![Step::write(text)]).await;
        let error = read(response.into_body()).await.expect_err("a failure");
        assert!(matches!(error, BodyError::Truncated), "{text:?}: {error:?}");
        assert_eq!(shelf.count(), 0);
    }
}

#[tokio::test]
async fn reset_is_a_failure_even_until_close() {
    for framing in ["content-length: 9\r\n", "transfer-encoding: chunked\r\n", ""] {
        let (_server, _, response) = streamed(vec![
            Step::write(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n4\r\n")),
            Step::Pause(Duration::from_millis(30)),
            Step::Reset,
        ])
        .await;
        assert!(read(response.into_body()).await.is_err(), "{framing:?}");
    }
}

#[tokio::test]
async fn malformed_chunk_breaks_the_body_off() {
    for bad in ["zz\r\n", "2\r\nlong\r\n", "1\nx\r\n"] {
        let (_server, shelf, response) = streamed(vec![
            Step::write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"),
            Step::Pause(Duration::from_millis(30)),
            Step::write(bad),
            Step::Hold,
        ])
        .await;
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await, "ok");
        let error = loop {
            match patiently(body.frame()).await.expect("not a clean end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BodyError::Protocol(_)), "{bad:?}: {error:?}");
        assert!(patiently(body.frame()).await.is_none());
        assert_eq!(shelf.count(), 0);
    }
}

#[tokio::test]
async fn dropped_body_closes_the_connection() {
    let (server, shelf, response) = streamed(vec![
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\none"),
        Step::Hold,
    ])
    .await;
    drop(response);
    assert_eq!(shelf.count(), 0);
    assert_eq!(server.connections(), 1);
}

/// Far more than all socket buffers together.
const HUGE: usize = 64 * 1024 * 1024;

/// Writes as long as the socket takes bytes or a reader on this thread makes room; gives how many it took.
async fn write_until_stuck(stream: &tokio::net::TcpStream) -> usize {
    let piece = vec![b'x'; 64 * 1024];
    let (mut written, mut idle_turns) = (0, 0);
    while written < HUGE && idle_turns < 1000 {
        let rest = piece.get(..piece.len().min(HUGE - written)).unwrap_or_default();
        if let Ok(count) = stream.try_write(rest) {
            (written, idle_turns) = (written + count, 0);
        } else {
            idle_turns += 1;
            tokio::task::yield_now().await;
        }
    }
    written
}

#[tokio::test]
async fn slow_reader_holds_the_backend_back() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let Ok(Connection::Http1(connection)) = patiently(connect(address, &Transport::Http1)).await else {
        panic!("a connection")
    };
    let (stream, _) = patiently(listener.accept()).await.expect("a connection");
    let headers = HeaderMap::new();
    let request = head(&Method::GET, &headers);
    let serve = async {
        stream.readable().await.expect("a request");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n");
        assert_eq!(
            stream.try_write(answer.as_bytes()).expect("room for a head"),
            answer.len()
        );
    };
    let (answer, ()) = tokio::join!(
        patiently(connection.exchange(&request, Empty::<Bytes>::new(), None)),
        serve
    );
    let mut body = response(answer).into_body();
    let written = write_until_stuck(&stream).await;
    assert!(written < HUGE, "somebody stored {written} bytes that nobody asked for");
    let mut taken = 0;
    while taken < written {
        let frame = patiently(body.frame()).await.expect("more").expect("no failure");
        let length = frame.into_data().expect("data").len();
        assert!(length <= 128 * 1024, "{length}");
        taken += length;
    }
    assert_eq!(taken, written);
}

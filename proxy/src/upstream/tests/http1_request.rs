//! The request body on its way out over HTTP/1.1.

use http_body_util::{Full, StreamBody};
use tokio::sync::oneshot;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn post<B>(
    server: &ScriptedServer,
    body: B,
    change: impl FnOnce(&mut RequestHead<'_>),
) -> (Rc<Shelf>, Result<Answer<B>, SendError<B>>)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let connection = open(server).await;
    let shelf = Shelf::new();
    let headers = HeaderMap::new();
    let mut head = head(&Method::POST, &headers);
    change(&mut head);
    let home: Rc<dyn Home> = Rc::<Shelf>::clone(&shelf);
    let answer = patiently(connection.exchange(&head, body, Some(home))).await;
    (shelf, answer)
}

fn server_reading(mark: &str) -> ScriptedServer {
    server(vec![
        Step::ReadUntil(mark.as_bytes().to_vec()),
        Step::write(OK),
        Step::Hold,
    ])
}

fn exact(length: u64) -> impl FnOnce(&mut RequestHead<'_>) {
    move |head| head.body = BodyLength::Exact(length)
}

fn chunked(head: &mut RequestHead<'_>) {
    head.body = BodyLength::Unknown;
}

#[tokio::test]
async fn body_of_known_length_follows_the_head() {
    let server = server_reading("hello");
    let (shelf, answer) = post(&server, Full::new(Bytes::from("hello")), exact(5)).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
    assert_eq!(
        received(&server, "hello").await,
        "POST /path?query HTTP/1.1\r\nhost: example.com\r\ncontent-length: 5\r\n\r\nhello"
    );
}

#[tokio::test]
async fn body_of_unknown_length_goes_in_chunks() {
    let server = server_reading("0\r\n\r\n");
    let body = StreamBody::new(futures_util::stream::iter([
        data("hello"),
        data(""),
        data("a chunk of 20 bytes!"),
    ]));
    let (shelf, answer) = post(&server, body, chunked).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
    let sent = received(&server, "0\r\n\r\n").await;
    assert!(
        sent.ends_with("chunked\r\n\r\n5\r\nhello\r\n14\r\na chunk of 20 bytes!\r\n0\r\n\r\n"),
        "{sent:?}"
    );
}

#[tokio::test]
async fn end_known_with_the_last_frame_joins_its_write() {
    let server = server_reading("0\r\n\r\n");
    let (_, answer) = post(&server, Full::new(Bytes::from(vec![b'x'; 0xabc])), chunked).await;
    assert_eq!(response(answer).status(), 200);
    let sent = received(&server, "0\r\n\r\n").await;
    assert!(
        sent.contains("\r\n\r\nabc\r\nxxx") && sent.ends_with("xxx\r\n0\r\n\r\n"),
        "{sent:?}"
    );
}

#[tokio::test]
async fn request_trailers_follow_the_last_chunk() {
    let server = server_reading("\r\n\r\n0\r\nx-sum: 1\r\n\r\n");
    let trailers = fields(&[("x-sum", "1"), ("content-length", "3"), ("authorization", "no")]);
    let body = StreamBody::new(futures_util::stream::iter([Ok::<_, BoxError>(Frame::trailers(
        trailers,
    ))]));
    let (shelf, answer) = post(&server, body, chunked).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn large_body_passes_unchanged() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    let server = server(vec![
        Step::ReadHead,
        Step::Read(bytes.len()),
        Step::write(OK),
        Step::Hold,
    ]);
    let length = bytes.len() as u64;
    let (shelf, answer) = post(&server, Full::new(Bytes::from(bytes.clone())), exact(length)).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
    assert!(server.received()[0].ends_with(&bytes));
}

#[tokio::test]
async fn body_that_contradicts_its_length_fails_the_request() {
    for (length, text) in [(3, "hello"), (9, "hello")] {
        let server = server(vec![Step::ReadHead, Step::Hold]);
        let (shelf, answer) = post(&server, Full::new(Bytes::from(text)), exact(length)).await;
        let error = answer.expect_err("a failure");
        assert_eq!(error.kind, UpstreamErrorKind::RequestBody, "{length}");
        assert!(error.body.is_none());
        assert_eq!(shelf.count(), 0);
    }
}

#[tokio::test]
async fn failing_client_body_fails_the_request() {
    let server = server(vec![Step::ReadHead, Step::Hold]);
    let body = StreamBody::new(futures_util::stream::iter([data("a"), Err("client left".into())]));
    let (_, answer) = post(&server, body, chunked).await;
    let error = answer.expect_err("a failure");
    assert_eq!((error.kind, error.sent), (UpstreamErrorKind::RequestBody, Sent::Some));
    assert_eq!(error.source.expect("a source").to_string(), "client left");
}

fn expecting(head: &mut RequestHead<'_>) {
    head.body = BodyLength::Exact(4);
    head.expect_continue = true;
}

#[tokio::test]
async fn expected_100_lets_the_body_go() {
    let script = vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 100 Continue\r\n\r\n"),
        Step::ReadUntil(b"data".to_vec()),
        Step::write(OK),
        Step::Hold,
    ];
    let server = server(script);
    let (shelf, answer) = post(&server, Full::new(Bytes::from("data")), expecting).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
    assert!(received(&server, "data").await.contains("\r\nexpect: 100-continue\r\n"));
}

#[tokio::test]
async fn final_answer_to_expect_takes_no_body() {
    let server = answering("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
    let (_feeder, polls, body) = FedBody::new();
    let (shelf, answer) = post(&server, body, expecting).await;
    assert_eq!(response(answer).status(), 417);
    assert_eq!(polls.get(), 0);
    assert_eq!(shelf.count(), 0, "the backend may still wait for the body");
}

#[tokio::test]
async fn silent_backend_gets_the_expected_body_after_a_while() {
    let server = server_reading("data");
    let (shelf, answer) = post(&server, Full::new(Bytes::from("data")), expecting).await;
    assert_eq!(response(answer).status(), 200);
    assert_eq!(shelf.count(), 1);
}

#[tokio::test]
async fn early_answer_streams_while_the_request_goes_on() {
    let server = server(vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none"),
        Step::ReadUntil(b"second".to_vec()),
        Step::write("two"),
        Step::Hold,
    ]);
    let (feeder, _, body) = FedBody::new();
    let (shelf, answer) = post(&server, body, exact(6)).await;
    let mut body = response(answer).into_body();
    let first = patiently(body.frame()).await.expect("a frame").expect("data");
    assert_eq!(first.into_data().expect("data"), "one");
    feeder.send(data("second")).await.expect("the body is read");
    assert_eq!(read(body).await.expect("a body").0, "two");
    assert_eq!(shelf.count(), 1, "both directions ended");
}

#[tokio::test]
async fn client_failure_during_an_early_answer_breaks_it() {
    let script = vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none"),
        Step::Hold,
    ];
    let server = server(script);
    let (feeder, _, body) = FedBody::new();
    let (shelf, answer) = post(&server, body, exact(6)).await;
    feeder.send(Err("client left".into())).await.expect("the body is read");
    let error = read(response(answer).into_body()).await.expect_err("a failure");
    assert!(matches!(error, BodyError::RequestBody(_)), "{error:?}");
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn complete_early_answer_closes_the_connection() {
    let server = answering("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno");
    let (_feeder, _, body) = FedBody::new();
    let (shelf, answer) = post(&server, body, exact(1000)).await;
    let response = response(answer);
    assert_eq!(response.status(), 413);
    assert_eq!(read(response.into_body()).await.expect("a body").0, "no");
    assert_eq!(shelf.count(), 0);
}

#[tokio::test]
async fn answer_is_read_although_writing_failed() {
    let server = server(vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"),
    ]);
    let (feeder, _, body) = FedBody::new();
    let connection = open(&server).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let feeding = async move {
        tokio::select! {
            () = async { while feeder.send(data("0123456789abcdef")).await.is_ok() {} } => {}
            _ = stopped => {}
        }
    };
    let headers = HeaderMap::new();
    let mut request = head(&Method::POST, &headers);
    request.body = BodyLength::Unknown;
    let exchange = async {
        let answer = patiently(connection.exchange(&request, body, None)).await;
        drop(stop);
        answer
    };
    let ((), answer) = tokio::join!(feeding, exchange);
    // The reset may overtake the answer; never may it hang or be taken for a success.
    match answer {
        Ok(Answer::Response(response)) => assert_eq!(response.status(), 413),
        Ok(Answer::Upgraded(_)) => panic!("no upgrade was asked for"),
        Err(error) => assert_eq!(error.sent, Sent::Some),
    }
}

#[tokio::test]
async fn body_is_untouched_when_none_is_announced() {
    let server = answering_and_closing("");
    let (_feeder, polls, body) = FedBody::new();
    let (_, answer) = post(&server, body, |_| {}).await;
    assert!(answer.expect_err("a failure").body.is_some());
    assert_eq!(polls.get(), 0);
}

#[tokio::test]
async fn answer_that_ends_before_its_request_closes_the_connection() {
    let server = server(vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\none"),
        Step::ReadUntil(b"half".to_vec()),
        Step::write("two"),
        Step::Hold,
    ]);
    let (feeder, _, body) = FedBody::new();
    let (shelf, answer) = post(&server, body, exact(8)).await;
    feeder.send(data("half")).await.expect("the body is read");
    assert_eq!(read(response(answer).into_body()).await.expect("a body").0, "onetwo");
    assert_eq!(shelf.count(), 0, "the next request would become the rest of this body");
}

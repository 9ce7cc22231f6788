//! Tests of the upstream side: scripted bytes in, bytes out.

mod chunked;
mod head;
mod http1_body;
mod http1_exchange;
mod http1_request;
mod http2;
mod race;
mod serialize;
mod tls;

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use propylon_testkit::{
    raw::{ScriptedServer, Step, scripted_server},
    wait::PATIENCE,
};
use tokio::sync::mpsc;

use super::*;

/// A request head for `/path?query` at `example.com`, from an untrusted peer, without a body.
fn head<'a>(method: &'a Method, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead {
        method,
        target: "/path?query",
        authority: b"example.com",
        headers,
        peer: PeerTrust::Untrusted,
        body: BodyLength::None,
        te_trailers: false,
        expect_continue: false,
        upgrade: None,
        websocket_key: None,
        extra: &[],
    }
}

fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a field name");
            (name, HeaderValue::from_str(value).expect("a field value"))
        })
        .collect()
}

/// Collects what comes home.
#[derive(Default)]
struct Shelf {
    returned: RefCell<Vec<(Box<Http1>, Option<Duration>)>>,
}

impl Shelf {
    fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    fn count(&self) -> usize {
        self.returned.borrow().len()
    }

    fn take(&self) -> (Box<Http1>, Option<Duration>) {
        self.returned.borrow_mut().pop().expect("a connection came home")
    }
}

impl Home for Shelf {
    fn put_back(&self, connection: Box<Http1>, keep_alive: Option<Duration>) {
        self.returned.borrow_mut().push((connection, keep_alive));
    }
}

/// A request body fed by the test; counts how often it was asked.
struct FedBody {
    frames: mpsc::Receiver<Result<Frame<Bytes>, BoxError>>,
    polls: Rc<Cell<usize>>,
}

type Feeder = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

impl FedBody {
    fn new() -> (Feeder, Rc<Cell<usize>>, Self) {
        let (sender, frames) = mpsc::channel(16);
        let polls = Rc::new(Cell::new(0));
        (sender, Rc::clone(&polls), Self { frames, polls })
    }
}

impl Body for FedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polls.set(self.polls.get() + 1);
        self.frames.poll_recv(cx)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the items of a body are results")]
fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn server(script: Vec<Step>) -> ScriptedServer {
    scripted_server(vec![script]).expect("a scripted server")
}

/// A server that answers one request head with `answer` and keeps the connection open.
fn answering(answer: &str) -> ScriptedServer {
    server(vec![Step::ReadHead, Step::write(answer), Step::Hold])
}

/// A server that answers one request head with `answer` and closes the connection.
fn answering_and_closing(answer: &str) -> ScriptedServer {
    server(vec![Step::ReadHead, Step::write(answer)])
}

async fn open(server: &ScriptedServer) -> Box<Http1> {
    match connect(server.address, &Transport::Http1).await.expect("a connection") {
        Connection::Http1(connection) => connection,
        Connection::Http2(_) => panic!("HTTP/1.1 was asked for"),
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("no answer in time")
}

type GetResult = Result<Answer<Empty<Bytes>>, SendError<Empty<Bytes>>>;

/// Sends a plain request without a body.
async fn send(method: &Method, server: &ScriptedServer, shelf: &Rc<Shelf>) -> GetResult {
    let connection = open(server).await;
    let headers = HeaderMap::new();
    let home: Rc<dyn Home> = Rc::<Shelf>::clone(shelf);
    patiently(connection.exchange(&head(method, &headers), Empty::new(), Some(home))).await
}

async fn get(server: &ScriptedServer, shelf: &Rc<Shelf>) -> GetResult {
    send(&Method::GET, server, shelf).await
}

fn response<B>(answer: Result<Answer<B>, SendError<B>>) -> Response<UpstreamBody<B>> {
    match answer.expect("an answer") {
        Answer::Response(response) => response,
        Answer::Upgraded(_) => panic!("a response was expected, not an upgrade"),
    }
}

/// The whole body and its trailers.
async fn read<B>(body: UpstreamBody<B>) -> Result<(Bytes, Option<HeaderMap>), BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let collected = patiently(body.collect()).await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

async fn received(server: &ScriptedServer, mark: &str) -> String {
    let text = || {
        server
            .received()
            .first()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let arrived =
        propylon_testkit::wait::until_async(PATIENCE, || text().is_some_and(|text| text.contains(mark))).await;
    assert!(arrived.is_some(), "the server saw {:?}, not {mark:?}", text());
    text().unwrap_or_default()
}

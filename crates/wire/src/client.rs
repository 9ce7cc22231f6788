//! The proxy's end of the stream: connects, follows, connects again.

pub(crate) mod channel;

use std::{convert::Infallible, fmt, future::Future, io, pin::pin, time::Duration};

use futures_util::stream;
use http::uri::PathAndQuery;
use propylon_kit::{backoff::Backoff, clock};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Status, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{
    message::{Request, Response},
    mirror::{Apply, Mirror, MirrorError},
    session::MAX_RESPONSE_BYTES,
    version::{Generation, StateVersion},
};

/// The method of the stream.
pub(crate) const STREAM: &str = "/propylon.v1.ResourceStream/DeltaResources";

/// Makes connections to a controller.
pub trait Connect: Send {
    /// An authenticated byte stream.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Connects and authenticates both ends; given up after [`ClientConfig::connect_timeout`].
    fn connect(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// A closure that connects.
impl<F, Fut, IO> Connect for F
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = io::Result<IO>> + Send,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Io = IO;

    fn connect(&mut self) -> impl Future<Output = io::Result<IO>> + Send {
        self()
    }
}

/// Times of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The release of the proxy, which the controller is told. Default that of this crate.
    pub release: String,
    /// How long connecting may take, TLS included. Default 5 s.
    pub connect_timeout: Duration,
    /// How long the controller may take to answer the call, and to read what it is sent. Default 10 s.
    pub answer_timeout: Duration,
    /// Longest pause after the first failure; it doubles from one to the next, with full jitter. Default 200 ms.
    pub first_pause: Duration,
    /// Longest pause after many failures. Default 10 s.
    pub longest_pause: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// How a [`Client`] stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStatus {
    /// Whether a stream is open.
    pub is_connected: bool,
    /// Whether the controller of this stream has said what its state is, and the proxy has it.
    pub is_current: bool,
    /// The generation that was applied last, as its controller counts.
    pub generation: Generation,
    /// The version of the state that was seen last.
    pub version: StateVersion,
    /// How many resources were seen and not taken.
    pub rejected: usize,
    /// Why the last stream or attempt ended.
    pub last_error: Option<String>,
    /// When `is_connected` changed last, Unix seconds; 0 before the first attempt.
    pub since_unix_s: i64,
}

/// Why a stream ended. All are retried by [`Client::run`].
#[derive(Debug, Error)]
pub enum ClientError {
    /// The controller ended the stream, as it does when it stops.
    #[error("the controller ended the stream")]
    Closed,
    /// No connection.
    #[error("cannot connect to the controller: {0}")]
    Connect(#[source] io::Error),
    /// The connection failed.
    #[error("the connection to the controller failed: {0}")]
    Connection(#[source] hyper::Error),
    /// The controller sent what cannot be used.
    #[error("the controller sent what cannot be used: {0}")]
    Mirror(#[from] MirrorError),
    /// The controller refused the call or ended it with an error.
    #[error("the controller says {}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// Something took too long; what.
    #[error("{0} took too long")]
    Timeout(&'static str),
}

/// Follows a controller, one after the other.
pub struct Client {
    mirror: Mirror,
    config: ClientConfig,
    status: watch::Sender<ClientStatus>,
    rng: fastrand::Rng,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.mirror.state())
    }
}

impl Client {
    /// A client that has what `mirror` has: nothing, or a snapshot.
    pub fn new(mirror: Mirror, config: ClientConfig) -> Self {
        let status = ClientStatus {
            generation: mirror.generation(),
            version: mirror.state(),
            ..ClientStatus::default()
        };
        Self {
            mirror,
            config,
            status: watch::Sender::new(status),
            rng: fastrand::Rng::new(),
        }
    }

    /// Tells how the client stands, whenever that changes.
    pub fn status(&self) -> watch::Receiver<ClientStatus> {
        self.status.subscribe()
    }

    /// What the proxy has.
    pub const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Connects, applies what comes, and connects again when the stream ends, after a pause with full jitter. Never ends.
    ///
    /// # Cancel safety
    /// Can be cancelled at any time; what was applied is in the mirror, and it can be called again.
    pub async fn run(&mut self, connector: &mut impl Connect, apply: &mut impl Apply) -> Infallible {
        let mut backoff = Backoff::new(self.config.first_pause, self.config.longest_pause);
        loop {
            let error = match self.follow(connector, apply).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let was_current = self.status.borrow().is_current;
            if was_current {
                backoff.reset();
            }
            let pause = backoff.pause(&mut self.rng);
            tracing::warn!(%error, pause_ms = pause.as_millis(), "no stream from the controller; what is live stays");
            self.report(|status| {
                set_connected(status, false);
                status.is_current = false;
                status.last_error = Some(error.to_string());
            });
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection.
    async fn follow(
        &mut self,
        connector: &mut impl Connect,
        apply: &mut impl Apply,
    ) -> Result<Infallible, ClientError> {
        let connecting = timeout(self.config.connect_timeout, connector.connect());
        let io = connecting.await.map_err(|_| ClientError::Timeout("connecting"))?;
        let io = io.map_err(ClientError::Connect)?;
        let opening = timeout(self.config.answer_timeout, channel::open(io));
        let opened = opening.await.map_err(|_| ClientError::Timeout("opening HTTP/2"))?;
        let (channel, connection) = opened.map_err(ClientError::Connection)?;
        let grpc = Grpc::with_origin(channel, http::Uri::from_static(channel::ORIGIN));
        let stream = pin!(self.converse(grpc, apply));
        tokio::select! {
            // The stream first: it knows better why it ended than the connection that ended with it.
            biased;
            ended = stream => ended,
            ended = connection => Err(ended.err().map_or(ClientError::Closed, ClientError::Connection)),
        }
    }

    async fn converse(
        &mut self,
        grpc: Grpc<channel::Channel>,
        apply: &mut impl Apply,
    ) -> Result<Infallible, ClientError> {
        let (sender, mut receiver) = mpsc::channel::<Request>(QUEUE);
        let greeting = self.mirror.greet(&self.config.release);
        self.send(&sender, greeting).await?;
        let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut grpc = grpc.max_decoding_message_size(MAX_RESPONSE_BYTES);
        let opening = async {
            let ready = grpc.ready().await;
            ready.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static(STREAM);
            let codec = ProstCodec::<Request, Response>::default();
            grpc.streaming(tonic::Request::new(requests), path, codec).await
        };
        let opened = timeout(self.config.answer_timeout, opening).await;
        let mut inbound = opened
            .map_err(|_| ClientError::Timeout("opening the stream"))?
            .map_err(|status| ClientError::Status(Box::new(status)))?
            .into_inner();
        self.report(|status| set_connected(status, true));
        tracing::info!("stream from the controller is open");
        loop {
            // A dead peer is noticed by the keep-alive of the connection, which ends this.
            let message = inbound.message().await;
            let response = message.map_err(|status| ClientError::Status(Box::new(status)))?;
            let response = response.ok_or(ClientError::Closed)?;
            let is_commit = response.commit.is_some();
            for request in self.mirror.receive(response, apply)? {
                self.send(&sender, request).await?;
            }
            if is_commit {
                self.report_commit();
            }
        }
    }

    async fn send(&self, sender: &mpsc::Sender<Request>, request: Request) -> Result<(), ClientError> {
        match timeout(self.config.answer_timeout, sender.send(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(ClientError::Closed),
            Err(_elapsed) => Err(ClientError::Timeout("sending to the controller")),
        }
    }

    fn report_commit(&self) {
        let (generation, version) = (self.mirror.generation(), self.mirror.state());
        let rejected = self.mirror.rejected().count();
        self.report(|status| {
            status.is_current = true;
            status.generation = generation;
            status.version = version;
            status.rejected = rejected;
            status.last_error = None;
        });
    }

    fn report(&self, change: impl FnOnce(&mut ClientStatus)) {
        self.status.send_modify(change);
    }
}

/// Messages that wait to be sent; the protocol has at most two, but for a list of versions.
const QUEUE: usize = 4;

fn set_connected(status: &mut ClientStatus, is_connected: bool) {
    if status.is_connected != is_connected || status.since_unix_s == 0 {
        status.since_unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
    }
    status.is_connected = is_connected;
}

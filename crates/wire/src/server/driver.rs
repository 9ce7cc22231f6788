//! Drives one session: what the proxy says goes in, what it is to be told comes out as it reads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{sync::watch, time::Instant};
use tonic::{Status, Streaming};

use crate::{
    message::{Request, Response},
    proxy::ProxyIdentity,
    publisher::{Connection, Publisher},
    session::{Limits, Session},
    version::Generation,
};

/// One stream.
pub(super) struct Driver {
    session: Session,
    publisher: Publisher,
    connection: Connection,
    generations: watch::Receiver<Generation>,
    inbound: Streaming<Request>,
    progress: Progress,
}

impl Driver {
    pub(super) fn new(
        publisher: &Publisher,
        identity: ProxyIdentity,
        inbound: Streaming<Request>,
        progress: Progress,
    ) -> Self {
        tracing::info!(proxy = %identity, node = %identity.node, "proxy connected");
        Self {
            session: Session::new(Limits::default()),
            publisher: publisher.clone(),
            connection: publisher.connect(identity),
            generations: publisher.generations(),
            inbound,
            progress,
        }
    }

    /// The messages for the proxy; each is made when the one before was read.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Response, Status>> + Send {
        stream::unfold(Some(self), |driver| async {
            let mut driver = driver?;
            driver.progress.reads();
            match driver.next().await {
                Ok(Some(response)) => {
                    driver.progress.owes();
                    Some((Ok(response), Some(driver)))
                }
                Ok(None) => None,
                Err(status) => {
                    tracing::warn!(error = %status.message(), "stream to a proxy ended");
                    Some((Err(status), None))
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Response>, Status> {
        let deadline = Instant::now() + ANSWER;
        loop {
            // Before the store is read, so that a change after it wakes us.
            self.generations.borrow_and_update();
            let response = self.session.poll(&self.publisher.store());
            if response.is_some() {
                return Ok(response);
            }
            let is_owed = self.session.is_owed();
            // Each branch is cancel safe: a message that is not complete stays in the stream.
            tokio::select! {
                message = self.inbound.message() => match message? {
                    Some(request) => self.receive(request)?,
                    None => return Ok(None),
                },
                changed = self.generations.changed() => {
                    changed.map_err(|_| Status::unavailable("the controller stops"))?;
                }
                () = tokio::time::sleep_until(deadline), if is_owed => {
                    return Err(Status::deadline_exceeded("the proxy owes an answer for 60 s"));
                }
            }
        }
    }

    fn receive(&mut self, request: Request) -> Result<(), Status> {
        let event = self.session.receive(request);
        let event = event.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.connection.record(event);
        Ok(())
    }
}

/// How long the proxy may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// Since when a message waits to be read by the proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<Option<Instant>>>);

impl Progress {
    fn reads(&self) {
        self.set(None);
    }

    fn owes(&self) {
        self.set(Some(Instant::now()));
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Waits until a message has waited that long.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit / 6).await;
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() > limit) {
                return;
            }
        }
    }
}

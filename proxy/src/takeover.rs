//! The hand-over of listening sockets from one process to the next, over a Unix socket (`--takeover`).
//!
//! What it is: the two sides of one short conversation. The next process [`ask`]s, gets every listening socket of the
//! running one (`SCM_RIGHTS`), makes its tables live, and says [`Predecessor::ready`]; only then the running one stops to
//! accept and drains. Both hold the same sockets until then, so no connection waits in a queue that nobody empties. Where
//! either side ends before that, the other one serves on.
//!
//! What it is not: nothing of the connections, of the tables or of the sessions is handed over. The path of the socket is
//! all that the two processes have in common: they may run in different pods (one host folder mounted in both), so process
//! ids mean nothing here, and abstract sockets, which belong to a network namespace, are not used.
//!
//! Messages are described in `wire`. The running process only believes, and is only believed by, its own user or root.

mod desk;
mod wire;

use std::{io, os::unix::net::UnixStream as StdUnixStream, path::Path, time::Duration};

use propylon_kit::clock;
use socket2::{SockRef, Type};
use thiserror::Error;
use tokio::{net::UnixStream, time::timeout};

pub(crate) use desk::{Desk, Mark, Parts};
use wire::{Message, VERSION, Wire, WireError};

use crate::sockets::{Held, Place, Transport};

/// Why the sockets of a running process were not taken over; nothing has changed for that process.
#[derive(Debug, Error)]
pub enum TakeoverError {
    /// The socket cannot be made or reached; not retryable before the path or its rights are changed.
    #[error("{0}; give a path in a folder that both processes can write")]
    Path(#[source] io::Error),
    /// The running process refuses; retryable where its reason says so.
    #[error("the running process refuses: {0}")]
    Refused(String),
    /// Somebody else listens there. Not retryable.
    #[error("user {0} listens there, which is neither this user nor root; give another path, or run both as one user")]
    Stranger(u32),
    /// The running process gave no answer in time. Retryable.
    #[error("the running process does not answer")]
    Silent,
    /// The data-plane threads did not begin in time. Retryable.
    #[error("the workers do not begin to accept")]
    Workers,
}

/// The running process, which waits for this one to become ready.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: StdUnixStream,
}

/// Asks the process that listens at `path` for its sockets; none where nobody listens, or where it ends or talks nonsense
/// (the addresses are bound then, as without a hand-over, and that says if they are in use).
///
/// Blocks; must not be called within a runtime.
///
/// # Errors
/// When the path cannot be used, or somebody is there and does not hand over.
pub(crate) fn ask(path: &Path) -> Result<Option<(Predecessor, Vec<Held>)>, TakeoverError> {
    let began = clock::now();
    let runtime = runtime().map_err(TakeoverError::Path)?;
    loop {
        match runtime.block_on(ask_once(path)) {
            // The one before has handed over, and its successor has not taken the path yet; or two are started at once.
            Ok(Asked::Later(reason)) if began.elapsed() < PATIENCE => {
                tracing::info!(%reason, "waiting for the running process");
                std::thread::sleep(AGAIN);
            }
            Ok(Asked::Later(reason)) => return Err(TakeoverError::Refused(reason)),
            Ok(Asked::Nobody) => return Ok(None),
            Ok(Asked::Given(stream, held)) => return Ok(Some((Predecessor { stream }, held))),
            Err(AskError::Fatal(error)) => return Err(error),
            Err(AskError::Wire(error)) => {
                tracing::warn!(%error, "the process at the takeover socket hands nothing over; binding the addresses");
                return Ok(None);
            }
        }
    }
}

enum Asked {
    Nobody,
    Later(String),
    Given(StdUnixStream, Vec<Held>),
}

enum AskError {
    Fatal(TakeoverError),
    Wire(WireError),
}

impl From<WireError> for AskError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

async fn ask_once(path: &Path) -> Result<Asked, AskError> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Asked::Nobody),
                _ => Err(AskError::Fatal(TakeoverError::Path(error))),
            };
        }
    };
    match is_trusted(&stream) {
        Ok(None) => {}
        Ok(Some(stranger)) => return Err(AskError::Fatal(TakeoverError::Stranger(stranger))),
        Err(error) => return Err(AskError::Fatal(TakeoverError::Path(error))),
    }
    let mut wire = Wire::new(stream);
    let conversation = async {
        wire.send(&Message::Hello { version: VERSION }, &[]).await?;
        let mut held = Vec::new();
        loop {
            match wire.receive().await? {
                Message::Sockets { places, more } => {
                    for place in places {
                        held.push(check(place, wire.descriptor()?)?);
                    }
                    if !more {
                        return Ok(Ok(held));
                    }
                }
                Message::Refused { reason, retry } => return Ok(Err((reason, retry))),
                _ => return Err(WireError::Nonsense("another message than sockets")),
            }
        }
    };
    let outcome = timeout(PATIENCE, conversation).await;
    match outcome.map_err(|_| AskError::Fatal(TakeoverError::Silent))?? {
        Ok(held) => {
            let stream = wire.into_std().map_err(WireError::Io)?;
            Ok(Asked::Given(stream, held))
        }
        Err((reason, true)) => Ok(Asked::Later(reason)),
        Err((reason, false)) => Err(AskError::Fatal(TakeoverError::Refused(reason))),
    }
}

/// A descriptor must be what the message says that it is.
fn check(place: Place, socket: std::os::fd::OwnedFd) -> Result<Held, WireError> {
    let checked = {
        let socket = SockRef::from(&socket);
        let is_there = socket
            .local_addr()
            .is_ok_and(|address| address.as_socket() == Some(place.1));
        is_there
            && match place.0 {
                Transport::Tcp => {
                    socket.r#type().is_ok_and(|kind| kind == Type::STREAM) && socket.is_listener().unwrap_or(false)
                }
                Transport::Udp => socket.r#type().is_ok_and(|kind| kind == Type::DGRAM),
            }
    };
    if checked {
        Ok(Held { place, socket })
    } else {
        Err(WireError::Nonsense(
            "a descriptor that is not the socket it is said to be",
        ))
    }
}

impl Predecessor {
    /// Tells the running process that this one accepts on `kept`, and waits until it has stopped to accept.
    ///
    /// Never fails: this process has the sockets and serves, whatever becomes of the other one. Blocks; must not be called
    /// within a runtime.
    pub(crate) fn ready(self, kept: Vec<Place>) {
        let finished = runtime().map_err(WireError::Io).and_then(|runtime| {
            runtime.block_on(async {
                let mut wire = Wire::new(UnixStream::from_std(self.stream).map_err(WireError::Io)?);
                let farewell = async {
                    wire.send(&Message::Ready { kept }, &[]).await?;
                    wire.receive().await
                };
                timeout(FAREWELL, farewell)
                    .await
                    .map_err(|_| WireError::Nonsense("no answer"))?
            })
        });
        match finished {
            Ok(Message::Draining) => tracing::info!("the process before has stopped to accept and drains"),
            Ok(_) => tracing::warn!("the process before answered something else than that it drains"),
            Err(error) => tracing::warn!(%error, "the process before did not say that it drains"),
        }
    }
}

/// The user of the other side, where it is neither ours nor root; none: it is trusted. Root is trusted by everybody, and
/// trusts everybody whose socket stands at the path it was given.
fn is_trusted(stream: &UnixStream) -> io::Result<Option<u32>> {
    let peer = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    Ok((peer != own && peer != 0 && own != 0).then_some(peer))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// How long a step of the conversation may take, and how long somebody else's may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the process before may take to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;

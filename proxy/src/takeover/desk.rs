//! The running side: a socket at which the next process asks.

use std::{
    cell::Cell,
    fs::{self, Permissions},
    io,
    os::{
        fd::AsFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixListener as StdUnixListener,
        },
    },
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{
    PATIENCE, is_trusted,
    wire::{DESCRIPTORS, Message, VERSION, Wire, WireError},
};
use crate::{control::Command, sockets::Door, worker::Shared};

/// A socket that is bound beside its path, and not reachable there yet.
#[derive(Debug)]
pub(crate) struct Desk {
    listener: StdUnixListener,
    beside: PathBuf,
    path: PathBuf,
}

/// Which file at the path is ours.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What the running side works on.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Desk {
    /// Binds a socket beside `path`.
    ///
    /// # Errors
    /// When the folder is not there or not writable, or the path is too long for a socket (107 bytes). Not retryable.
    pub(crate) fn prepare(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{:08x}", fastrand::u32(..)));
        let beside = path.with_file_name(name);
        let listener = StdUnixListener::bind(&beside)?;
        let desk = Self {
            listener,
            beside,
            path: path.to_owned(),
        };
        desk.listener.set_nonblocking(true)?;
        // Others could ask, and are refused by their credentials; this spares them the way.
        fs::set_permissions(&desk.beside, Permissions::from_mode(0o600))?;
        Ok(desk)
    }

    /// Takes the path, atomically: whoever connects reaches either the owner before or this one.
    ///
    /// # Errors
    /// When the path cannot be replaced. Not retryable.
    pub(crate) fn open(&self) -> io::Result<Mark> {
        let metadata = fs::symlink_metadata(&self.beside)?;
        fs::rename(&self.beside, &self.path)?;
        Ok(Mark {
            path: self.path.clone(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Answers whoever asks, for ever. Must run within a `LocalSet`.
    pub(crate) async fn serve(self, parts: Parts) {
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "no process can take over"),
        };
        let busy = Rc::new(Cell::new(false));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (parts, busy) = (parts.clone(), Rc::clone(&busy));
                    spawn_local(async move {
                        if let Err(error) = answer(stream, &parts, &busy).await {
                            tracing::warn!(%error, "the next process did not take over; serving on");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept on the takeover socket");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It is there only where `open` was not called.
        if let Err(error) = fs::remove_file(&self.beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a socket stays behind");
        }
    }
}

impl Mark {
    /// Removes the file at the path, where it is still ours. Ours it stays for as long as the socket is open: its inode is
    /// not given to another file before.
    pub(crate) fn remove(&self) {
        let is_ours = |metadata: fs::Metadata| metadata.dev() == self.device && metadata.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the takeover socket stays behind");
        }
    }
}

/// One conversation at a time; the others are told to come again.
async fn answer(stream: UnixStream, parts: &Parts, busy: &Rc<Cell<bool>>) -> Result<(), WireError> {
    if let Some(stranger) = is_trusted(&stream).map_err(WireError::Io)? {
        tracing::warn!(user = stranger, "refused a takeover by another user");
        return refuse(stream, "only the same user, or root, takes over", false).await;
    }
    if parts.shared.is_handed_over() {
        return refuse(stream, "another process has taken over already", true).await;
    }
    if busy.replace(true) {
        return refuse(stream, "another process is about to take over", true).await;
    }
    let _free = Free(busy);
    hand_over(Wire::new(stream), parts).await
}

struct Free<'a>(&'a Cell<bool>);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

async fn refuse(stream: UnixStream, reason: &str, retry: bool) -> Result<(), WireError> {
    let (mut wire, reason) = (Wire::new(stream), reason.to_owned());
    // The end of a connection with unread bytes would come before the message.
    in_time(wire.receive()).await?;
    in_time(wire.send(&Message::Refused { reason, retry }, &[])).await
}

async fn hand_over(mut wire: Wire, parts: &Parts) -> Result<(), WireError> {
    match in_time(wire.receive()).await? {
        Message::Hello { version: VERSION } => {}
        Message::Hello { version } => {
            let reason =
                format!("it speaks version {VERSION} of the hand-over, not {version}; stop it before the start");
            let message = Message::Refused { reason, retry: false };
            return in_time(wire.send(&message, &[])).await;
        }
        _ => return Err(WireError::Nonsense("no greeting")),
    }
    let sockets = &parts.shared.sockets;
    let offer = sockets.offer().map_err(WireError::Io)?;
    tracing::info!(
        sockets = offer.len(),
        "the next process has the listening sockets; serving until it is ready"
    );
    let chunks = offer.chunks(DESCRIPTORS);
    let mut left = chunks.len();
    for chunk in chunks {
        left -= 1;
        let places = chunk.iter().map(|held| held.place).collect();
        let descriptors: Vec<_> = chunk.iter().map(|held| held.socket.as_fd()).collect();
        let message = Message::Sockets { places, more: left > 0 };
        in_time(wire.send(&message, &descriptors)).await?;
    }
    if offer.is_empty() {
        let (places, more) = (Vec::new(), false);
        in_time(wire.send(&Message::Sockets { places, more }, &[])).await?;
    }
    // Else a socket that the next process does not keep would stay open for as long as it takes its time.
    drop(offer);
    // It may take its time; the kernel tells when it ends.
    let Message::Ready { kept } = wire.receive().await? else {
        return Err(WireError::Nonsense("another message than that it is ready"));
    };
    sockets.hand_over(&kept);
    parts.shared.door.send_replace(Door::Closed);
    parts.shared.handed_over.send_replace(true);
    if parts.commands.send(Command::TakenOver).await.is_err() {
        tracing::debug!("the control thread has ended");
    }
    in_time(wire.send(&Message::Draining, &[])).await
}

async fn in_time<T>(step: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
    timeout(PATIENCE, step)
        .await
        .map_err(|_| WireError::Nonsense("nothing in time"))?
}

/// Pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

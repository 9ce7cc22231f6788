//! Messages of the hand-over: four bytes of length (network order), then JSON; descriptors travel beside the first byte.
//!
//! | who | message | descriptors |
//! |---|---|---|
//! | next | `hello` with its version | |
//! | running | `sockets`, again while `more` | one per place |
//! | next | `ready`, with the places whose queues it empties | |
//! | running | `draining` | |
//! | running, at any time | `refused`, with a reason | |
//!
//! A version is a number that both sides must share; unknown fields are ignored, so that fields can be added without a new
//! one.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{io::Interest, net::UnixStream};

use crate::sockets::Place;

/// The version of this conversation.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Message {
    Hello { version: u32 },
    Sockets { places: Vec<Place>, more: bool },
    Ready { kept: Vec<Place> },
    Draining,
    Refused { reason: String, retry: bool },
}

/// Why a conversation broke off.
#[derive(Debug, Error)]
pub(super) enum WireError {
    #[error("it went away")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
    #[error("it sent {0}")]
    Nonsense(&'static str),
}

/// One side of a conversation.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    /// The connection, between two messages.
    pub(super) fn into_std(self) -> io::Result<StdUnixStream> {
        self.stream.into_std()
    }

    /// Sends a message with at most [`DESCRIPTORS`] descriptors. Not cancel safe: a part may have been sent.
    pub(super) async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let text = serde_json::to_vec(message).map_err(|_| WireError::Nonsense("what JSON cannot say"))?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let frame = [&length.to_be_bytes(), text.as_slice()].concat();
        let mut sent = 0;
        while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            let with = if sent == 0 { descriptors } else { &[] };
            let attempt = || send_once(&self.stream, rest, with);
            sent += self
                .stream
                .async_io(Interest::WRITABLE, attempt)
                .await
                .map_err(WireError::Io)?;
        }
        Ok(())
    }

    /// Receives the next message; its descriptors are kept for [`Wire::descriptor`].
    ///
    /// # Cancel safety
    /// Cancel safe: what was read is kept.
    pub(super) async fn receive(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            let read = || receive_once(&self.stream);
            let (bytes, descriptors) = self
                .stream
                .async_io(Interest::READABLE, read)
                .await
                .map_err(WireError::Io)?;
            if bytes.is_empty() {
                return Err(WireError::Closed);
            }
            self.bytes.extend(bytes);
            self.descriptors.extend(descriptors);
            if self.descriptors.len() > MOST_DESCRIPTORS {
                return Err(WireError::Nonsense("too many descriptors"));
            }
        }
    }

    /// The next descriptor that came with messages.
    pub(super) fn descriptor(&mut self) -> Result<OwnedFd, WireError> {
        self.descriptors
            .pop_front()
            .ok_or(WireError::Nonsense("fewer descriptors than sockets"))
    }

    fn take_message(&mut self) -> Result<Option<Message>, WireError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > MOST_BYTES {
            return Err(WireError::Nonsense("a message of an impossible length"));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(text).map_err(|_| WireError::Nonsense("no message of this protocol"))?;
        self.bytes.drain(..head.len() + length);
        Ok(Some(message))
    }
}

fn send_once(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(
        stream.as_fd(),
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

fn receive_once(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 16 * 1024];
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The kernel could not give all of them: this process is out of descriptors.
        return Err(io::Error::other("no file descriptors left to receive sockets"));
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}

/// Descriptors beside one message; the kernel takes at most 253.
pub(super) const DESCRIPTORS: usize = 64;
const MOST_DESCRIPTORS: usize = 1 << 16;
const MOST_BYTES: usize = 4 << 20;

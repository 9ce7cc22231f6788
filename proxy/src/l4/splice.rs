//! `splice(2)` between sockets through pipes: bytes move without being copied into the process.

use std::{cell::RefCell, io, os::fd::OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

/// A pipe and how many bytes it holds.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused where the user's share of pipe memory is used up; the pipe then stays as it is.
        if let Err(error) = fcntl_setpipe_size(&write, SIZE) {
            tracing::debug!(%error, "a pipe keeps its size");
        }
        Ok(Self { read, write, held: 0 })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what the socket has into the empty pipe; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has nothing (its readiness is cleared then), else what the socket says.
    pub(super) fn fill(&mut self, source: &TcpStream) -> io::Result<usize> {
        let moved = source.try_io(Interest::READABLE, || {
            Ok(splice(source, None, &self.write, None, SIZE, FLAGS)?)
        })?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds into the socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing (its readiness is cleared then), else what the socket says.
    pub(super) fn drain(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let moved = sink.try_io(Interest::WRITABLE, || {
            Ok(splice(&self.read, None, sink, None, self.held, FLAGS)?)
        })?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

/// The idle pipes of a worker. Only a direction that moves bytes right now has one.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    idle: RefCell<Vec<Pipe>>,
}

impl Pipes {
    /// An empty pipe, if one can be had.
    pub(super) fn take(&self) -> Option<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        idle.or_else(|| Pipe::new().ok())
    }

    /// Takes a pipe back; one that holds bytes is closed.
    pub(super) fn give(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if pipe.is_empty() && idle.len() < MOST_IDLE {
            idle.push(pipe);
        }
    }
}

/// Capacity that is asked for, and bytes that are moved at once.
const SIZE: usize = 256 * 1024;
/// Pipes that a worker keeps: two descriptors each.
const MOST_IDLE: usize = 32;
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

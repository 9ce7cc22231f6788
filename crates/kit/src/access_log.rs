//! The access log: formatted on the data-plane threads, written by a thread of its own.
//!
//! What it is: an [`AccessLog`] per process, a [`LogBuffer`] per data-plane thread, an [`Entry`] per request.
//!
//! What it is not: it never blocks the data path. A destination that cannot keep up costs lines, which are counted
//! ([`AccessLog::dropped_lines`]), not latency.
//!
//! No format writes a query string: queries carry tokens and personal data, so paths end at their `?`, those of
//! `Referer` too. This is the one deviation of `upstreaminfo` from ingress-nginx's format besides those named in
//! [`Format::Upstreaminfo`].

mod buffer;
mod entry;
mod json;
mod text;
mod timestamp;
mod upstreaminfo;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

pub use buffer::LogBuffer;
pub use entry::{Entry, StreamEntry, UpstreamEntry};

use crate::metrics::{Metric, Registry};

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Appended to a file, which is made where it is missing (mode 0640, less the umask).
    File(PathBuf),
    /// Nowhere; entries cost nothing.
    Off,
    /// Standard output.
    Stdout,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, with the attribute names of OpenTelemetry; absent values are left out. Bytes that are
    /// not UTF-8 are written as U+FFFD; control and text direction characters are escaped.
    #[default]
    Json,
    /// The log line of ingress-nginx, field by field. It differs in this: paths without query (see the module), times in
    /// UTC, and of several attempts the last alone in the `$upstream_` fields.
    Upstreaminfo,
}

/// What an access log is made with.
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// Where the lines go.
    pub destination: Destination,
    /// How a line looks.
    pub format: Format,
    /// Batches (32 KiB each, or what a sweep found) that may wait for the writer; further ones are dropped. Default 256.
    pub queue_batches: usize,
}

impl AccessLogConfig {
    /// A configuration with the default queue.
    pub const fn new(destination: Destination, format: Format) -> Self {
        Self {
            destination,
            format,
            queue_batches: 256,
        }
    }
}

/// What can go wrong with an access log as a whole. None is retryable as it is.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened or made.
    #[error("cannot open the access log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The writer did not finish in time; what it still held may be lost.
    #[error("the access log was not written out within {0:?}")]
    ShutdownTimeout(Duration),
    /// Standard output is closed.
    #[error("cannot write the access log to standard output")]
    Stdout(#[source] std::io::Error),
    /// The writer thread cannot be started.
    #[error("cannot start the access log's thread")]
    Thread(#[source] std::io::Error),
}

/// The access log of a process. Dropping it leaves the writer to end with the last [`LogBuffer`].
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    shared: Arc<Shared>,
    /// None where the log is off.
    writer: Option<WriterHandle>,
}

#[derive(Debug)]
struct WriterHandle {
    sender: SyncSender<Message>,
    finished: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    ///
    /// [`AccessLogError::Open`], [`AccessLogError::Stdout`] and [`AccessLogError::Thread`].
    pub fn start(config: &AccessLogConfig) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared::default());
        let writer = match writer::Output::open(&config.destination)? {
            None => None,
            Some(output) => Some(start_writer(output, config.queue_batches.max(1), &shared)?),
        };
        Ok(Self {
            format: config.format,
            shared,
            writer,
        })
    }

    /// A buffer for one data-plane thread.
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer::new(
            self.format,
            Arc::clone(&self.shared),
            self.writer.as_ref().map(|writer| writer.sender.clone()),
        )
    }

    /// Opens the file's name anew (after it was renamed: SIGHUP). Every line is written to the old file or to the new
    /// one; where the new one cannot be opened, the old one stays in use and the failure is logged.
    ///
    /// Returns at once; the writer does it before the next batch.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Release);
        self.wake();
    }

    /// Lines lost: the queue was full, or the destination refused them.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Relaxed)
    }

    /// Writes that the destination refused.
    pub fn write_errors(&self) -> u64 {
        self.shared.write_errors.load(Relaxed)
    }

    /// Shows [`AccessLog::dropped_lines`] among the metrics of `registry`.
    pub fn register(&self, registry: &Registry) {
        let shared = Arc::clone(&self.shared);
        registry.add_source(move |exposition| {
            exposition.counter(Metric::AccessLogDropped, &[], shared.dropped_lines.load(Relaxed));
        });
    }

    /// Writes out what the buffers handed over and ends the writer. Blocks for at most `deadline`; flush or drop the
    /// buffers before.
    ///
    /// # Errors
    ///
    /// [`AccessLogError::ShutdownTimeout`] where the destination does not take the lines in time.
    pub fn shutdown(self, deadline: Duration) -> Result<(), AccessLogError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        self.shared.stop.store(true, Release);
        self.wake();
        match writer
            .finished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(deadline)
        {
            // The writer drops its end when it is done.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(AccessLogError::ShutdownTimeout(deadline)),
        }
    }

    /// Makes the writer look at its flags. A full queue needs no message: the writer looks after each batch.
    fn wake(&self) {
        if let Some(writer) = &self.writer {
            drop(writer.sender.try_send(Message::Wake));
        }
    }
}

/// What the writer, the buffers and the owner share.
#[derive(Debug, Default)]
struct Shared {
    dropped_lines: AtomicU64,
    write_errors: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn take_reopen(&self) -> bool {
        self.reopen.swap(false, Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Acquire)
    }

    fn drop_lines(&self, lines: u64) {
        self.dropped_lines.fetch_add(lines, Relaxed);
    }
}

/// What the writer is told.
#[derive(Debug)]
enum Message {
    /// Whole lines.
    Batch(Batch),
    /// Look at the flags.
    Wake,
}

/// Whole lines, and how many.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

fn start_writer(
    output: writer::Output,
    queue_batches: usize,
    shared: &Arc<Shared>,
) -> Result<WriterHandle, AccessLogError> {
    let (sender, receiver) = sync_channel(queue_batches);
    let (finished_sender, finished) = sync_channel(1);
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            writer::run(output, &receiver, &shared);
            drop(finished_sender);
        })
        .map_err(AccessLogError::Thread)?;
    Ok(WriterHandle {
        sender,
        finished: Mutex::new(finished),
    })
}

#[cfg(test)]
mod tests;

//! The thread that writes.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{atomic::Ordering::Relaxed, mpsc::Receiver},
    time::Duration,
};

use super::{AccessLogError, Batch, Destination, Message, Shared};

/// How long to wait before a destination that is full for now (a non-blocking pipe) is tried again.
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// How often it is tried before the batch counts as refused.
const BUSY_TRIES: u32 = 400;

/// An open destination.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// None for standard output.
    path: Option<PathBuf>,
}

impl Output {
    /// Opens a destination; none where the log is off.
    pub(super) fn open(destination: &Destination) -> Result<Option<Self>, AccessLogError> {
        match destination {
            Destination::Off => Ok(None),
            Destination::Stdout => {
                // Not `io::Stdout`: its buffer hides how much of a batch was written when a write fails.
                let descriptor = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(AccessLogError::Stdout)?;
                Ok(Some(Self {
                    file: File::from(descriptor),
                    path: None,
                }))
            }
            Destination::File(path) => match open_file(path) {
                Ok(file) => Ok(Some(Self {
                    file,
                    path: Some(path.clone()),
                })),
                Err(source) => Err(AccessLogError::Open {
                    path: path.clone(),
                    source,
                }),
            },
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(opened) => self.file = opened,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot reopen the access log, the old file stays in use");
            }
        }
    }
}

/// Writes batches until it is told to stop, or until no buffer is left.
pub(super) fn run(output: Output, messages: &Receiver<Message>, shared: &Shared) {
    let mut writer = Writer {
        output,
        is_torn: false,
        is_failing: false,
    };
    while let Ok(message) = messages.recv() {
        writer.handle(message, shared);
        if shared.is_stopping() {
            while let Ok(message) = messages.try_recv() {
                writer.handle(message, shared);
            }
            return;
        }
    }
}

struct Writer {
    output: Output,
    /// The last write ended within a line.
    is_torn: bool,
    /// The last write failed; said once.
    is_failing: bool,
}

impl Writer {
    fn handle(&mut self, message: Message, shared: &Shared) {
        if shared.take_reopen() {
            self.output.reopen();
        }
        if let Message::Batch(batch) = message {
            self.write_batch(&batch, shared);
        }
    }

    fn write_batch(&mut self, batch: &Batch, shared: &Shared) {
        let result = match self.end_torn_line() {
            Ok(()) => self.write_all(&batch.bytes),
            Err(Refused { error, .. }) => Err(Refused {
                error,
                rest: &batch.bytes,
            }),
        };
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the access log can be written again");
                }
            }
            Err(Refused { error, rest }) => {
                let lost = rest.split(|byte| *byte == b'\n').skip(1).count();
                shared.drop_lines(u64::try_from(lost).unwrap_or(batch.lines));
                shared.write_errors.fetch_add(1, Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "cannot write the access log, lines are lost");
                }
            }
        }
    }

    /// Ends the line that a failed write left, so that the next is whole.
    fn end_torn_line(&mut self) -> Result<(), Refused<'static>> {
        if self.is_torn { self.write_all(b"\n") } else { Ok(()) }
    }

    fn write_all<'a>(&mut self, bytes: &'a [u8]) -> Result<(), Refused<'a>> {
        let mut rest = bytes;
        let mut tries = 0;
        while !rest.is_empty() {
            match self.output.file.write(rest) {
                Ok(0) => {
                    return Err(Refused {
                        error: ErrorKind::WriteZero.into(),
                        rest,
                    });
                }
                Ok(written) => {
                    let (done, left) = rest.split_at_checked(written).unwrap_or((rest, &[]));
                    self.is_torn = done.last() != Some(&b'\n');
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && tries < BUSY_TRIES => {
                    tries += 1;
                    std::thread::sleep(BUSY_WAIT);
                }
                Err(error) => return Err(Refused { error, rest }),
            }
        }
        Ok(())
    }
}

/// A write that failed, and what it left.
struct Refused<'a> {
    error: io::Error,
    rest: &'a [u8],
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

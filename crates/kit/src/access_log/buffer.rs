//! The lines of one data-plane thread.

use std::{
    cell::RefCell,
    mem,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
};

use super::{
    Batch, Format, Message, Shared,
    entry::{Entry, StreamEntry},
    json,
    timestamp::SecondText,
    upstreaminfo,
};

/// From this size on a buffer is handed to the writer.
const BATCH_BYTES: usize = 32 * 1024;
/// Room for the line that exceeds [`BATCH_BYTES`].
const BUFFER_BYTES: usize = BATCH_BYTES + 4 * 1024;
/// Up to this size a flush copies the lines, so that the buffer stays.
const COPY_BYTES: usize = 8 * 1024;

/// Formats the entries of one thread and hands them to the writer in batches. Dropping it flushes.
#[derive(Debug)]
pub struct LogBuffer {
    format: Format,
    shared: Arc<Shared>,
    /// None where the log is off.
    sender: Option<SyncSender<Message>>,
    lines: RefCell<Lines>,
}

#[derive(Debug)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
    second: SecondText,
}

impl LogBuffer {
    pub(super) fn new(format: Format, shared: Arc<Shared>, sender: Option<SyncSender<Message>>) -> Self {
        let layout = match format {
            Format::Json => json::LAYOUT,
            Format::Upstreaminfo => upstreaminfo::LAYOUT,
        };
        let capacity = if sender.is_some() { BUFFER_BYTES } else { 0 };
        let lines = Lines {
            bytes: Vec::with_capacity(capacity),
            count: 0,
            second: SecondText::new(layout),
        };
        Self {
            format,
            shared,
            sender,
            lines: RefCell::new(lines),
        }
    }

    /// False where the log is off, so that the caller need not put an entry together.
    pub fn is_enabled(&self) -> bool {
        self.sender.is_some()
    }

    /// Formats the entry of a connection of layer 4, as [`LogBuffer::record`] does that of a request.
    pub fn record_stream(&self, entry: &StreamEntry<'_>) {
        self.append(|format, bytes, second| match format {
            Format::Json => json::push_stream(bytes, second, entry),
            Format::Upstreaminfo => upstreaminfo::push_stream(bytes, second, entry),
        });
    }

    /// Formats an entry; hands the batch over when it has 32 KiB. Never blocks.
    ///
    /// # Cost
    ///
    /// About 2,700 instructions for a line of 700 bytes (`examples/cost.rs`).
    pub fn record(&self, entry: &Entry<'_>) {
        self.append(|format, bytes, second| match format {
            Format::Json => json::push_line(bytes, second, entry),
            Format::Upstreaminfo => upstreaminfo::push_line(bytes, second, entry),
        });
    }

    fn append(&self, push: impl FnOnce(Format, &mut Vec<u8>, &mut SecondText)) {
        if !self.is_enabled() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        let Lines { bytes, count, second } = &mut *lines;
        push(self.format, bytes, second);
        *count += 1;
        if bytes.len() >= BATCH_BYTES {
            self.hand_over(&mut lines);
        }
    }

    /// Hands over what there is; for the thread's sweep (each 100 to 250 ms). Never blocks: where the writer's queue is
    /// full, the lines are dropped and counted.
    pub fn flush(&self) {
        self.hand_over(&mut self.lines.borrow_mut());
    }

    fn hand_over(&self, lines: &mut Lines) {
        let Some(sender) = &self.sender else { return };
        if lines.count == 0 {
            return;
        }
        let bytes = if lines.bytes.len() <= COPY_BYTES {
            let copy = lines.bytes.clone();
            lines.bytes.clear();
            copy
        } else {
            mem::replace(&mut lines.bytes, Vec::with_capacity(BUFFER_BYTES))
        };
        let batch = Batch {
            bytes,
            lines: mem::take(&mut lines.count),
        };
        let refused = match sender.try_send(Message::Batch(batch)) {
            Ok(()) => return,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => message,
        };
        if let Message::Batch(batch) = refused {
            self.shared.drop_lines(batch.lines);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

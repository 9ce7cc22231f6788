//! SHA-256, of streams and of what an image is made of.

use std::io::{self, Read, Write};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{Context, SHA256};

use super::{Image, layer, layer::Content, open};

/// Hashes what is written through it.
pub(super) struct Hashing<W> {
    inner: W,
    context: Context,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
        }
    }

    /// What was written to, and the hash in hexadecimal digits.
    pub(super) fn finish(self) -> (W, String) {
        (self.inner, hex(self.context))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The hash of some bytes, in hexadecimal digits.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    hex(context)
}

/// A line that is the same exactly as long as the archive of the image is.
pub(super) fn of_image(image: &Image) -> Result<String> {
    let mut context = Context::new(&SHA256);
    let mut note = |text: String| context.update(format!("{}:{text};", text.len()).as_bytes());
    note(format!("{:?} {:?}", image.tags, image.config));
    for entry in layer::arranged(&image.entries) {
        let content = match &entry.content {
            Content::Bytes(bytes) => of_bytes(bytes),
            Content::File(source) => of_file(source).with_context(|| format!("reading for /{}", entry.path))?,
            Content::Folder => "folder".to_owned(),
            Content::Link(target) => format!("link {target}"),
        };
        note(format!(
            "{} {:o} {:?} {content}",
            entry.path, entry.mode, entry.capability
        ));
    }
    Ok(hex(context))
}

fn of_file(path: &std::path::Path) -> io::Result<String> {
    let (mut file, _) = open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(hex(context));
        }
        context.update(piece.get(..length).unwrap_or_default());
    }
}

fn hex(context: Context) -> String {
    context
        .finish()
        .as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

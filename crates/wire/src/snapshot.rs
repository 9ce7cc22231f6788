//! The last good state of a proxy on disk, so that it can restart while no controller is there.
//!
//! The file is a line that names the format, then the resources (length-delimited [`message::Resource`]), then their
//! number and the SHA-256 of everything before. It holds keys: it is made for its owner only, and belongs on a tmpfs.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use bytes::{Buf, Bytes};
use propylon_model::{Delta, Resources};
use prost::Message;
use thiserror::Error;

use crate::{
    encoded::{self, DecodeError, Encoded},
    key::{ResourceKey, ResourceKind},
    message,
    mirror::Mirror,
    value,
};

/// First bytes of a file; the number is the version of the format.
const MAGIC: &[u8] = b"propylon snapshot 1\n";

/// Bytes behind the resources: their number and the checksum.
const TRAILER: usize = 8 + digest::SHA256_OUTPUT_LEN;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The bytes are not those that were written. Not retryable: remove the file.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// The file is no snapshot, or one of a version that is not read here. Not retryable: remove the file.
    #[error("not a snapshot of this version of Propylon")]
    Foreign,
    /// The file cannot be written or read. Retryable.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A resource cannot be read, or written.
    #[error(transparent)]
    Resource(#[from] DecodeError),
}

/// Writes what is live, so that a reader sees either the old file or the new one, whole.
///
/// # Errors
/// When the file cannot be written; the old one stays. Retryable.
///
/// # Cost
/// Encodes every resource; blocks on the disk.
pub fn write(path: &Path, mirror: &Mirror) -> Result<(), SnapshotError> {
    write_resources(path, mirror.resources())
}

/// As [`write`], of resources that something else holds.
///
/// # Errors
/// As [`write`].
pub fn write_resources(path: &Path, resources: &Resources) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let file = create(&new).map_err(failed)?;
    let mut sink = Sink::new(BufWriter::new(file));
    encode_into(resources, &mut sink, failed)?;
    let file = sink.out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When there is no such file or it cannot be read (retryable), or when it is damaged or foreign (not retryable).
pub fn read(path: &Path) -> Result<Mirror, SnapshotError> {
    let failed = |source| SnapshotError::Io {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(SnapshotError::Foreign);
    }
    decode(std::fs::read(path).map_err(failed)?.into()).map(Mirror::of)
}

/// The bytes of a snapshot.
///
/// # Errors
/// When a resource cannot be encoded, which no type of the IR has. Not retryable.
pub fn encode(resources: &Resources) -> Result<Vec<u8>, SnapshotError> {
    let mut sink = Sink::new(Vec::new());
    encode_into(resources, &mut sink, |source| SnapshotError::Io {
        path: PathBuf::new(),
        source,
    })?;
    Ok(sink.out)
}

/// Reads the bytes of a snapshot; whatever they are, it never panics.
///
/// # Errors
/// When they are damaged or foreign. Not retryable.
pub fn decode(mut bytes: Bytes) -> Result<Resources, SnapshotError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SnapshotError::Foreign);
    }
    let Some(end) = bytes.len().checked_sub(TRAILER).filter(|end| *end >= MAGIC.len()) else {
        return Err(SnapshotError::Damaged("it is cut off"));
    };
    let mut trailer = bytes.split_off(end);
    let count = trailer.get_u64_le();
    if *digest_of(&[&bytes, &count.to_le_bytes()]).as_ref() != *trailer {
        return Err(SnapshotError::Damaged("its checksum does not match"));
    }
    bytes.advance(MAGIC.len());
    read_resources(bytes, count)
}

fn read_resources(mut bytes: Bytes, count: u64) -> Result<Resources, SnapshotError> {
    let mut delta = Delta::default();
    for _ in 0..count {
        let resource = message::Resource::decode_length_delimited(&mut bytes);
        let resource = resource.map_err(|_| SnapshotError::Damaged("a resource cannot be read"))?;
        // A kind of a newer release: the controller has it.
        let Some(kind) = ResourceKind::from_number(resource.kind) else {
            continue;
        };
        let key = ResourceKey::new(kind, resource.name);
        let value = encoded::decode(&key, &resource.payload)?;
        value::put(&mut delta, &key, Some(&value));
    }
    if bytes.has_remaining() {
        return Err(SnapshotError::Damaged("something follows the last resource"));
    }
    let mut resources = Resources::default();
    resources.apply(&delta);
    Ok(resources)
}

fn encode_into<W: Write>(
    resources: &Resources,
    sink: &mut Sink<W>,
    failed: impl Fn(io::Error) -> SnapshotError,
) -> Result<(), SnapshotError> {
    sink.write(MAGIC).map_err(&failed)?;
    let mut count: u64 = 0;
    for (key, value) in value::all(resources) {
        let encoded = Encoded::new(key, &value)?;
        let resource = message::Resource {
            kind: encoded.key.kind.number(),
            name: encoded.key.name.as_ref().to_owned(),
            version: Bytes::new(),
            payload: encoded.payload,
        };
        sink.write(&resource.encode_length_delimited_to_vec())
            .map_err(&failed)?;
        count += 1;
    }
    sink.write(&count.to_le_bytes()).map_err(&failed)?;
    let checksum = sink.digest.clone().finish();
    sink.out.write_all(checksum.as_ref()).map_err(failed)
}

/// Writes and sums.
struct Sink<W> {
    out: W,
    digest: digest::Context,
}

impl<W: Write> Sink<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            digest: digest::Context::new(&digest::SHA256),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

fn digest_of(parts: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

/// A new file for its owner only; one that is left from a crash is replaced.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

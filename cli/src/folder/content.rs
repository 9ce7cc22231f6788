//! One file: read, parsed, admitted.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use propylon_model::{Kind, ObjectRef, Report, ReportReason};
use propylon_translate::{
    World,
    admit::{FieldError, admit},
    manifest::{Object, parse},
};
use thiserror::Error;

use super::tree::Stamp;

/// Longest manifest in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How often a file is read anew that changes while it is read.
const ATTEMPTS: usize = 4;

/// One admitted object: a world that holds nothing else, so that it is shared with the whole world, not copied.
pub(super) type Admitted = Arc<World>;

/// What a text gave.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The objects that are admitted.
    pub(super) objects: BTreeMap<ObjectRef, Admitted>,
    /// Objects that parse and are not admitted, by the mistakes.
    pub(super) refused: BTreeMap<ObjectRef, String>,
    /// Objects that stand more than once in the file; the first one counts.
    pub(super) repeated: Vec<ObjectRef>,
    /// Documents that do not parse.
    pub(super) mistakes: Vec<String>,
}

impl Content {
    /// Parses and admits a text.
    pub(super) fn of(text: &str) -> Self {
        let mut content = Self::default();
        for object in parse(text) {
            match object {
                Ok(object) => content.add(object),
                Err(error) => content.mistakes.push(error.to_string()),
            }
        }
        content
    }

    /// The objects that the text speaks of, admitted or not.
    pub(super) fn names(&self, object: &ObjectRef) -> bool {
        self.objects.contains_key(object) || self.refused.contains_key(object)
    }

    /// The reports of a file with this content.
    pub(super) fn reports(&self, file: &Path) -> Vec<Report> {
        let file_object = file_object(file);
        let mistakes = self.mistakes.iter().map(|mistake| {
            let message = format!("{}; what the file last gave stays in force", one_line(mistake));
            Report::new(file_object.clone(), ReportReason::InvalidManifest, message)
        });
        let refused = self.refused.iter().map(|(object, mistakes)| {
            let message = format!(
                "{} ({}); its last good version, if any, stays in force",
                one_line(mistakes),
                file.display()
            );
            Report::new(object.clone(), ReportReason::InvalidObject, message)
        });
        let repeated = self.repeated.iter().map(|object| {
            let message = format!(
                "it stands more than once in {}; the first one counts, remove the others",
                file.display()
            );
            Report::new(object.clone(), ReportReason::DuplicateObject, message)
        });
        mistakes.chain(refused).chain(repeated).collect()
    }

    fn add(&mut self, object: Object) {
        // Kinds that are not compiled have no key.
        let Some(key) = object.key() else { return };
        if self.names(&key) {
            self.repeated.push(key);
            return;
        }
        match admit(object) {
            Ok(object) => {
                let mut alone = World::default();
                alone.insert(object);
                self.objects.insert(key, Arc::new(alone));
            }
            Err(mistakes) => {
                self.refused.insert(key, join(&mistakes));
            }
        }
    }
}

/// A file that was read.
pub(super) struct Reading {
    /// Its text.
    pub(super) text: String,
    /// Its stamp, the same before and after.
    pub(super) stamp: Stamp,
    /// A hash of the text.
    pub(super) hash: u64,
}

/// Why a file gives no text.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// It changed while it was read; look again.
    #[error("it keeps changing while it is read")]
    Changing,
    /// The system's error.
    #[error("cannot be read ({0})")]
    Io(#[from] io::Error),
    /// A pipe, a socket, a device.
    #[error("is no regular file")]
    NotAFile,
    /// Not UTF-8; the offset of the first wrong byte.
    #[error("is not UTF-8 (byte {0}); save it as UTF-8")]
    NotText(usize),
    /// Longer than 16 MiB.
    #[error("is longer than 16 MiB; split it")]
    TooLong,
}

/// Reads a manifest.
///
/// # Errors
/// [`ReadError::Changing`] is retryable at once; the others once somebody has changed the file.
pub(super) fn read(path: &Path) -> Result<Reading, ReadError> {
    (1..ATTEMPTS)
        .map(|_| read_once(path))
        .find(|outcome| !matches!(outcome, Err(ReadError::Changing)))
        .unwrap_or_else(|| read_once(path))
}

fn read_once(path: &Path) -> Result<Reading, ReadError> {
    // Opening a pipe must not wait for its writer.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let stamp = regular(&file)?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLong);
    }
    if regular(&file)? != stamp {
        return Err(ReadError::Changing);
    }
    let mut text = String::from_utf8(bytes).map_err(|error| ReadError::NotText(error.utf8_error().valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Ok(Reading {
        text,
        stamp,
        hash: hasher.finish(),
    })
}

fn regular(file: &File) -> Result<Stamp, ReadError> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok(Stamp::of(&metadata))
    } else {
        Err(ReadError::NotAFile)
    }
}

/// How reports name a file: by its path within the folder, `.` for the folder itself.
pub(super) fn file_object(path: &Path) -> ObjectRef {
    let name = if path.as_os_str().is_empty() {
        ".".into()
    } else {
        path.to_string_lossy()
    };
    ObjectRef::new(Kind::File, "", name)
}

fn join(mistakes: &[FieldError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reports are one line each; what stands in a manifest may not break that.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

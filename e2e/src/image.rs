//! Container images without a registry: docker-archive tars, from files of this machine.
//!
//! What it is: a writer of the format that `ctr images import` and `docker load` read, with one layer, the same bytes
//! for the same content, and the few things that the lab's images need (modes, links, a file capability, the shared
//! libraries of a dynamic program). What it is not: a builder that runs anything inside of an image.
//!
//! Start from [`Image::new`], or from a ready image of [`catalog`]; [`Image::store`] writes it, once for each content.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

mod archive;
pub mod catalog;
mod digest;
mod layer;
mod libraries;

pub use layer::Capability;
use layer::{Content, Entry};

/// What an image is to be.
#[derive(Clone, Debug, Default)]
pub struct Image {
    tags: Vec<String>,
    config: Config,
    entries: Vec<Entry>,
}

/// The part of the image's configuration that a container takes over.
#[derive(Clone, Debug, Default)]
struct Config {
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    user: String,
    labels: Vec<(String, String)>,
}

impl Image {
    /// An empty image under these names, each `REPOSITORY/NAME:TAG`.
    pub fn new(tags: &[&str]) -> Self {
        Self {
            tags: owned(tags),
            ..Self::default()
        }
    }

    /// The program and its fixed arguments. Default none.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.config.entrypoint = owned(words);
        self
    }

    /// Arguments that a container's own replace. Default none.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.config.command = owned(words);
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.config.environment.push(format!("{name}={value}"));
        self
    }

    /// The numeric user that the program runs as, such as `65532` or `65532:65532`. Default root.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.config.user);
        self
    }

    /// A label. Two images of the same files but of different labels have different ids.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.config.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A folder at an absolute path, with its mode, such as 0o755. Missing parents are made with 0o755.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(path, mode, Content::Folder)
    }

    /// A file of the image with these bytes.
    #[must_use]
    pub fn text(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.entry(path, mode, Content::Bytes(bytes.into()))
    }

    /// A file of this machine, its links followed when the image is written.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, source: &Path) -> Self {
        self.entry(path, mode, Content::File(source.to_owned()))
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, 0o777, Content::Link(target.to_owned()))
    }

    /// A program of this machine (mode 0o755), with the shared libraries that it is linked with, at the paths where its
    /// loader looks for them.
    ///
    /// # Errors
    /// When the program is missing, or one of its libraries is. Not retryable.
    pub fn program(self, path: &str, source: &Path) -> Result<Self> {
        let mut image = self;
        for library in libraries::of(source)? {
            let at = library.to_string_lossy().into_owned();
            image = image.file(&at, 0o755, &library);
        }
        // Last, for `capable_of`.
        Ok(image.file(path, 0o755, source))
    }

    /// Gives the file that was added last a capability, which it has from its start whoever starts it.
    #[must_use]
    pub fn capable_of(mut self, capability: Capability) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.capability = Some(capability);
        }
        self
    }

    /// The names that it is imported under.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The absolute paths of all files, folders and links that were asked for, in the order of the image.
    pub fn paths(&self) -> Vec<String> {
        layer::arranged(&self.entries)
            .map(|entry| format!("/{}", entry.path))
            .collect()
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When a source cannot be read, or `out` not be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        archive::write(self, out).with_context(|| format!("writing the image {}", out.display()))
    }

    /// Writes the archive as `FOLDER/NAME.tar`, unless it is there already with the same content, and gives its path.
    ///
    /// What it was made of stands beside it, in `FOLDER/NAME.content`. A reader of the path sees the old archive or the
    /// new one, never half of one.
    ///
    /// # Errors
    /// When a source cannot be read, or the folder not be written.
    ///
    /// # Cost
    /// Reads all sources once; twice where the archive is written.
    pub fn store(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let (archive, note) = (
            folder.join(format!("{name}.tar")),
            folder.join(format!("{name}.content")),
        );
        let content = digest::of_image(self)?;
        let is_same = fs::read_to_string(&note).is_ok_and(|noted| noted == content);
        if is_same && archive.is_file() {
            return Ok(archive);
        }
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
        let written = self.write(&partial).and_then(|()| rename(&partial, &archive));
        if written.is_err() {
            // It may not have come to be.
            drop(fs::remove_file(&partial));
        }
        written?;
        fs::write(&note, content).with_context(|| format!("writing {}", note.display()))?;
        Ok(archive)
    }

    fn entry(mut self, path: &str, mode: u32, content: Content) -> Self {
        let path = path.trim_matches('/').to_owned();
        // What is said last holds: libraries of several programs are named several times.
        self.entries.retain(|entry| entry.path != path);
        self.entries.push(Entry {
            path,
            mode,
            content,
            capability: None,
        });
        self
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A file of this machine, opened, with its length in bytes.
fn open(path: &Path) -> io::Result<(fs::File, u64)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = fs::File::open(path).map_err(named)?;
    let length = file.metadata().map_err(named)?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests;

//! The one layer of an image: a tar of its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    path::PathBuf,
};

use super::open;

/// One path of the image.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Without a leading slash.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What stands there.
    pub content: Content,
    /// Of a file only.
    pub capability: Option<Capability>,
}

/// What stands at a path.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the content of one of this machine.
    File(PathBuf),
    /// A folder.
    Folder,
    /// A symbolic link to this path.
    Link(String),
}

/// A capability that a file of an image carries, permitted and effective (`=+ep` in the words of setcap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `cap_net_bind_service`: ports below 1024.
    NetBindService,
}

impl Capability {
    /// The value of the extended attribute `security.capability`: `struct vfs_cap_data` of revision 2 (20 bytes, little
    /// endian: magic with the bit for effective, then permitted and inheritable of the low and of the high 32
    /// capabilities; `linux/capability.h`).
    pub(super) fn attribute(self) -> [u8; 20] {
        const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
        let number = match self {
            Self::NetBindService => 10,
        };
        let mut bytes = [0; 20];
        let words = [REVISION_2_EFFECTIVE, 1 << number, 0, 0, 0];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The name of the PAX record that carries a file capability.
pub(super) const CAPABILITY_RECORD: &str = "SCHILY.xattr.security.capability";

/// The entries in the order of the layer: by path, each folder before what is in it, missing parents added.
pub(super) fn arranged(entries: &[Entry]) -> impl Iterator<Item = Entry> {
    let mut by_path: BTreeMap<String, Entry> = BTreeMap::new();
    for parent in entries
        .iter()
        .flat_map(|entry| parents(&entry.path))
        .collect::<BTreeSet<_>>()
    {
        let folder = Entry {
            path: parent.clone(),
            mode: 0o755,
            content: Content::Folder,
            capability: None,
        };
        by_path.insert(parent, folder);
    }
    by_path.extend(entries.iter().map(|entry| (entry.path.clone(), entry.clone())));
    by_path.into_values()
}

fn parents(path: &str) -> impl Iterator<Item = String> {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(..at))
        .map(ToOwned::to_owned)
}

/// Writes the layer. Owner root, time 0: the same content makes the same bytes.
pub(super) fn write(entries: &[Entry], out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for entry in arranged(entries) {
        if let Some(capability) = entry.capability {
            tar.append_pax_extensions([(CAPABILITY_RECORD, capability.attribute().as_slice())])?;
        }
        append(&mut tar, &entry)?;
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, entry: &Entry) -> io::Result<()> {
    let mut header = header(entry.mode);
    match &entry.content {
        Content::Bytes(bytes) => add(tar, &mut header, &entry.path, (bytes.len() as u64, bytes.as_slice())),
        Content::File(source) => {
            let (file, length) = open(source)?;
            // Not one byte more than the header says, should the file grow meanwhile.
            add(tar, &mut header, &entry.path, (length, file.take(length)))
        }
        Content::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            add(tar, &mut header, &format!("{}/", entry.path), (0, io::empty()))
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, &entry.path, target)
        }
    }
}

/// Appends a file of so many bytes.
pub(super) fn add(
    tar: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    path: &str,
    (length, content): (u64, impl Read),
) -> io::Result<()> {
    header.set_size(length);
    tar.append_data(header, path, content)
}

/// A header of a file of root's, of the year 1970.
pub(super) fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

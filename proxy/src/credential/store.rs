//! The certificate and its key in a file, for the process after this one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::Credential;

#[derive(Deserialize, Serialize)]
struct Stored {
    key: String,
    chain: Vec<String>,
    renew_unix_s: i64,
    end_unix_s: i64,
}

/// Reads what [`write`] wrote; none where there is none. A file that is damaged is as none: another certificate is bought.
pub(super) fn read(path: &Path) -> Option<Credential> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, path = %path.display(), "cannot read the client certificate of the process before");
            }
            return None;
        }
    };
    let parsed = serde_json::from_slice::<Stored>(&bytes).ok().and_then(|stored| {
        let decode = |text: &String| STANDARD.decode(text).ok();
        Some(Credential {
            key_der: decode(&stored.key)?,
            chain_der: stored.chain.iter().map(decode).collect::<Option<_>>()?,
            renew_unix_s: stored.renew_unix_s,
            end_unix_s: stored.end_unix_s,
        })
    });
    if parsed.is_none() {
        tracing::warn!(path = %path.display(), "the client certificate of the process before is damaged; buying another");
    }
    parsed
}

/// Writes it for its owner only, so that a reader sees the old one or the new one, whole.
///
/// # Errors
/// When the file cannot be written. Retryable.
pub(super) fn write(path: &Path, credential: &Credential) -> io::Result<()> {
    let stored = Stored {
        key: STANDARD.encode(&credential.key_der),
        chain: credential.chain_der.iter().map(|der| STANDARD.encode(der)).collect(),
        renew_unix_s: credential.renew_unix_s,
        end_unix_s: credential.end_unix_s,
    };
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&stored)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_reads_back_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        assert_eq!(read(&path), None);
        let credential = Credential {
            key_der: vec![1, 2, 3],
            chain_der: vec![vec![4], vec![5, 6]],
            renew_unix_s: 7,
            end_unix_s: 8,
        };
        write(&path, &credential).unwrap();
        write(&path, &credential).unwrap();
        assert_eq!(read(&path), Some(credential));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"{\"key\":\"?\"").unwrap();
        assert_eq!(read(&path), None);
    }
}

//! The authorities as the Secret `propylon-ca` holds them.
//!
//! `tls.crt` and `tls.key` sign; `next.crt` and `next.key` will; `retired.crt` did; `state.json` has the times. The type is
//! one of our own, so that no watch of TLS Secrets sees it.

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    authority::{Authority, AuthorityError, fingerprint, read_root},
    plan::{Fingerprint, Next, Retired, Root, State, Times, retired_until},
};

/// Its type.
pub const TYPE: &str = "propylon.dev/authority";

/// The data of a Secret.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Why a Secret holds no authority; it must be deleted or mended by hand, because a certificate of it may be in use.
#[derive(Debug, Error)]
pub enum SecretError {
    /// A part is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A part is no text.
    #[error("{0} is no text")]
    Text(&'static str),
    /// A certificate or a key is none.
    #[error("{part}: {source}")]
    Authority {
        /// Which part.
        part: &'static str,
        /// Why.
        source: AuthorityError,
    },
    /// The times cannot be read.
    #[error("{STATE}: {0}")]
    State(#[source] serde_json::Error),
}

/// Everything that the Secret holds.
#[derive(Debug)]
pub struct Authorities {
    /// The one that signs.
    pub signing: Authority,
    next: Option<(Authority, Option<i64>)>,
    retired: Vec<Former>,
}

#[derive(Clone, Debug)]
struct Former {
    pem: String,
    root: Root,
    until_unix_s: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Times64 {
    next_published_unix_s: Option<i64>,
    retired_until_unix_s: BTreeMap<String, i64>,
}

impl Authorities {
    /// The first one.
    pub(super) const fn first(signing: Authority) -> Self {
        Self {
            signing,
            next: None,
            retired: Vec::new(),
        }
    }

    /// Reads a Secret's data.
    ///
    /// # Errors
    /// [`SecretError`], which names the part.
    pub(super) fn read(data: &Data) -> Result<Self, SecretError> {
        let signing = authority(data, (CERTIFICATE, KEY))?;
        let times: Times64 = match data.get(STATE) {
            Some(json) => serde_json::from_slice(json).map_err(SecretError::State)?,
            None => Times64::default(),
        };
        let next = if data.contains_key(NEXT_CERTIFICATE) {
            let next = authority(data, (NEXT_CERTIFICATE, NEXT_KEY))?;
            Some((next, times.next_published_unix_s))
        } else {
            None
        };
        let mut retired = Vec::new();
        for pem in certificates(text(data, RETIRED).unwrap_or_default()) {
            let (_, root, _) = read_root(&pem).map_err(|source| SecretError::Authority { part: RETIRED, source })?;
            let until = times
                .retired_until_unix_s
                .get(&super::authority::hex(&root.fingerprint));
            retired.push(Former {
                // Where a hand took the time away: as long as anything of it can be in use.
                until_unix_s: until.copied().unwrap_or(root.not_after_unix_s),
                pem,
                root,
            });
        }
        Ok(Self { signing, next, retired })
    }

    /// Writes a Secret's data.
    pub(super) fn write(&self) -> Data {
        let mut data = Data::new();
        let mut put = |name: &str, text: &str| data.insert(name.to_owned(), text.as_bytes().to_vec());
        put(CERTIFICATE, self.signing.certificate_pem());
        put(KEY, self.signing.key_pem());
        let mut times = Times64::default();
        if let Some((next, published)) = &self.next {
            put(NEXT_CERTIFICATE, next.certificate_pem());
            put(NEXT_KEY, next.key_pem());
            times.next_published_unix_s = *published;
        }
        if !self.retired.is_empty() {
            let pems: Vec<&str> = self.retired.iter().map(|former| former.pem.as_str()).collect();
            put(RETIRED, &pems.join("\n"));
        }
        for former in &self.retired {
            let name = super::authority::hex(&former.root.fingerprint);
            times.retired_until_unix_s.insert(name, former.until_unix_s);
        }
        put(STATE, &serde_json::to_string(&times).unwrap_or_default());
        data
    }

    /// What the plan needs of it.
    pub(super) fn state(&self, is_rotation_requested: bool) -> State {
        let next = self.next.as_ref().map(|(authority, published_unix_s)| Next {
            root: authority.root(),
            published_unix_s: *published_unix_s,
        });
        let retired = self.retired.iter().map(|former| Retired {
            root: former.root,
            until_unix_s: former.until_unix_s,
        });
        State {
            signing: self.signing.root(),
            next,
            retired: retired.collect(),
            is_rotation_requested,
        }
    }

    /// The certificates of everything that is to be trusted, PEM, the signing one first.
    pub fn trust(&self) -> String {
        let next = self.next.iter().map(|(authority, _)| authority.certificate_pem());
        let retired = self.retired.iter().map(|former| former.pem.as_str());
        let all = [self.signing.certificate_pem()].into_iter().chain(next).chain(retired);
        all.flat_map(|pem| [pem.trim(), "\n"]).collect()
    }

    /// With another authority that will sign.
    pub(super) fn begin(&mut self, next: Authority) {
        self.next = Some((next, None));
    }

    /// The next one is published since then.
    pub(super) fn mark_published(&mut self, now_unix_s: i64) {
        if let Some((_, published)) = &mut self.next {
            *published = Some(now_unix_s);
        }
    }

    /// The next one signs.
    pub(super) fn promote(&mut self, now_unix_s: i64, times: &Times) {
        let Some((next, _)) = self.next.take() else { return };
        let before = std::mem::replace(&mut self.signing, next);
        self.retired.push(Former {
            pem: before.certificate_pem().to_owned(),
            root: before.root(),
            until_unix_s: retired_until(now_unix_s, times),
        });
    }

    /// Those whose time has come are gone.
    pub(super) fn forget(&mut self, now_unix_s: i64) {
        self.retired.retain(|former| former.until_unix_s > now_unix_s);
    }
}

/// The fingerprints of what a `ConfigMap` says to trust; text that is no certificate is passed over.
pub(super) fn fingerprints(pem: &str) -> std::collections::BTreeSet<Fingerprint> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .map(|certificate| fingerprint(&certificate))
        .collect()
}

fn authority(data: &Data, (certificate, key): (&'static str, &'static str)) -> Result<Authority, SecretError> {
    let of = |source| SecretError::Authority {
        part: certificate,
        source,
    };
    Authority::read(text(data, certificate)?, text(data, key)?).map_err(of)
}

fn text<'a>(data: &'a Data, name: &'static str) -> Result<&'a str, SecretError> {
    let bytes = data.get(name).ok_or(SecretError::Missing(name))?;
    std::str::from_utf8(bytes).map_err(|_| SecretError::Text(name))
}

/// The certificates of a bundle, each as PEM of its own.
fn certificates(bundle: &str) -> Vec<String> {
    bundle
        .split_inclusive("-----END CERTIFICATE-----")
        .map(|pem| pem.trim().to_owned())
        .filter(|pem| pem.starts_with("-----BEGIN"))
        .collect()
}

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const RETIRED: &str = "retired.crt";
const STATE: &str = "state.json";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const LIFE: Duration = Duration::from_hours(1000);

    #[test]
    fn what_is_written_reads_back_through_a_whole_rotation() {
        let times = Times::default();
        let mut authorities = Authorities::first(Authority::create(NOW, LIFE).unwrap());
        let check = |authorities: &Authorities, roots: usize| {
            let read = Authorities::read(&authorities.write()).unwrap();
            assert_eq!(read.state(false), authorities.state(false));
            assert_eq!(read.trust(), authorities.trust());
            assert_eq!(fingerprints(&read.trust()), authorities.state(false).trusted());
            assert_eq!(fingerprints(&read.trust()).len(), roots);
        };
        check(&authorities, 1);
        authorities.begin(Authority::create(NOW, LIFE).unwrap());
        check(&authorities, 2);
        authorities.mark_published(NOW + 5);
        check(&authorities, 2);
        authorities.promote(NOW + 3600, &times);
        check(&authorities, 2);
        authorities.forget(NOW + 3600);
        check(&authorities, 2);
        authorities.forget(retired_until(NOW + 3600, &times));
        check(&authorities, 1);
    }

    #[test]
    fn a_damaged_secret_names_the_part() {
        let authorities = Authorities::first(Authority::create(NOW, LIFE).unwrap());
        let mut data = authorities.write();
        data.insert("tls.key".to_owned(), b"junk".to_vec());
        let error = Authorities::read(&data).unwrap_err().to_string();
        assert!(error.starts_with("tls.crt: the key cannot be used"), "{error}");
        data.remove("tls.crt");
        let error = Authorities::read(&data).unwrap_err().to_string();
        assert_eq!(error, "it has no tls.crt");
    }
}

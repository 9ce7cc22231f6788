//! Which certificates a server name has, for people.

use super::{Candidates, CertIdentity, CertTable, CertificateFact};

/// How the certificates of a server name were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// No certificate is for the name: the default one, or the self-signed one.
    Default,
    /// The name itself.
    Exact,
    /// The wildcard one label up.
    Wildcard,
}

/// The certificates of a server name, in the order in which they are tried; a client that can verify every type of key
/// gets the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChoice {
    /// How they were found.
    pub found_by: FoundBy,
    /// The certificates, never none.
    pub candidates: Vec<CertificateFact>,
}

impl CertTable {
    /// What a connection with this server name (canonical; none: it sent none) is offered.
    pub fn choice(&self, server_name: Option<&str>) -> CertificateChoice {
        let candidates = self.lookup(server_name);
        let is_of = |other: Option<&Candidates>| other.is_some_and(|other| std::ptr::eq(candidates, other));
        let exact = server_name
            .and_then(|name| self.exact.get(name))
            .and_then(Option::as_ref);
        let found_by = if is_of(Some(&self.default)) {
            FoundBy::Default
        } else if is_of(exact) {
            FoundBy::Exact
        } else {
            FoundBy::Wildcard
        };
        let facts = candidates.iter().map(|entry| CertificateFact {
            identity: entry.identity().clone(),
            not_after_unix_s: entry.not_after_unix_s(),
        });
        CertificateChoice {
            found_by,
            candidates: facts.collect(),
        }
    }
}

impl CertificateChoice {
    /// The certificate of a client that can verify every type of key.
    pub fn first(&self) -> CertIdentity {
        self.candidates
            .first()
            .map_or(CertIdentity::SelfSigned, |fact| fact.identity.clone())
    }
}

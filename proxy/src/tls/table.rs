//! Certificates by host: exact before one-label wildcard before the default.

mod choice;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use foldhash::fast::RandomState;
use propylon_model::{Certificate, CertificateName, HostName, HostPattern};
use rustls::{ServerConfig, server::ClientHello};

use super::{CertIdentity, TlsContext, TlsInfo, candidates::Candidates, entry::Entry};

pub use choice::{CertificateChoice, FoundBy};

/// Which certificate serves which host; immutable, swapped whole.
pub struct CertTable {
    context: Arc<TlsContext>,
    entries: BTreeMap<CertificateName, Arc<Entry>>,
    refused: Vec<RefusedCertificate>,
    /// `None`: the host's wildcard must not serve it, and nothing else does but the default.
    exact: HashMap<HostName, Option<Candidates>, RandomState>,
    wildcard: HashMap<HostName, Candidates, RandomState>,
    default: Candidates,
}

/// A certificate that cannot be served, although `translate` passed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// Its name.
    pub name: CertificateName,
    /// Why, in words.
    pub error: String,
}

/// What metrics tell about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFact {
    /// The certificate.
    pub identity: CertIdentity,
    /// End of the leaf's validity, Unix time in seconds.
    pub not_after_unix_s: i64,
}

impl CertTable {
    /// Builds the table of `certificates`, in which [`HostPattern::Any`] marks defaults; without one the default is the
    /// context's self-signed certificate.
    ///
    /// Certificates that are the same as in `previous` (which must have the same context) are not parsed again. One that
    /// rustls cannot use is left out and listed in [`CertTable::refused`].
    ///
    /// # Cost
    /// Parses every new or changed key (tens of microseconds each) and indexes every host again (about a microsecond
    /// each): meant for the control thread.
    pub fn build(
        certificates: &BTreeMap<CertificateName, Arc<Certificate>>,
        context: &Arc<TlsContext>,
        previous: Option<&Self>,
    ) -> Self {
        let previous = previous.filter(|table| Arc::ptr_eq(&table.context, context));
        let mut entries = BTreeMap::new();
        let mut refused = Vec::new();
        for (name, source) in certificates {
            match load(name, source, context, previous) {
                Ok(entry) => drop(entries.insert(name.clone(), entry)),
                Err(error) => refused.push(RefusedCertificate {
                    name: name.clone(),
                    error: error.to_string(),
                }),
            }
        }
        let mut index = Index::default();
        for (name, entry) in &entries {
            let hosts = certificates.get(name).map_or([].as_slice(), |source| &source.hosts);
            index.add(hosts, entry);
        }
        let exact = index.exact();
        let default = Candidates::of(index.any).unwrap_or_else(|| self_signed(context, previous));
        Self {
            context: Arc::clone(context),
            entries,
            refused,
            exact,
            wildcard: collect(index.wildcard),
            default,
        }
    }

    /// Whether a request for `host` (canonical, [`crate::edge::RequestHost::canonical`]) does not belong on a connection
    /// whose handshake ended with `info`, and is to be answered with 421 (RFC 9110 15.5.20): its host has other
    /// certificates than the connection's server name has, and the one in use is not among them.
    ///
    /// No server name counts as the default certificate. A request without host (HTTP/1.0) is never misdirected: it asks
    /// for no other host. Certificates are compared by name and looked up in this table, so a rotation, or a new
    /// default, does not make an open connection misdirected.
    ///
    /// # Cost
    /// A string comparison when the host is the server name, else two lookups.
    pub fn misdirected(&self, info: &TlsInfo, host: &str) -> bool {
        let sni = info.sni.as_deref();
        if host.is_empty() || sni == Some(host) {
            return false;
        }
        let (of_sni, of_host) = (self.lookup(sni), self.lookup(Some(host)));
        !std::ptr::eq(of_sni, of_host) && !of_host.contains(&info.certificate)
    }

    /// Certificates that are not served because rustls cannot use them.
    pub fn refused(&self) -> &[RefusedCertificate] {
        &self.refused
    }

    /// Name and end of validity of every certificate that is served.
    pub fn facts(&self) -> impl Iterator<Item = CertificateFact> {
        self.entries.values().map(|entry| CertificateFact {
            identity: entry.identity().clone(),
            not_after_unix_s: entry.not_after_unix_s(),
        })
    }

    /// The certificate for a `ClientHello`; `sni` canonical.
    pub(super) fn select(&self, sni: Option<&str>, hello: &ClientHello<'_>) -> &Arc<Entry> {
        self.lookup(sni).choose(hello)
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(name)
    }

    pub(super) fn config_of(&self, entry: &Entry) -> Arc<ServerConfig> {
        entry.config(&self.context)
    }

    /// The settings of connections whose protocol nobody here knows.
    pub(super) fn plain_config_of(&self, entry: &Entry) -> Arc<ServerConfig> {
        entry.plain_config(&self.context)
    }

    fn lookup(&self, host: Option<&str>) -> &Candidates {
        let Some(host) = host else { return &self.default };
        let one_label_up = || self.wildcard.get(host.split_once('.')?.1);
        let found = self.exact.get(host).map_or_else(one_label_up, Option::as_ref);
        found.unwrap_or(&self.default)
    }
}

impl fmt::Debug for CertTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exact, wildcard) = (self.exact.len(), self.wildcard.len());
        formatter
            .debug_struct("CertTable")
            .field("exact", &exact)
            .field("wildcard", &wildcard)
            .finish_non_exhaustive()
    }
}

/// Candidates by pattern, before they are sorted.
#[derive(Default)]
struct Index {
    any: Vec<Arc<Entry>>,
    exact: HashMap<HostName, Vec<Arc<Entry>>, RandomState>,
    wildcard: HashMap<HostName, Vec<Arc<Entry>>, RandomState>,
}

impl Index {
    fn add(&mut self, hosts: &[HostPattern], entry: &Arc<Entry>) {
        for host in hosts {
            let of_host = match host {
                HostPattern::Any => &mut self.any,
                HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
                HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
            };
            of_host.push(Arc::clone(entry));
        }
    }

    /// The candidates of exact hosts, and of those that some certificate's wildcard must not serve: of the wildcard's
    /// certificates the others, where there are any.
    fn exact(&mut self) -> HashMap<HostName, Option<Candidates>, RandomState> {
        let own = std::mem::take(&mut self.exact).into_iter();
        let mut exact: HashMap<_, _, _> = own.map(|(host, entries)| (host, Candidates::of(entries))).collect();
        for host in self.wildcard.values().flatten().flat_map(|entry| entry.not_for()) {
            if exact.contains_key(host) {
                continue;
            }
            let above = host.as_str().split_once('.');
            let entries = above.and_then(|(_, suffix)| self.wildcard.get(suffix));
            let others = entries.into_iter().flatten().filter(|entry| entry.serves(host));
            exact.insert(host.clone(), Candidates::of(others.cloned().collect()));
        }
        exact
    }
}

fn load(
    name: &CertificateName,
    source: &Arc<Certificate>,
    context: &TlsContext,
    previous: Option<&CertTable>,
) -> Result<Arc<Entry>, rustls::Error> {
    match previous.and_then(|table| table.entries.get(name)) {
        Some(entry) if entry.is_made_of(source) => Ok(Arc::clone(entry)),
        _ => Entry::load(name, source, context).map(Arc::new),
    }
}

fn self_signed(context: &TlsContext, previous: Option<&CertTable>) -> Candidates {
    match previous.map(|table| &table.default) {
        Some(before) if before.contains(&CertIdentity::SelfSigned) => before.clone(),
        _ => Candidates::One(Arc::new(Entry::self_signed(context))),
    }
}

fn collect(index: HashMap<HostName, Vec<Arc<Entry>>, RandomState>) -> HashMap<HostName, Candidates, RandomState> {
    index
        .into_iter()
        .filter_map(|(host, entries)| Some((host, Candidates::of(entries)?)))
        .collect()
}

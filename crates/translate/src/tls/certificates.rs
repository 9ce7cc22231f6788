//! The certificates that are served, and for which hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use propylon_model::{Certificate, HostName, HostPattern, Kind, ObjectRef, ReportReason};

use super::{Claim, DEFAULT_INSTEAD, owners::wildcard_above, pair::Pair};
use crate::{
    classes::{age, created_unix_s},
    engine::Index,
    memory::Memory,
    reports::Reports,
    world::{Key, World},
};

/// Certificates that end within this time are reported.
const EXPIRING_S: i64 = 21 * 24 * 3600;

/// Who names a Secret as one with a certificate.
pub(crate) struct Users<'a> {
    /// What Ingresses want it for.
    pub(crate) claims: Vec<&'a Claim>,
    /// Whether an L4 port terminates TLS with it, which gives it no host.
    pub(crate) by_l4: bool,
    /// Whether it is that of `--default-tls-secret`.
    pub(crate) is_default: bool,
}

/// One Secret that is used.
#[derive(Debug)]
pub(crate) struct Used {
    pair: Arc<Pair>,
    created_unix_s: Option<i64>,
    hosts: BTreeSet<HostPattern>,
    not_for: BTreeSet<HostName>,
    phase: Phase,
    rank: u32,
}

/// Where a time lies in the validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ended,
    Ending,
    NotBegun,
    Valid,
}

/// The certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    used: BTreeMap<Key, Used>,
    hosts: Index<HostPattern, Key>,
    /// Hosts that no wildcard serves. All certificates of a wildcard are of its owner's namespace, so one set is enough.
    not_for: Index<HostName, Key>,
    /// The default certificate, where the operator gave one that is usable.
    default: Option<Key>,
}

/// What followed from a change of one Secret.
#[derive(Default)]
pub(crate) struct Moved {
    /// Hosts that have now, or have no longer, a certificate of their own.
    pub(crate) covered: BTreeSet<HostPattern>,
    /// Secrets whose rank may have changed.
    pub(crate) ranks: BTreeSet<Key>,
}

impl Certificates {
    /// Whether a host has a certificate Secret of its own, exact or wildcard; the default certificate does not count.
    pub(crate) fn cover(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Any => false,
            HostPattern::Exact(name) => {
                let by_wildcard = || {
                    let wildcard = wildcard_above(host)?;
                    Some(self.hosts.has(&wildcard) && !self.not_for.has(name))
                };
                self.hosts.has(host) || by_wildcard().unwrap_or(false)
            }
            HostPattern::Wildcard(_) => self.hosts.has(host),
        }
    }

    /// Whether a Secret gives a certificate.
    pub(crate) fn has(&self, secret: &Key) -> bool {
        self.used.contains_key(secret)
    }

    /// The default certificate, where the operator gave one that is usable.
    pub(crate) fn default(&self) -> Option<&Pair> {
        let used = self.default.as_ref().and_then(|key| self.used.get(key));
        used.map(|used| &*used.pair)
    }

    /// The Secrets of which another time makes something else.
    pub(crate) fn out_of_date(&self, now_unix_s: i64) -> impl Iterator<Item = &Key> {
        let moved = self
            .used
            .iter()
            .filter(move |(_, used)| used.phase != Phase::of(&used.pair, now_unix_s));
        moved.map(|(key, _)| key)
    }

    /// Puts a Secret in its place, or takes it away.
    pub(crate) fn set(&mut self, key: &Key, used: Option<Used>) -> Moved {
        let mut moved = Moved::default();
        moved.ranks.insert(key.clone());
        let old = match self.used.remove(key) {
            Some(old) => (old.hosts, old.not_for),
            None => Default::default(),
        };
        let none = (BTreeSet::new(), BTreeSet::new());
        let (hosts, not_for) = used
            .as_ref()
            .map_or((&none.0, &none.1), |used| (&used.hosts, &used.not_for));
        let touched: BTreeSet<HostPattern> = old.0.symmetric_difference(hosts).cloned().collect();
        let excepted: BTreeSet<HostName> = old.1.symmetric_difference(not_for).cloned().collect();
        let before = self.coverage(&touched, &excepted);
        self.hosts
            .replace(key, old.0.difference(hosts), hosts.difference(&old.0));
        self.not_for
            .replace(key, old.1.difference(not_for), not_for.difference(&old.1));
        let after = self.coverage(&touched, &excepted);
        let excepted = before.1.symmetric_difference(&after.1);
        moved.covered = excepted.map(|name| HostPattern::Exact(name.clone())).collect();
        moved.covered.extend(before.0.symmetric_difference(&after.0).cloned());
        for host in old.0.iter().chain(hosts) {
            moved.ranks.extend(self.hosts.of(host).cloned());
        }
        if let Some(used) = used {
            if used.hosts.contains(&HostPattern::Any) {
                self.default = Some(key.clone());
            }
            self.used.insert(key.clone(), used);
        }
        moved
    }

    /// Ranks the certificates that share hosts with some, directly or through others: valid before not valid now, then the
    /// oldest, then by name. Gives those whose rank changed, and all of `anew` that are used.
    ///
    /// A rank counts the certificates before it that share a host, so that a new one changes only those that it meets.
    pub(crate) fn rank(&mut self, touched: &BTreeSet<Key>, anew: &BTreeSet<Key>) -> Vec<(Key, Certificate)> {
        let mut order: Vec<Key> = self.connected(touched).into_iter().collect();
        order.sort_by_cached_key(|key| {
            let used = self.used.get(key);
            used.map(|used| (!used.phase.is_valid(), age(used.created_unix_s, key)))
        });
        let mut next_rank: BTreeMap<HostPattern, u32> = BTreeMap::new();
        let mut changed = Vec::new();
        for key in order {
            let Some(used) = self.used.get_mut(&key) else { continue };
            let before = used.hosts.iter().filter_map(|host| next_rank.get(host));
            let rank = before.max().copied().unwrap_or(0);
            next_rank.extend(used.hosts.iter().map(|host| (host.clone(), rank.saturating_add(1))));
            if used.rank != rank || anew.contains(&key) {
                used.rank = rank;
                changed.push((key, used.certificate()));
            }
        }
        changed
    }

    fn connected(&self, touched: &BTreeSet<Key>) -> BTreeSet<Key> {
        let used = touched.iter().filter(|key| self.used.contains_key(*key));
        let mut found: BTreeSet<Key> = used.cloned().collect();
        let mut seen_hosts: BTreeSet<&HostPattern> = BTreeSet::new();
        let mut open: Vec<Key> = found.iter().cloned().collect();
        while let Some(key) = open.pop() {
            let hosts = self.used.get(&key).into_iter().flat_map(|used| &used.hosts);
            for host in hosts {
                if !seen_hosts.insert(host) {
                    continue;
                }
                for other in self.hosts.of(host) {
                    if found.insert(other.clone()) {
                        open.push(other.clone());
                    }
                }
            }
        }
        found
    }

    /// Those of some patterns that certificates are for, and those of some hosts that wildcards leave out.
    fn coverage(
        &self,
        hosts: &BTreeSet<HostPattern>,
        excepted: &BTreeSet<HostName>,
    ) -> (BTreeSet<HostPattern>, BTreeSet<HostName>) {
        let hosts = hosts.iter().filter(|host| self.hosts.has(host));
        let excepted = excepted.iter().filter(|name| self.not_for.has(name));
        (hosts.cloned().collect(), excepted.cloned().collect())
    }
}

impl Used {
    /// Looks at a Secret that exists; none where it holds nothing usable and never did, or serves nobody.
    pub(crate) fn read(
        key: &Key,
        world: &World,
        users: &Users<'_>,
        memory: &mut Memory,
        reports: &mut Reports,
    ) -> Option<Self> {
        let secret = world.secrets.get(key)?;
        if users.claims.is_empty() && !users.by_l4 && !users.is_default {
            return None;
        }
        let reading = memory.pair(key, secret);
        let usable = reading.usable().cloned();
        if let Err(why) = &reading.now {
            let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
            for instead in instead(users, usable.is_some()) {
                let message = format!("{why}; {instead}; put a matching PEM certificate chain and key there");
                reports.add(&object, ReportReason::TLSSecretInvalid, message);
            }
        }
        let pair = usable?;
        let mut hosts: BTreeSet<HostPattern> = users.is_default.then_some(HostPattern::Any).into_iter().collect();
        let mut not_for = BTreeSet::new();
        for claim in &users.claims {
            hosts.extend(claim.hosts.iter().cloned());
            not_for.extend(claim.not_for.iter().cloned());
        }
        (users.by_l4 || !hosts.is_empty()).then(|| Self {
            pair,
            created_unix_s: created_unix_s(&secret.metadata),
            hosts,
            not_for,
            phase: Phase::Valid,
            rank: 0,
        })
    }

    /// Compares the validity with the time, and reports what is not as it should be.
    pub(crate) fn look_at_time(&mut self, key: &Key, now_unix_s: i64, reports: &mut Reports) {
        self.phase = Phase::of(&self.pair, now_unix_s);
        let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
        let (begins, ends) = (time(self.pair.not_before_unix_s), time(self.pair.not_after_unix_s));
        let alone = if self.hosts.is_empty() {
            "it is served all the same, on L4 ports"
        } else {
            "it is served only where its hosts have no valid one"
        };
        let (reason, message) = match self.phase {
            Phase::Ended => (
                ReportReason::CertificateExpired,
                format!("data[tls.crt]: the certificate ended on {ends}; {alone}; renew it"),
            ),
            Phase::Ending => (
                ReportReason::CertificateExpiring,
                format!("data[tls.crt]: the certificate ends on {ends}, in less than 21 days; renew it"),
            ),
            Phase::NotBegun => (
                ReportReason::CertificateNotYetValid,
                format!("data[tls.crt]: the certificate begins on {begins}; {alone}; check it and the clock"),
            ),
            Phase::Valid => return,
        };
        reports.add(&object, reason, message);
    }

    fn certificate(&self) -> Certificate {
        Certificate {
            hosts: self.hosts.iter().cloned().collect(),
            not_for: self.not_for.iter().cloned().collect(),
            chain_der: Arc::clone(&self.pair.chain_der),
            key: self.pair.key.clone(),
            not_after_unix_s: self.pair.not_after_unix_s,
            rank: self.rank,
        }
    }
}

impl Phase {
    const fn of(pair: &Pair, now_unix_s: i64) -> Self {
        if pair.not_after_unix_s < now_unix_s {
            Self::Ended
        } else if pair.not_before_unix_s > now_unix_s {
            Self::NotBegun
        } else if pair.not_after_unix_s.saturating_sub(now_unix_s) <= EXPIRING_S {
            Self::Ending
        } else {
            Self::Valid
        }
    }

    const fn is_valid(self) -> bool {
        matches!(self, Self::Ending | Self::Valid)
    }
}

/// What is served in the place of a Secret that is of no use, by those who name it.
fn instead(users: &Users<'_>, had_good: bool) -> BTreeSet<&'static str> {
    if had_good {
        return BTreeSet::from(["the last good certificate is still served"]);
    }
    let by_l4 = users.by_l4.then_some("the ports that terminate TLS with it are closed");
    let by_host = (users.is_default || !users.claims.is_empty()).then_some(DEFAULT_INSTEAD);
    by_l4.into_iter().chain(by_host).collect()
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
}

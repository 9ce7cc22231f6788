//! Who wants which Secret for which hosts, and the certificates that come of it.

use std::collections::{BTreeMap, BTreeSet};

use propylon_model::{CertificateName, HostPattern, Kind, ObjectRef, ReportReason};

use super::{Engine, Index, Part, Run};
use crate::{
    l4::Source,
    reports::Reports,
    tls::{Claimant, Claims, Moved, Used, Users},
    world::Key,
};

/// Who names Secrets with certificates.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// What each Ingress wants.
    claims: BTreeMap<Key, Claims>,
    ingresses: Index<Key, Key>,
    /// The Services that terminate TLS with each Secret.
    services: Index<Key, Key>,
    of_service: BTreeMap<Key, Key>,
}

impl Wanted {
    /// Notes the Secret that a Service terminates TLS with.
    pub(super) fn set_l4(&mut self, service: &Key, secret: Option<Key>, touched: &mut BTreeSet<Key>) {
        let before = match &secret {
            Some(secret) => self.of_service.insert(service.clone(), secret.clone()),
            None => self.of_service.remove(service),
        };
        if before != secret {
            self.services.replace(service, &before, &secret);
            touched.extend(before.into_iter().chain(secret));
        }
    }

    /// Notes what an Ingress wants of the Secrets that it names.
    fn set_claims(&mut self, ingress: &Key, claims: Claims, touched: &mut BTreeSet<Key>) {
        let before = if claims.is_empty() {
            self.claims.remove(ingress)
        } else {
            self.claims.insert(ingress.clone(), claims)
        };
        let (before, none) = (before.unwrap_or_default(), Claims::new());
        let now = self.claims.get(ingress).unwrap_or(&none);
        let same = |secret: &&Key| before.get(*secret) == now.get(*secret);
        touched.extend(before.keys().chain(now.keys()).filter(|secret| !same(secret)).cloned());
        self.ingresses.replace(ingress, before.keys(), now.keys());
    }

    /// Every Secret that is named.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Key> {
        self.ingresses.things().chain(self.services.things())
    }
}

impl Engine {
    pub(super) fn make_certificates(&mut self, run: &mut Run<'_>) {
        for key in &run.changes.secrets {
            if !run.world.secrets.contains_key(key) {
                run.memory.forget(Kind::Secret, key);
            }
            run.work.secrets.insert(key.clone());
            run.work.claims.extend(self.wanted.ingresses.of(key).cloned());
            run.work.routes.extend(self.routes.of_secret(key).cloned());
        }
        self.make_claims(run);
        let out_of_date = self.certificates.out_of_date(run.options.now_unix_s);
        run.work.secrets.extend(out_of_date.cloned());
        if !self.begun {
            run.work.secrets.extend(run.options.default_tls_secret.clone());
        }
        let (mut ranks, mut covered) = (BTreeSet::new(), BTreeSet::new());
        for key in &run.work.secrets.clone() {
            let moved = self.make_certificate(key, run);
            ranks.extend(moved.ranks);
            covered.extend(moved.covered);
            let services = self.wanted.services.of(key);
            run.work.sources.extend(services.cloned().map(Source::Service));
            if run.options.default_tls_secret.as_ref() == Some(key) {
                // Which of them it is good enough for is said of each.
                let with_tls = self.read.heads.keys();
                run.work.routes.extend(with_tls.cloned());
            }
        }
        for (key, certificate) in self.certificates.rank(&ranks, &run.work.secrets) {
            self.output.certificate(&name_of(&key), Some(certificate.into()));
        }
        self.follow_cover(run, &covered);
    }

    fn make_claims(&mut self, run: &mut Run<'_>) {
        for key in &run.work.claims {
            let mut reports = Reports::default();
            let ingress = self.read.served(key, run.world);
            let claims = ingress.map(|ingress| {
                let mut claimant = Claimant {
                    world: run.world,
                    options: run.options,
                    hosts: &self.read.hosts,
                    memory: run.memory,
                    reports: &mut reports,
                };
                claimant.claims(&ingress)
            });
            self.ledger.set(&Part::Tls(key.clone()), reports);
            let claims = claims.unwrap_or_default();
            self.wanted.set_claims(key, claims, &mut run.work.secrets);
        }
    }

    fn make_certificate(&mut self, key: &Key, run: &mut Run<'_>) -> Moved {
        let mut reports = Reports::default();
        let claims = self.wanted.ingresses.of(key);
        let claims = claims.filter_map(|ingress| self.wanted.claims.get(ingress)?.get(key));
        let users = Users {
            claims: claims.collect(),
            by_l4: self.wanted.services.has(key),
            is_default: run.options.default_tls_secret.as_ref() == Some(key),
        };
        if users.is_default && !run.world.secrets.contains_key(key) {
            let object = ObjectRef::new(Kind::Secret, key.namespace.clone(), key.name.clone());
            let message =
                "--default-tls-secret: does not exist; a self-signed certificate is served where no other fits";
            reports.add(&object, ReportReason::TLSSecretNotFound, message);
        }
        let mut used = Used::read(key, run.world, &users, run.memory, &mut reports);
        if let Some(used) = &mut used {
            used.look_at_time(key, run.options.now_unix_s, &mut reports);
        } else {
            self.output.certificate(&name_of(key), None);
        }
        self.ledger.set(&Part::Secret(key.clone()), reports);
        self.certificates.set(key, used)
    }

    /// Marks the Ingresses for whose hosts there is a certificate now, or is none any more.
    fn follow_cover(&self, run: &mut Run<'_>, covered: &BTreeSet<HostPattern>) {
        for host in covered {
            let below = self.read.hosts.all_below(host).cloned().map(HostPattern::Exact);
            for host in below.chain([host.clone()]) {
                run.work.routes.extend(self.read.hosts.namers(&host).cloned());
            }
        }
    }
}

fn name_of(secret: &Key) -> CertificateName {
    CertificateName::new(secret.to_string())
}

//! What is read from Ingresses and Services by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{HostPattern, Kind, ObjectRef, ReportReason};

use super::{Engine, Part, Read, Run};
use crate::{
    backends::service_object,
    classes::{Age, Classes, Served, age, created_unix_s},
    endpoints,
    l4::{self, Source},
    nginx::{self, Verdict},
    passthrough,
    reports::Reports,
    settings::Settings,
    tls::owners::{named, wildcard_above},
    world::{Key, World},
};

/// An Ingress that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    created_unix_s: Option<i64>,
    settings: Settings,
    restriction: Option<Arc<str>>,
    /// The hosts that it names.
    pub(super) hosts: BTreeSet<HostPattern>,
    /// Those whose TLS it wants to have handed on.
    pub(super) passthrough: BTreeSet<HostPattern>,
}

impl Head {
    fn age(&self, key: &Key) -> Age {
        age(self.created_unix_s, key)
    }
}

impl Read {
    /// An Ingress, where it is served.
    pub(super) fn served<'a>(&'a self, key: &'a Key, world: &'a World) -> Option<Served<'a>> {
        let head = self.heads.get(key)?;
        Some(Served {
            key,
            ingress: world.ingresses.get(key)?,
            object: object_of(key),
            created_unix_s: head.created_unix_s,
            restriction: head.restriction.clone(),
            settings: head.settings.clone(),
        })
    }

    /// The Ingresses that are served and name a host, oldest first.
    pub(super) fn served_on<'a>(&'a self, host: &HostPattern, world: &'a World) -> Vec<Served<'a>> {
        let namers = self.hosts.namers(host);
        namers.filter_map(|key| self.served(key, world)).collect()
    }
}

impl Engine {
    pub(super) fn read_objects(&mut self, run: &mut Run<'_>) {
        self.read_nodes(run);
        self.read_slices(run);
        self.read_services(run, &run.changes.services.clone());
        if !run.changes.reference_grants.is_empty() {
            self.follow_grants(run);
        }
        let mut heads = self.read_ingresses(run, &run.changes.ingresses.clone());
        if !run.changes.ingress_classes.is_empty() {
            let others = run.world.ingresses.keys();
            let others = others.filter(|key| !run.changes.ingresses.contains(*key));
            let mut of_class = self.read_ingresses(run, &others.cloned().collect());
            // Where the class makes no difference, nothing else does.
            of_class.retain(|key, before| self.read.heads.get(key) != before.as_ref());
            heads.extend(of_class);
        }
        self.follow_hosts(run, &heads);
        run.work.claims.extend(heads.keys().cloned());
        run.work.routes.extend(heads.into_keys());
    }

    /// Looks again at whoever names a Secret of another namespace.
    fn follow_grants(&mut self, run: &mut Run<'_>) {
        let services = self.read.services.iter();
        let services = services.filter(|(_, settings)| settings.names_namespace());
        let services: BTreeSet<Key> = services.map(|(key, _)| key.clone()).collect();
        self.read_services(run, &services);
        let ingresses = self.read.heads.iter();
        let ingresses = ingresses.filter(|(_, head)| head.settings.names_namespace());
        run.work.routes.extend(ingresses.map(|(key, _)| key.clone()));
    }

    /// Marks the endpoints whose addresses became, or are no longer, those of a node, or whose pod is another one.
    fn read_nodes(&mut self, run: &mut Run<'_>) {
        let mut touched = BTreeSet::new();
        for node in &run.changes.nodes {
            touched.extend(self.read.nodes.update(node, run.world));
        }
        if !touched.is_empty() {
            for (slice, found) in &run.world.endpoint_slices {
                if endpoints::mentions(found, &touched) {
                    let service = self.read.slices.service(slice);
                    run.work.endpoints.extend(
                        service
                            .into_iter()
                            .flat_map(|service| self.book.of_service(service))
                            .cloned(),
                    );
                }
            }
        }
        for pod in &run.changes.pods {
            run.work.endpoints.extend(self.book.of_pod(pod).cloned());
        }
    }

    fn read_slices(&mut self, run: &mut Run<'_>) {
        for slice in &run.changes.endpoint_slices {
            for service in self.read.slices.update(slice, run.world) {
                run.work.endpoints.extend(self.book.of_service(&service).cloned());
            }
        }
    }

    fn read_services(&mut self, run: &mut Run<'_>, keys: &BTreeSet<Key>) {
        for key in keys {
            let mut reports = Reports::default();
            let object = service_object(key);
            let found = run.world.services.get(key);
            let settings = found.map(|service| Settings::read(&object, &service.metadata, run.memory, &mut reports));
            let secret = found.zip(settings.as_ref());
            let secret = secret.and_then(|(service, settings)| l4::secret(key, service, settings, run.world));
            self.wanted.set_l4(key, secret, &mut run.work.secrets);
            let before = if let Some(settings) = settings {
                self.read.services.insert(key.clone(), settings)
            } else {
                run.memory.forget(Kind::Service, key);
                self.read.services.remove(key)
            };
            self.ledger.set(&Part::Service(key.clone()), reports);
            if before.is_some() != found.is_some() {
                let work = &mut run.work;
                work.routes.extend(self.routes.with_names(&key.namespace).cloned());
                work.hosts.extend(self.passthroughs.with_names(&key.namespace).cloned());
                work.sources.extend(self.layer4.with_names(&key.namespace).cloned());
            }
            let work = &mut run.work;
            work.routes.extend(self.routes.of_service(key).cloned());
            work.hosts.extend(self.passthroughs.of_service(key).cloned());
            work.sources.extend(self.layer4.of_service(key).cloned());
            work.sources.insert(Source::Service(key.clone()));
            work.endpoints.extend(self.book.of_service(key).cloned());
            work.idle.insert(key.clone());
        }
    }

    /// Looks at Ingresses again; gives what they were before.
    fn read_ingresses(&mut self, run: &mut Run<'_>, keys: &BTreeSet<Key>) -> BTreeMap<Key, Option<Head>> {
        let mut before = BTreeMap::new();
        for key in keys {
            let mut reports = Reports::default();
            let head = head(key, run, &mut reports);
            if !run.world.ingresses.contains_key(key) {
                run.memory.forget(Kind::Ingress, key);
            }
            self.ledger.set(&Part::Head(key.clone()), reports);
            let old = match head {
                Some(head) => self.read.heads.insert(key.clone(), head),
                None => self.read.heads.remove(key),
            };
            before.insert(key.clone(), old);
        }
        before
    }

    /// Brings the owners of hosts up to date, and marks who depends on them.
    fn follow_hosts(&mut self, run: &mut Run<'_>, heads: &BTreeMap<Key, Option<Head>>) {
        let mut owners: BTreeMap<HostPattern, Option<Key>> = BTreeMap::new();
        for (key, before) in heads {
            let heads = before.iter().chain(self.read.heads.get(key));
            let hosts: Vec<HostPattern> = heads.flat_map(|head| &head.hosts).cloned().collect();
            for host in hosts {
                let owner = self.read.hosts.owner(&host).cloned();
                owners.entry(host).or_insert(owner);
            }
        }
        for (key, before) in heads {
            if let Some(before) = before {
                self.read.hosts.remove(&before.age(key), &before.hosts);
            }
            let passthrough_before = before.iter().flat_map(|head| &head.passthrough);
            run.work.hosts.extend(passthrough_before.cloned());
        }
        for key in heads.keys() {
            if let Some(head) = self.read.heads.get(key) {
                self.read.hosts.add(&head.age(key), &head.hosts);
                run.work.hosts.extend(head.passthrough.iter().cloned());
            }
        }
        for (host, before) in owners {
            if self.read.hosts.owner(&host) != before.as_ref() {
                run.work.claims.extend(self.read.hosts.namers(&host).cloned());
                let above = wildcard_above(&host);
                let above = above.iter().flat_map(|above| self.read.hosts.namers(above));
                run.work.claims.extend(above.cloned());
            }
            run.work.hosts.insert(host);
        }
    }
}

/// Reads an Ingress that exists; none where it is not served, which is reported.
fn head(key: &Key, run: &mut Run<'_>, reports: &mut Reports) -> Option<Head> {
    let ingress = run.world.ingresses.get(key)?;
    let object = object_of(key);
    if let Err(why) = Classes::new(run.world, run.options).decide(ingress) {
        reports.add(&object, ReportReason::ClassNotOurs, why);
        return None;
    }
    let mut served = Served {
        key,
        ingress,
        created_unix_s: created_unix_s(&ingress.metadata),
        restriction: None,
        settings: Settings::read(&object, &ingress.metadata, run.memory, reports),
        object,
    };
    match nginx::verdict(&served.object, ingress, reports) {
        Verdict::Canary => return None,
        Verdict::Open => {}
        Verdict::Restricted(annotation) => served.restriction = Some(annotation),
    }
    Some(Head {
        created_unix_s: served.created_unix_s,
        hosts: named(ingress).collect(),
        passthrough: passthrough::wanted(&served),
        settings: served.settings,
        restriction: served.restriction,
    })
}

fn object_of(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::Ingress, Arc::clone(&key.namespace), Arc::clone(&key.name))
}

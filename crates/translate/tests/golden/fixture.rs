//! What a golden input says: objects, options, certificates and steps.
//!
//! `#: OPTION` lines stand anywhere: `now TIME`, `ingress-class NAME`, `default-tls-secret NS/NAME`,
//! `map NS/SVC[:PORT]=ADDR`, `allow-local-endpoints`, `external-name`, `cluster-domain NAME`, `lb-bind ADDR`, `lb-by-status`,
//! `local ADDR`, `node NAME ADDR...`, `pod NS/NAME ADDR...`, `taken ADDR:PORT`, `tcp-services NS/NAME`,
//! `udp-services NS/NAME`, `cert NAME KEY=VALUE...` (`dns` is a list, `not-before`, `not-after`
//! are dates, `key=rsa`, `cn`), and `step TITLE`, behind which a new world begins that is compiled with the same memory.
//! `{{crt NAME}}`, `{{key NAME}}` and `{{garbage}}` stand for base64.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, civil::Date};
use propylon_translate::{
    Key, Options, PortRef, ServiceMap, World,
    admit::admit,
    cluster::{Node, Pod},
    manifest::{Object, parse},
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

pub(crate) struct Fixture {
    pub(crate) options: Options,
    /// Name of each certificate by its leaf (DER).
    pub(crate) pairs: BTreeMap<Vec<u8>, String>,
    pub(crate) steps: Vec<Step>,
    /// Nodes and pods, which stand in every step.
    pub(crate) cluster: Vec<Object>,
}

pub(crate) struct Step {
    pub(crate) title: String,
    text: String,
}

impl Fixture {
    pub(crate) fn read(text: &str) -> Self {
        let mut options = Options {
            now_unix_s: unix_s("2026-06-01T00:00:00Z"),
            ..Options::default()
        };
        let mut pairs = BTreeMap::new();
        let mut cluster_objects = Vec::new();
        let mut words = BTreeMap::from([("{{garbage}}".to_owned(), STANDARD.encode("garbage"))]);
        let mut steps = vec![Step {
            title: "first".to_owned(),
            text: String::new(),
        }];
        for line in text.lines() {
            match line
                .strip_prefix("#: ")
                .map(|line| line.split_once(' ').unwrap_or((line, "")))
            {
                Some(("now", time)) => options.now_unix_s = unix_s(time),
                Some(("ingress-class", name)) => options.ingress_classes.push(name.to_owned()),
                Some(("default-tls-secret", name)) => options.default_tls_secret = Some(key(name)),
                Some(("map", map)) => options.maps.push(service_map(map)),
                Some(("allow-local-endpoints", _)) => options.allow_local_endpoints = true,
                Some(("lb-bind", address)) => options.lb_bind = Some(address.parse().unwrap()),
                Some(("lb-by-status", _)) => options.lb_by_status = true,
                Some(("local", address)) => drop(options.local_addresses.insert(address.parse().unwrap())),
                Some(("taken", address)) => options.taken.push(address.parse().unwrap()),
                Some(("tcp-services", name)) => options.tcp_services = Some(key(name)),
                Some(("udp-services", name)) => options.udp_services = Some(key(name)),
                Some(("node", text)) => {
                    let (name, addresses) = cluster(text);
                    cluster_objects.push(Object::Node(Box::new(Node { name, addresses })));
                }
                Some(("pod", text)) => {
                    let (name, addresses) = cluster(text);
                    let Key { namespace, name } = key(&name);
                    cluster_objects.push(Object::Pod(Box::new(Pod {
                        namespace: namespace.to_string(),
                        name: name.to_string(),
                        addresses,
                        host_network: true,
                    })));
                }
                Some(("external-name", _)) => options.external_name = true,
                Some(("cluster-domain", name)) => name.clone_into(&mut options.cluster_domain),
                Some(("cert", cert)) => {
                    let (name, certificate, key) = generate(cert);
                    pairs.insert(certificate.der().to_vec(), name.to_owned());
                    words.insert(format!("{{{{crt {name}}}}}"), STANDARD.encode(certificate.pem()));
                    words.insert(format!("{{{{key {name}}}}}"), STANDARD.encode(key.serialize_pem()));
                }
                Some(("step", title)) => steps.push(Step {
                    title: title.to_owned(),
                    text: String::new(),
                }),
                Some((other, _)) => panic!("unknown option {other}"),
                None => {
                    let step = steps.last_mut().unwrap();
                    step.text.push_str(line);
                    step.text.push('\n');
                }
            }
        }
        steps.retain(|step| !step.text.trim().is_empty());
        for step in &mut steps {
            for (word, value) in &words {
                step.text = step.text.replace(word, value);
            }
        }
        Self {
            options,
            pairs,
            steps,
            cluster: cluster_objects,
        }
    }
}

impl Step {
    /// The admitted objects, and what is wrong with the others.
    pub(crate) fn world(&self) -> (World, Vec<String>) {
        let mut world = World::default();
        let mut refused = Vec::new();
        for object in parse(&self.text) {
            let object = match object {
                Ok(object) => object,
                Err(error) => {
                    refused.push(error.to_string());
                    continue;
                }
            };
            let name = object.key().map(|key| key.to_string()).unwrap_or_default();
            match admit(object) {
                Ok(object) => world.insert(object),
                Err(errors) => refused.extend(errors.iter().map(|error| format!("{name}: {error}"))),
            }
        }
        (world, refused)
    }
}

fn unix_s(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_second()
}

/// A name and addresses behind it.
fn cluster(text: &str) -> (String, BTreeSet<IpAddr>) {
    let mut words = text.split(' ');
    let name = words.next().unwrap().to_owned();
    (name, words.map(|word| word.parse().unwrap()).collect())
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key::new(namespace, name)
}

fn service_map(text: &str) -> ServiceMap {
    let (service, address) = text.split_once('=').unwrap();
    let (service, port) = service
        .split_once(':')
        .map_or((service, None), |(service, port)| (service, Some(port)));
    let Key { namespace, name } = key(service);
    let port = port.map(|port| {
        port.parse()
            .map_or_else(|_| PortRef::Name(port.into()), PortRef::Number)
    });
    ServiceMap {
        namespace,
        service: name,
        port,
        address: address.parse().unwrap(),
    }
}

fn generate(text: &str) -> (&str, rcgen::Certificate, KeyPair) {
    let (name, rest) = text.split_once(' ').unwrap();
    let given: BTreeMap<&str, &str> = rest.split(' ').map(|word| word.split_once('=').unwrap()).collect();
    let names: Vec<String> = given
        .get("dns")
        .iter()
        .flat_map(|names| names.split(','))
        .map(str::to_owned)
        .collect();
    let mut params = CertificateParams::new(names).unwrap();
    if let Some(name) = given.get("cn") {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    let date = |name: &str, default: &str| {
        let date: Date = given.get(name).copied().unwrap_or(default).parse().unwrap();
        date_time_ymd(
            date.year().into(),
            date.month().try_into().unwrap(),
            date.day().try_into().unwrap(),
        )
    };
    params.not_before = date("not-before", "2026-01-01");
    params.not_after = date("not-after", "2027-01-01");
    let key = match given.get("key") {
        Some(&"rsa") => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        _ => KeyPair::generate(),
    }
    .unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (name, certificate, key)
}

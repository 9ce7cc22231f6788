//! How long a `Compiler` takes for a large world, and for one change in it:
//! `cargo run --release -p propylon-translate --example scale [INGRESSES] [ENDPOINTS PER SERVICE]`.
//!
//! Every Ingress has a host, a Secret and a Service of its own; the figures are for one core.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a program that measures, and stops where something is wrong"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ObjectReference, Secret, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
        networking::v1::{
            HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
            IngressSpec, IngressTLS, ServiceBackendPort,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use propylon_translate::{Compiler, Options, manifest::Object};
use rcgen::{CertificateParams, KeyPair};

const NOW_UNIX_S: i64 = 1_767_225_600;
const CHANGES: usize = 500;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().unwrap());
    let count: usize = numbers.next().unwrap_or(5_000);
    let endpoints: usize = numbers.next().unwrap_or(10);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["*.bench.example.com".to_owned()]).unwrap();
    let pem = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let mut compiler = Compiler::new(Options::default());
    let began = Instant::now();
    for number in 0..count {
        compiler.insert(ingress(number, "/"));
        compiler.insert(service(number, None));
        compiler.insert(slice(number, endpoints, 0));
        compiler.insert(secret(number, &pem, 0));
    }
    println!(
        "insert of {count} Ingresses, Services, Secrets and slices: {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    let step = compiler.compile(NOW_UNIX_S);
    println!(
        "compile from nothing: {:?}; {} groups, {} addresses, {} certificates, {} reports",
        began.elapsed(),
        step.delta.groups.len(),
        compiler
            .resources()
            .endpoints
            .values()
            .map(|found| found.endpoints.len())
            .sum::<usize>(),
        step.delta.certificates.len(),
        step.reports.len()
    );
    let began = Instant::now();
    compiler.compile(NOW_UNIX_S);
    println!("nothing changed: {:?}", began.elapsed());
    measure("endpoint", &mut compiler, |number| {
        slice(number % count, endpoints, number + 1)
    });
    measure("Ingress", &mut compiler, |number| {
        ingress(number % count, &format!("/{number}"))
    });
    measure("Service", &mut compiler, |number| {
        service(number % count, Some(format!("{}s", number + 2)))
    });
    measure("Secret", &mut compiler, |number| {
        secret(number % count, &pem, number + 1)
    });
    measure("new Ingress", &mut compiler, |number| ingress(number + count, "/"));
    println!("most memory that was resident: {}", peak());
}

/// Compiles after each of many changes, and prints how long that took.
fn measure(what: &str, compiler: &mut Compiler, object: impl Fn(usize) -> Object) {
    let mut times: Vec<Duration> = (0..CHANGES)
        .map(|number| {
            let object = object(number * 7);
            let began = Instant::now();
            compiler.insert(object);
            let step = compiler.compile(NOW_UNIX_S);
            let took = began.elapsed();
            assert!(!step.delta.is_empty() || what == "Secret");
            took
        })
        .collect();
    times.sort_unstable();
    println!(
        "one {what}: median {:?}, p99 {:?}, longest {:?}",
        times[CHANGES / 2],
        times[CHANGES * 99 / 100],
        times[CHANGES - 1]
    );
}

fn metadata(name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some("default".to_owned()),
        ..ObjectMeta::default()
    }
}

fn ingress(number: usize, path: &str) -> Object {
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: format!("service-{number}"),
            port: Some(ServiceBackendPort {
                number: Some(80),
                ..ServiceBackendPort::default()
            }),
        }),
        ..IngressBackend::default()
    };
    let path = HTTPIngressPath {
        backend,
        path: Some(path.to_owned()),
        path_type: "Prefix".to_owned(),
    };
    let host = format!("host-{number}.bench.example.com");
    Object::Ingress(Box::new(Ingress {
        metadata: metadata(format!("ingress-{number}")),
        spec: Some(IngressSpec {
            tls: Some(vec![IngressTLS {
                hosts: Some(vec![host.clone()]),
                secret_name: Some(format!("secret-{number}")),
            }]),
            rules: Some(vec![IngressRule {
                host: Some(host),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }))
}

fn service(number: usize, connect_timeout: Option<String>) -> Object {
    let mut metadata = metadata(format!("service-{number}"));
    let annotations = connect_timeout.map(|timeout| ("propylon.dev/connect-timeout".to_owned(), timeout));
    metadata.annotations = Some(annotations.into_iter().collect());
    Object::Service(Box::new(Service {
        metadata,
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                port: 80,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }))
}

fn slice(number: usize, endpoints: usize, version: usize) -> Object {
    let endpoint = |index: usize| Endpoint {
        addresses: vec![format!(
            "10.{}.{}.{}",
            if version == 0 { 0 } else { version % 200 + 1 },
            (number * endpoints + index) / 250 % 250,
            index % 250
        )],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        node_name: Some(format!("node-{}", index % 20)),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(format!("pod-{number}-{index}")),
            namespace: Some("default".to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    let mut metadata = metadata(format!("slice-{number}"));
    let label = ("kubernetes.io/service-name".to_owned(), format!("service-{number}"));
    metadata.labels = Some([label].into());
    Object::EndpointSlice(Box::new(EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        metadata,
        ports: Some(vec![EndpointPort {
            port: Some(8080),
            ..EndpointPort::default()
        }]),
    }))
}

/// The Secret of an Ingress; another version says the same in other bytes.
fn secret(number: usize, (chain, key): &(String, String), version: usize) -> Object {
    let chain = format!("# {version}\n{chain}");
    let data = [("tls.crt", chain.into_bytes()), ("tls.key", key.clone().into_bytes())];
    Object::Secret(Box::new(Secret {
        metadata: metadata(format!("secret-{number}")),
        data: Some(data.map(|(name, value)| (name.to_owned(), ByteString(value))).into()),
        ..Secret::default()
    }))
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_owned()
}

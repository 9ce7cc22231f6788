//! Texts of objects, and the settings that they are compiled with.

use std::{fmt::Write as _, net::Ipv4Addr, sync::LazyLock};

use proptest::prelude::*;
use propylon_translate::{Key, Options, World, admit::admit, manifest::parse};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// Data of Secrets with usable certificates, for several hosts and times.
static PAIRS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let of = |names: &[&str], ends: i32| {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let (pem, key) = (pem.replace('\n', "\\n"), key.serialize_pem().replace('\n', "\\n"));
        format!("tls.crt: \"{pem}\", ca.crt: \"{pem}\", tls.key: \"{key}\"")
    };
    vec![
        of(&["h.example.com", "g.example.com"], 2030),
        of(&["*.example.com"], 2030),
        of(&["*.example.com", "h.example.com"], 2031),
        of(&["g.example.com"], 2025),
    ]
});

/// Texts that meet each other: few names, so that objects refer to each other, conflict and miss.
pub(crate) fn object() -> impl Strategy<Value = String> {
    let metadata = (0..3usize, 0..2usize, 0..4usize, 0..19usize).prop_map(|(name, namespace, created, annotation)| {
        let mut text = format!(
            "name: {}, namespace: {}",
            ["a", "b", "c"][name],
            ["x1", "y1"][namespace]
        );
        if let Some(year) = [None, Some(2024), Some(2025), Some(2025)][created] {
            write!(text, ", creationTimestamp: \"{year}-01-01T00:00:00Z\"").unwrap();
        }
        let annotations = [
            "",
            "propylon.dev/connect-timeout: 5s",
            "propylon.dev/connect-timeout: nonsense",
            "propylon.dev/backend-ca-secret: a",
            "nginx.ingress.kubernetes.io/auth-url: http://auth",
            "nginx.ingress.kubernetes.io/canary: \"true\"",
            "kubernetes.io/ingress.class: a",
            "ingressclass.kubernetes.io/is-default-class: \"true\"",
            "propylon.dev/tls-passthrough: \"true\"",
            "propylon.dev/tls-secret: a",
            "propylon.dev/tls-ports: http",
            "propylon.dev/affinity: cookie",
            "propylon.dev/load-balancing: maglev",
            "propylon.dev/load-balancing: nonsense",
            "propylon.dev/backend-ca-secret: \"\"",
            "propylon.dev/hash-on: uri",
            "propylon.dev/backend-ca-secret: y1/a",
            "propylon.dev/tls-secret: x1/a",
            "propylon.dev/redirect-https: \"true\"",
        ];
        write!(text, ", annotations: {{{}}}", annotations[annotation]).unwrap();
        text
    });
    (metadata, 0..6usize, any::<[u8; 6]>()).prop_map(|(metadata, kind, choice)| match kind {
        0 => ingress(&metadata, choice),
        1 => service(&metadata, choice),
        2 => slice(&metadata, choice),
        3 => secret(&metadata, choice),
        4 => config_map(&metadata, choice),
        _ => class(&metadata, choice),
    })
}

/// Texts of objects that meet each other at hosts: Ingresses of two namespaces with wildcards, certificates and passthrough.
pub(crate) fn object_on_host() -> impl Strategy<Value = String> {
    (0..10u8, any::<[u8; 8]>()).prop_map(|(kind, choice)| {
        let name = pick(choice[0], &["a", "b", "c"]);
        let namespace = pick(choice[1], &["x1", "y1"]);
        let metadata = format!("name: {name}, namespace: {namespace}");
        match kind {
            0 => service(&metadata, [1, 0, 0, 0, 0, 0]),
            1..=3 => secret(&metadata, [choice[2] % 5, 0, 0, 0, 0, 0]),
            _ => ingress_on_host(&metadata, choice),
        }
    })
}

fn ingress_on_host(metadata: &str, choice: [u8; 8]) -> String {
    let year = pick(choice[2], &["2023", "2024", "2025"]);
    let annotation = pick(
        choice[3],
        &[
            "",
            "propylon.dev/tls-passthrough: \"true\"",
            "propylon.dev/tls-passthrough: \"true\"",
            "kubernetes.io/ingress.class: a",
        ],
    );
    let host = |choice| {
        pick(
            choice,
            &[
                "h.example.com",
                "g.example.com",
                "\"*.example.com\"",
                "\"*.example.com\"",
            ],
        )
    };
    let secret = pick(choice[6], &["a", "b", "c"]);
    let tls = match choice[7] % 3 {
        0 => String::new(),
        1 => format!(", tls: [{{secretName: {secret}}}]"),
        _ => format!(", tls: [{{hosts: [{}], secretName: {secret}}}]", host(choice[7] / 3)),
    };
    let backend = pick(choice[6] / 3, &["a", "b"]);
    let rule = |host| {
        format!(
            "{{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {backend}, port: \
             {{number: 80}}}}}}}}]}}}}"
        )
    };
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{{metadata}, creationTimestamp: \
         \"{year}-01-01T00:00:00Z\", annotations: {{{annotation}}}}}, spec: {{rules: [{}, {}]{tls}}}}}",
        rule(host(choice[4])),
        rule(host(choice[5]))
    )
}

fn pick<'a>(choice: u8, from: &[&'a str]) -> &'a str {
    from[usize::from(choice) % from.len()]
}

fn ingress(metadata: &str, choice: [u8; 6]) -> String {
    let host = |choice| pick(choice, &["\"\"", "h.example.com", "\"*.example.com\"", "g.example.com"]);
    let path = |choice| pick(choice, &["/", "/a", "/a/", "/%7Ea", "/{x}", "/bad%zz"]);
    let path_type = pick(choice[0], &["Exact", "Prefix", "ImplementationSpecific"]);
    let backend = pick(
        choice[1],
        &[
            "service: {name: a, port: {number: 80}}",
            "service: {name: b, port: {name: http}}",
            "service: {name: c, port: {number: 81}}",
            "resource: {kind: K, name: k}",
        ],
    );
    let default = pick(
        choice[2],
        &["", "defaultBackend: {service: {name: a, port: {number: 80}}}, "],
    );
    let tls = pick(
        choice[3],
        &[
            "",
            ", tls: [{secretName: a}]",
            ", tls: [{hosts: [h.example.com], secretName: b}, {}]",
            ", tls: [{hosts: [\"*.example.com\"], secretName: a}]",
            ", tls: [{hosts: [g.example.com, \"*.example.com\"], secretName: b}, {hosts: [h.example.com], secretName: c}]",
        ],
    );
    let rule = |host, path| {
        format!(
            "{{host: {host}, http: {{paths: [{{path: \"{path}\", pathType: {path_type}, backend: {{{backend}}}}}]}}}}"
        )
    };
    let rules = format!(
        "{}, {}",
        rule(host(choice[4]), path(choice[5])),
        rule(host(choice[5]), path(choice[4]))
    );
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{{metadata}}}, spec: {{{default}rules: [{rules}]{tls}}}}}"
    )
}

fn service(metadata: &str, choice: [u8; 6]) -> String {
    let protocol = pick(choice[0], &["https", "http", "grpc", "odd"]);
    let spec = pick(
        choice[1],
        &[
            "",
            "type: ExternalName, externalName: e.example.com, ",
            "publishNotReadyAddresses: true, ",
            "type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8, nonsense], ",
            "type: LoadBalancer, loadBalancerIP: 192.0.2.1, ",
        ],
    );
    let transport = pick(choice[2], &["TCP", "UDP", "SCTP"]);
    let port =
        format!("{{name: http, port: 80, appProtocol: {protocol}}}, {{name: b, port: 81, protocol: {transport}}}");
    format!("{{apiVersion: v1, kind: Service, metadata: {{{metadata}}}, spec: {{{spec}ports: [{port}]}}}}")
}

fn slice(metadata: &str, choice: [u8; 6]) -> String {
    let service = pick(choice[0], &["a", "b"]);
    let endpoint = |choice: u8| {
        let conditions = pick(
            choice,
            &[
                "",
                "ready: false",
                "ready: false, serving: true, terminating: true",
                "ready: true",
            ],
        );
        format!(
            "{{addresses: [10.0.0.{}], conditions: {{{conditions}}}{}}}",
            choice % 4 + 1,
            pick(
                choice / 4,
                &[
                    "",
                    ", targetRef: {kind: Pod, name: a}",
                    ", targetRef: {kind: Pod, name: b, namespace: x1}"
                ]
            )
        )
    };
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{{metadata}, labels: {{kubernetes.io/service-name: \
         {service}}}}}, addressType: IPv4, ports: [{{name: http, port: 8080}}], endpoints: [{}, {}]}}",
        endpoint(choice[1]),
        endpoint(choice[2])
    )
}

fn secret(metadata: &str, choice: [u8; 6]) -> String {
    let pairs = &*PAIRS;
    let garbage = ["tls.crt: a, tls.key: b", "ca.crt: c", ""].map(str::to_owned);
    let data: Vec<&str> = pairs.iter().chain(&garbage).map(String::as_str).collect();
    let data = pick(choice[0], &data);
    format!("{{apiVersion: v1, kind: Secret, metadata: {{{metadata}}}, stringData: {{{data}}}}}")
}

fn config_map(metadata: &str, choice: [u8; 6]) -> String {
    let entry = |choice| pick(choice, &["x1/a:80", "x1/b:http:PROXY", "y1/a:81::PROXY", "a:80"]);
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{{metadata}}}, data: {{\"80\": \"{}\", \"81\": \"{}\"}}}}",
        entry(choice[0]),
        entry(choice[1])
    )
}

fn class(metadata: &str, choice: [u8; 6]) -> String {
    let controller = pick(choice[0], &["propylon.dev/ingress-controller", "k8s.io/ingress-nginx"]);
    let metadata = metadata
        .replace("namespace: x1", "uid: u")
        .replace("namespace: y1", "uid: u");
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{{metadata}}}, spec: {{controller: {controller}}}}}"
    )
}

pub(crate) fn world<'a>(texts: impl IntoIterator<Item = &'a String>) -> World {
    let mut world = World::default();
    for text in texts {
        for object in parse(text) {
            let object = object.unwrap_or_else(|error| panic!("{text}: {error}"));
            world.insert(admit(object).unwrap_or_else(|errors| panic!("{text}: {errors:?}")));
        }
    }
    world
}

pub(crate) fn options() -> Options {
    Options {
        default_tls_secret: Some(Key::new("x1", "a")),
        lb_bind: Some(Ipv4Addr::LOCALHOST.into()),
        local_addresses: ["192.0.2.1".parse().unwrap()].into(),
        taken: vec![(Ipv4Addr::LOCALHOST, 81).into()],
        tcp_services: Some(Key::new("x1", "a")),
        udp_services: Some(Key::new("x1", "b")),
        external_name: true,
        now_unix_s: 1_750_000_000,
        ..Options::default()
    }
}

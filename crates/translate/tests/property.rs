//! Properties of parsing, admission and compiling.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the helpers of a test fail by panicking"
)]

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

use proptest::prelude::*;
use propylon_model::{Action, HostPattern, Kind, L4Protocol};
use propylon_translate::{Compiled, Key, Memory, Options, World, admit::admit, compile, manifest::parse};

/// Texts that meet each other: few names, so that objects refer to each other, conflict and miss.
fn object() -> impl Strategy<Value = String> {
    let metadata = (0..3usize, 0..2usize, 0..4usize, 0..13usize).prop_map(|(name, namespace, created, annotation)| {
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
            "{{addresses: [10.0.0.{}], conditions: {{{conditions}}}}}",
            choice % 4 + 1
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
    let data = pick(choice[0], &["tls.crt: a, tls.key: b", "ca.crt: c", ""]);
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

fn world<'a>(texts: impl IntoIterator<Item = &'a String>) -> World {
    let mut world = World::default();
    for text in texts {
        for object in parse(text) {
            let object = object.unwrap_or_else(|error| panic!("{text}: {error}"));
            world.insert(admit(object).unwrap_or_else(|errors| panic!("{text}: {errors:?}")));
        }
    }
    world
}

fn options() -> Options {
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

/// What every compile must hold.
fn check(world: &World, compiled: &Compiled) {
    let resources = &compiled.resources;
    for group in resources.groups.values() {
        let actions = group
            .rules
            .iter()
            .map(|rule| &rule.action)
            .chain(group.default_backend.as_ref().map(|(action, _)| action));
        for action in actions {
            if let Action::Forward(pool) = action {
                assert!(resources.pools.contains_key(pool), "{pool} is missing");
            }
        }
    }
    for pool in resources.pools.values() {
        assert!(
            resources.endpoints.contains_key(&pool.endpoints),
            "{} is missing",
            pool.endpoints
        );
    }
    for (name, certificate) in &resources.certificates {
        assert!(
            !certificate.hosts.contains(&HostPattern::Any) || name.as_str() == "x1/a",
            "{name} is the default"
        );
    }
    check_l4(world, compiled);
    assert!(compiled.reports.iter().all(|report| !report.message.contains('\n')));
    let distinct: BTreeSet<_> = compiled.reports.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), compiled.reports.len());
}

/// What every compile must hold of what is forwarded as it is.
fn check_l4(world: &World, compiled: &Compiled) {
    let resources = &compiled.resources;
    let mut taken = BTreeSet::from([(L4Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), 81)]);
    for (name, l4) in &resources.l4 {
        assert!(resources.endpoints.contains_key(&l4.endpoints), "{name}");
        let certificate = l4.tls.as_ref().map(|tls| resources.certificates.contains_key(tls));
        assert_ne!(certificate, Some(false), "{name}");
        assert!(!l4.addresses.is_empty(), "{name}");
        for address in &l4.addresses {
            assert!(taken.insert((l4.protocol, *address, l4.port)), "{name} is not alone");
        }
        let key = Key::new(l4.source.namespace.clone(), l4.source.name.clone());
        let service = world.services.get(&key).filter(|_| l4.source.kind == Kind::Service);
        let annotations = service.and_then(|service| service.metadata.annotations.as_ref());
        let wants_tls = annotations.is_some_and(|all| all.contains_key("propylon.dev/tls-secret"));
        let is_clear = l4.protocol == L4Protocol::Tcp && l4.tls.is_none();
        assert!(!(wants_tls && is_clear), "{name} is in clear text");
        let has_ranges = service.is_some_and(|service| {
            let spec = service.spec.as_ref();
            spec.is_some_and(|spec| spec.load_balancer_source_ranges.iter().any(|ranges| !ranges.is_empty()))
        });
        assert_eq!(l4.source_ranges.is_some(), has_ranges, "{name}");
    }
    let mut hosts = BTreeSet::new();
    for (name, passthrough) in &resources.passthrough {
        assert!(resources.endpoints.contains_key(&passthrough.endpoints), "{name}");
        assert!(hosts.insert(&passthrough.host), "{name} is not alone");
        assert_ne!(passthrough.host, HostPattern::Any);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiling_does_not_depend_on_the_order_of_insertion(
        (first, second) in prop::collection::btree_map("[abcxy]{1,3}", object(), 1..14)
            .prop_map(|texts| texts.into_values().collect::<Vec<_>>())
            .prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle())),
    ) {
        // One object of a kind and name: of two, the one inserted last stays, and that is no matter of order.
        let mut seen = BTreeSet::new();
        let mut keep = |text: &&String| parse(text).into_iter().flatten().all(|object| seen.insert(object.key()));
        let kept: BTreeSet<&String> = first.iter().filter(&mut keep).collect();
        let one = world(first.iter().filter(|text| kept.contains(text)));
        let other = world(second.iter().filter(|text| kept.contains(text)));
        let compiled = compile(&one, &options(), &mut Memory::default());
        check(&one, &compiled);
        prop_assert_eq!(&compiled, &compile(&other, &options(), &mut Memory::default()));
    }

    #[test]
    fn compiling_again_changes_nothing(texts in prop::collection::vec(object(), 1..14)) {
        let world = world(&texts);
        let mut memory = Memory::default();
        let compiled = compile(&world, &options(), &mut memory);
        prop_assert_eq!(&compiled, &compile(&world, &options(), &mut memory));
    }

    #[test]
    fn memory_never_breaks_a_compile(
        before in prop::collection::vec(object(), 1..10),
        after in prop::collection::vec(object(), 1..10),
    ) {
        let mut memory = Memory::default();
        compile(&world(&before), &options(), &mut memory);
        let world = world(&after);
        check(&world, &compile(&world, &options(), &mut memory));
    }

    #[test]
    fn no_text_makes_parsing_or_admission_panic(text in "(\\PC|\n|: |- |---\n|\\{|\\[|kind: |apiVersion: v1\n|&a |\\*a ){0,60}") {
        for object in parse(&text).into_iter().flatten() {
            drop(admit(object));
        }
    }

    #[test]
    fn unadmitted_objects_never_make_a_compile_panic(texts in prop::collection::vec(object(), 1..8), cut in "[a-z{}\\[\\]:, /0-9]{0,6}", at in 0usize..400) {
        let mut world = World::default();
        for text in &texts {
            let at = at.min(text.len());
            let text = format!("{}{cut}{}", &text[..at], &text[at..]);
            parse(&text).into_iter().flatten().for_each(|object| world.insert(object));
        }
        check(&world, &compile(&world, &options(), &mut Memory::default()));
    }
}

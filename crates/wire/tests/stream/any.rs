//! Any resource: strategies for every type of the IR.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};
use propylon_model::{
    Action, Affinity, AffinityCookie, Algorithm, BackendProtocol, BackendTls, Certificate, CertificateName, Endpoint,
    EndpointLimits, Endpoints, EndpointsName, ExternalName, GroupName, HashOn, HealthCheck, HostName, HostPattern,
    Kind, L4Protocol, L4Service, L4ServiceName, NormalPath, ObjectRef, Passthrough, PathMatch, Pool, PoolName,
    PoolPolicy, PrivateKeyDer, Probe, ProxyVersion, Refusal, Resources, RetryOn, RetryPolicy, RouteGroup, RoutePolicy,
    Rule, RulePosition, SameSite, TrafficDistribution, TrafficPolicy,
};

/// Any resources, few of each kind.
pub(crate) fn resources() -> impl Strategy<Value = Resources> {
    let http = (
        map(GroupName::new, group()),
        map(PoolName::new, pool()),
        map(EndpointsName::new, endpoints()),
    );
    let others = (
        map(CertificateName::new, certificate()),
        map(L4ServiceName::new, l4()),
        map(GroupName::new, passthrough()),
    );
    (http, others).prop_map(
        |((groups, pools, endpoints), (certificates, l4, passthrough))| Resources {
            groups,
            pools,
            endpoints,
            certificates,
            l4,
            passthrough,
        },
    )
}

fn map<N: Ord + std::fmt::Debug, T: std::fmt::Debug>(
    name: fn(String) -> N,
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = std::collections::BTreeMap<N, Arc<T>>> {
    vec((".{1,12}", value), 0..3).prop_map(move |list| {
        let list = list.into_iter();
        list.map(|(text, value)| (name(text), Arc::new(value))).collect()
    })
}

fn text() -> impl Strategy<Value = Arc<str>> {
    ".{0,12}".prop_map(Arc::from)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..100_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn host() -> impl Strategy<Value = HostName> {
    "[a-z]([a-z0-9-]{0,5}[a-z0-9])?(\\.[a-z]([a-z0-9]{0,5}))?".prop_map(|text| HostName::parse(&text).expect("a host"))
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just(HostPattern::Any),
        host().prop_map(HostPattern::Exact),
        host().prop_map(HostPattern::Wildcard)
    ]
}

fn object() -> impl Strategy<Value = ObjectRef> {
    let kind = select(vec![
        Kind::ConfigMap,
        Kind::Ingress,
        Kind::Secret,
        Kind::Service,
        Kind::File,
    ]);
    (kind, text(), text()).prop_map(|(kind, namespace, name)| ObjectRef::new(kind, namespace, name))
}

fn ders() -> impl Strategy<Value = Arc<[Vec<u8>]>> {
    vec(vec(any::<u8>(), 0..40), 0..3).prop_map(Arc::from)
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let names = (vec(pattern(), 0..3), vec(host(), 0..2));
    (names, ders(), vec(any::<u8>(), 0..40), any::<(i64, u32)>()).prop_map(|((hosts, not_for), chain, key, numbers)| {
        Certificate {
            hosts,
            not_for,
            chain_der: chain,
            key: PrivateKeyDer::new(key),
            not_after_unix_s: numbers.0,
            rank: numbers.1,
        }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let place = (option::of(text()), option::of(text()), option::of(text()));
    let hints = (vec(text(), 0..2), vec(text(), 0..2));
    (any::<std::net::SocketAddr>(), place, any::<u16>(), hints).prop_map(|(address, place, weight, hints)| {
        // The text of an IPv6 address has no flow label, and its scope is of one machine.
        let address = std::net::SocketAddr::new(address.ip(), address.port());
        Endpoint {
            address,
            pod: place.0,
            node: place.1,
            zone: place.2,
            weight,
            for_zones: hints.0,
            for_nodes: hints.1,
        }
    })
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let external = (text(), any::<u16>(), any::<bool>()).prop_map(|(host, port, allow_local)| ExternalName {
        host,
        port,
        allow_local,
    });
    let distribution = select(vec![
        TrafficDistribution::Any,
        TrafficDistribution::PreferSameNode,
        TrafficDistribution::PreferSameZone,
    ]);
    (vec(endpoint(), 0..4), option::of(external), distribution).prop_map(|(endpoints, external, distribution)| {
        Endpoints {
            endpoints,
            external,
            distribution,
        }
    })
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let site = select(vec![SameSite::Lax, SameSite::None, SameSite::Strict]);
    let cookie = (
        text(),
        option::of(duration()),
        option::of(text()),
        option::of(text()),
        site,
    );
    let cookie = cookie.prop_map(|(name, max_age, path, domain, same_site)| AffinityCookie {
        name,
        max_age,
        path,
        domain,
        same_site,
    });
    prop_oneof![
        Just(Affinity::None),
        duration().prop_map(Affinity::ClientIp),
        cookie.prop_map(Affinity::Cookie)
    ]
}

fn policy() -> impl Strategy<Value = PoolPolicy> {
    let algorithm = select(vec![
        Algorithm::Ewma,
        Algorithm::LeastRequest,
        Algorithm::Maglev,
        Algorithm::RoundRobin,
    ]);
    let hash_on = prop_oneof![
        Just(HashOn::ClientIp),
        text().prop_map(HashOn::Cookie),
        text().prop_map(HashOn::Header),
        text().prop_map(HashOn::Query),
        Just(HashOn::Uri)
    ];
    let probe = prop_oneof![
        text().prop_map(Probe::Grpc),
        text().prop_map(Probe::Http),
        Just(Probe::Tcp)
    ];
    let check = (probe, duration(), duration(), any::<(u16, u16)>());
    let check = check.prop_map(|(probe, interval, timeout, counts)| HealthCheck {
        probe,
        interval,
        timeout,
        healthy: counts.0,
        unhealthy: counts.1,
    });
    let limits = (any::<(Option<u32>, Option<u32>, u32)>(), duration());
    let limits = limits.prop_map(|(counts, pending_timeout)| EndpointLimits {
        max_connections: counts.0,
        max_requests: counts.1,
        max_pending: counts.2,
        pending_timeout,
    });
    let choice = (algorithm, hash_on, affinity());
    let watch = (any::<bool>(), option::of(check), limits, option::of(duration()));
    (choice, watch).prop_map(|(choice, watch)| PoolPolicy {
        algorithm: choice.0,
        hash_on: choice.1,
        affinity: choice.2,
        outlier_ejection: watch.0,
        health_check: watch.1,
        limits: watch.2,
        slow_start: watch.3,
    })
}

fn pool() -> impl Strategy<Value = Pool> {
    let protocol = select(vec![
        BackendProtocol::H2c,
        BackendProtocol::Http1,
        BackendProtocol::Https,
        BackendProtocol::Wss,
    ]);
    let tls = (option::of(ders()), option::of(text()));
    (object(), any::<u16>(), text(), protocol, tls, policy()).prop_map(
        |(service, port, endpoints, protocol, tls, policy)| Pool {
            service,
            port,
            endpoints: EndpointsName::new(endpoints),
            protocol,
            tls: BackendTls {
                ca_der: tls.0,
                server_name: tls.1,
            },
            policy,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let refusal = prop_oneof![
        text().prop_map(Refusal::BackendNotFound),
        text().prop_map(Refusal::BackendPortNotFound),
        text().prop_map(Refusal::RestrictionUnsupported)
    ];
    prop_oneof![
        text().prop_map(|name| Action::Forward(PoolName::new(name))),
        refusal.prop_map(Action::Refuse)
    ]
}

fn route_policy() -> impl Strategy<Value = RoutePolicy> {
    let on = any::<[bool; 6]>().prop_map(|on| RetryOn {
        connect_failure: on[0],
        reset: on[1],
        status_429: on[2],
        status_502: on[3],
        status_503: on[4],
        status_504: on[5],
    });
    let retry = (any::<(u8, bool)>(), on, option::of(duration()));
    let retry = retry.prop_map(|((attempts, non_idempotent), on, per_try_timeout)| RetryPolicy {
        attempts,
        on,
        per_try_timeout,
        non_idempotent,
    });
    let times = (duration(), duration(), duration(), option::of(duration()), duration());
    (times, retry).prop_map(|(times, retry)| RoutePolicy {
        connect_timeout: times.0,
        response_timeout: times.1,
        response_idle_timeout: times.2,
        request_timeout: times.3,
        tunnel_idle_timeout: times.4,
        retry,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let path = ("/[a-zA-Z0-9{}*%: .-]{0,8}", any::<bool>()).prop_filter_map("no path of a rule", |(text, is_exact)| {
        let path = NormalPath::parse_rule(&text).ok()?;
        Some(if is_exact {
            PathMatch::Exact(path)
        } else {
            PathMatch::Prefix(path)
        })
    });
    (path, action(), route_policy(), any::<(u16, u16)>()).prop_map(|(path, action, policy, (rule, at))| Rule {
        path,
        action,
        policy,
        position: RulePosition { rule, path: at },
    })
}

fn group() -> impl Strategy<Value = RouteGroup> {
    let default_backend = option::of((action(), route_policy()));
    let rest = (any::<Option<i64>>(), default_backend, any::<bool>());
    (object(), pattern(), vec(rule(), 0..3), rest).prop_map(|(source, host, rules, rest)| RouteGroup {
        source,
        created_unix_s: rest.0,
        host,
        rules,
        default_backend: rest.1,
        redirect_https: rest.2,
    })
}

fn sent_proxy() -> impl Strategy<Value = Option<ProxyVersion>> {
    option::of(select(vec![ProxyVersion::V1, ProxyVersion::V2]))
}

fn l4() -> impl Strategy<Value = L4Service> {
    let range = (any::<std::net::IpAddr>(), 0..=32_u8)
        .prop_map(|(address, length)| ipnet::IpNet::new(address, length).expect("a network"));
    let listen = (
        vec(any::<std::net::IpAddr>(), 0..3),
        any::<u16>(),
        select(vec![L4Protocol::Tcp, L4Protocol::Udp]),
        option::of(vec(range, 0..3)),
        select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]),
    );
    let names = (object(), object(), text(), option::of(text()));
    let rest = (
        any::<(Option<i64>, bool)>(),
        sent_proxy(),
        duration(),
        duration(),
        policy(),
    );
    (listen, names, rest).prop_map(|(listen, names, rest)| L4Service {
        source: names.0,
        service: names.1,
        created_unix_s: rest.0.0,
        addresses: listen.0,
        port: listen.1,
        protocol: listen.2,
        endpoints: EndpointsName::new(names.2),
        policy: rest.4,
        source_ranges: listen.3,
        traffic_policy: listen.4,
        send_proxy: rest.1,
        accept_proxy: rest.0.1,
        tls: names.3.map(CertificateName::new),
        connect_timeout: rest.2,
        idle_timeout: rest.3,
    })
}

fn passthrough() -> impl Strategy<Value = Passthrough> {
    let names = (object(), object(), text(), pattern(), vec(host(), 0..3));
    let rest = (any::<Option<i64>>(), sent_proxy(), duration(), duration(), policy());
    (names, rest).prop_map(|(names, rest)| Passthrough {
        source: names.0,
        service: names.1,
        created_unix_s: rest.0,
        host: names.3,
        not_for: names.4,
        endpoints: EndpointsName::new(names.2),
        policy: rest.4,
        send_proxy: rest.1,
        connect_timeout: rest.2,
        idle_timeout: rest.3,
    })
}

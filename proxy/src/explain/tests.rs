use std::{collections::BTreeMap, time::Duration};

use clap::Parser;
use propylon_model::{
    Action, Affinity, AffinityCookie, Algorithm, BackendProtocol, BackendTls, Endpoint, Endpoints, EndpointsName,
    GroupName, HashOn, HostPattern, Kind, NormalPath, ObjectRef, Passthrough, PathMatch, Pool, PoolName, PoolPolicy,
    Refusal, RouteGroup, RoutePolicy, Rule, RulePosition,
};

use super::*;
use crate::{config::DataPlaneArgs, proxy::lock};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: DataPlaneArgs,
}

fn config(flags: &[&str]) -> Config {
    let args = Command::parse_from(["test"].iter().chain(flags)).args;
    args.into_config(20_000).unwrap()
}

struct World(Resources);

impl World {
    /// Paths of `shop.test`: `/` to a Service with two endpoints, `/h2` to one that speaks h2c, `/tls`, `/empty`, `/gone`.
    fn shop() -> Self {
        let mut world = Self(Resources::default());
        let rules = [
            ("/", "web", BackendProtocol::Http1, 2),
            ("/h2", "grpc", BackendProtocol::H2c, 1),
            ("/tls", "tls", BackendProtocol::Https, 1),
            ("/empty", "empty", BackendProtocol::Http1, 0),
        ];
        let mut group = group("shop", "shop.test");
        for (index, (path, service, protocol, count)) in rules.into_iter().enumerate() {
            let pool = world.pool(service, protocol, count);
            group.rules.push(rule(index, path, Action::Forward(pool)));
        }
        group.rules.push(rule(
            4,
            "/gone",
            Action::Refuse(Refusal::BackendNotFound("default/gone".into())),
        ));
        world.add(group);
        world
    }

    fn pool(&mut self, service: &str, protocol: BackendProtocol, count: u8) -> PoolName {
        let name = format!("default/{service}:80");
        let pool = Pool {
            service: ObjectRef::new(Kind::Service, "default", service),
            port: 80,
            endpoints: EndpointsName::new(name.as_str()),
            protocol,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        let endpoints = (1..=count).map(|number| Endpoint::new(([10, 0, 0, number], 8080).into()));
        self.0.endpoints.insert(
            EndpointsName::new(name.as_str()),
            Arc::new(Endpoints::new(endpoints.collect())),
        );
        self.0.pools.insert(PoolName::new(name.as_str()), Arc::new(pool));
        PoolName::new(name)
    }

    fn add(&mut self, group: RouteGroup) {
        let name = GroupName::new(format!("default/{}/{}", group.source.name, group.host));
        self.0.groups.insert(name, Arc::new(group));
    }

    fn explain(&self, flags: &[&str], query: &Query) -> Explanation {
        let explainer = Explainer::offline(&config(flags), &self.0, 1_700_000_000).unwrap();
        explainer.explain(query).unwrap()
    }

    fn get(&self, url: &str) -> Explanation {
        self.explain(&[], &Query::get(url))
    }
}

fn group(name: &str, host: &str) -> RouteGroup {
    RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "default", name),
        created_unix_s: None,
        host: HostPattern::parse(host).unwrap(),
        rules: Vec::new(),
        default_backend: None,
        redirect_https: false,
    }
}

fn rule(index: usize, path: &str, action: Action) -> Rule {
    Rule {
        path: PathMatch::Prefix(NormalPath::parse_rule(path).unwrap()),
        action,
        policy: RoutePolicy::default(),
        position: RulePosition::new(0, index),
    }
}

fn with_header(url: &str, header: &str) -> Query {
    let mut query = Query::get(url);
    query.headers.push(Query::header(header).unwrap());
    query
}

fn end(explanation: &Explanation) -> (Option<u16>, Option<&str>) {
    (explanation.result.status, explanation.result.reason.as_deref())
}

#[test]
fn a_request_is_followed_to_the_bytes_that_the_backend_gets() {
    let explanation = World::shop().get("http://Shop.Test:8080/a/../b?x=1");
    assert_eq!(explanation.result.action, "forward");
    let winner = explanation.winner.unwrap();
    assert_eq!(winner.field, "spec.rules[0].http.paths[0]");
    assert_eq!((winner.rule_index, winner.path_index), (Some(0), Some(0)));
    let backend = explanation.backend.unwrap();
    assert_eq!(backend.service, "default/web Service");
    let chances: Vec<f64> = backend.endpoints.iter().map(|endpoint| endpoint.chance).collect();
    assert_eq!((chances, backend.pick), (vec![0.5, 0.5], None));
    assert_eq!(
        explanation.sent[0].head,
        [
            "GET /b?x=1 HTTP/1.1",
            "host: Shop.Test:8080",
            "x-forwarded-for: 127.0.0.1",
            "x-real-ip: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-forwarded-port: 8080",
            "x-request-id: 00000000000000000000000000000000",
            "x-forwarded-host: Shop.Test:8080",
        ]
    );
}

#[test]
fn the_protocol_decides_the_form_of_the_head() {
    let world = World::shop();
    let sent = |path: &str| world.get(&format!("http://shop.test/{path}")).sent;
    let h2 = sent("h2");
    assert_eq!(h2.len(), 1);
    assert_eq!(
        h2[0].head[..4],
        [":method: GET", ":scheme: http", ":authority: shop.test", ":path: /h2"]
    );
    let protocols: Vec<String> = sent("tls").into_iter().map(|sent| sent.protocol).collect();
    assert_eq!(protocols, ["h2", "http/1.1"]);
    let upgrade = |path: &str| {
        let mut query = with_header(&format!("http://shop.test/{path}"), "Upgrade: websocket");
        query.headers.push(("Connection".to_owned(), "upgrade".to_owned()));
        world.explain(&[], &query)
    };
    assert_eq!(upgrade("tls").sent.len(), 1);
    assert!(upgrade("").sent[0].head.contains(&"upgrade: websocket".to_owned()));
    assert_eq!(end(&upgrade("h2")), (Some(502), Some("upgrade_refused")));
}

#[test]
fn what_ends_early_says_where_and_why() {
    let world = World::shop();
    for (url, status, reason) in [
        ("http://other.test/", 404, "route_not_found.host"),
        ("http://shop.test/gone/x", 503, "backend_not_found"),
        ("http://shop.test/empty", 503, "no_ready_endpoints"),
        ("http://shop.test/a%2fgone", 200, ""),
        ("http://shop.test/%2fgone", 400, "path_ambiguous"),
        ("http://shop.test/a\\b", 400, "path_invalid"),
        ("http://shop.test/a b", 400, "request_invalid"),
        ("http://shop_test!/", 400, "host_invalid"),
    ] {
        let explanation = world.get(url);
        let (found, code) = end(&explanation);
        assert_eq!((found.unwrap_or(200), code.unwrap_or("")), (status, reason), "{url}");
    }
    let explanation = world.get("http://shop.test/%2fgone");
    let readings = explanation.path.unwrap().readings;
    assert_eq!(
        readings[0].rule.as_deref(),
        Some("default/shop Ingress spec.rules[0].http.paths[4]")
    );
    let refused = world.get("http://shop.test/gone");
    assert!(refused.filters.iter().any(|filter| filter.effect == "answers"));
    assert_eq!(
        refused.result.why,
        "Service default/gone does not exist, or is of a type that is not served"
    );
}

#[test]
fn limits_are_those_of_the_server() {
    let world = World::shop();
    let long = |bytes: usize| format!("http://shop.test/{}", "x".repeat(bytes));
    assert_eq!(end(&world.get(&long(17_000))), (Some(414), Some("uri_too_long")));
    let flags = [
        "--max-uri-bytes",
        "300",
        "--max-headers",
        "8",
        "--max-header-bytes",
        "1024",
    ];
    assert_eq!(
        end(&world.explain(&flags, &Query::get(long(301)))),
        (Some(414), Some("uri_too_long"))
    );
    let mut query = Query::get("http://shop.test/");
    query.headers = (0..8).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let too_large = (Some(431), Some("headers_too_large"));
    assert_eq!(end(&world.explain(&flags, &query)), too_large);
    query.headers = vec![("x".to_owned(), "1".repeat(1024))];
    assert_eq!(end(&world.explain(&flags, &query)), too_large);
    query.headers = vec![("x y".to_owned(), "1".to_owned())];
    assert_eq!(
        end(&world.explain(&flags, &query)),
        (Some(400), Some("request_invalid"))
    );
    query = Query::get("http://shop.test/");
    query.method = "TRACE".to_owned();
    assert_eq!(
        end(&world.explain(&flags, &query)),
        (Some(405), Some("trace_not_allowed"))
    );
}

#[test]
fn a_redirect_names_its_target() {
    let mut world = World::shop();
    let mut guarded = group("guarded", "guarded.test");
    guarded.redirect_https = true;
    guarded
        .rules
        .push(rule(0, "/", Action::Forward(PoolName::new("default/web:80"))));
    world.add(guarded);
    let explanation = world.get("http://guarded.test/a?b");
    assert_eq!(end(&explanation), (Some(308), Some("redirect_https")));
    assert_eq!(
        explanation.result.location.as_deref(),
        Some("https://guarded.test:8443/a?b")
    );
    let effects: Vec<&str> = explanation
        .filters
        .iter()
        .map(|filter| filter.effect.as_str())
        .collect();
    assert_eq!(effects, ["answers", "notReached", "notReached"]);
    let challenge = world.get("http://guarded.test/.well-known/acme-challenge/x");
    assert_eq!(challenge.result.action, "forward");
    let trusting = ["--trusted-proxies", "127.0.0.1"];
    let query = with_header("http://guarded.test/", "X-Forwarded-Proto: https");
    assert_eq!(world.explain(&trusting, &query).result.action, "forward");
    assert_eq!(world.explain(&[], &query).result.action, "answer");
}

#[test]
fn https_tells_the_certificate_and_without_a_listener_nothing_answers() {
    let world = World::shop();
    let tls = world.get("https://shop.test/").tls.unwrap();
    assert_eq!(
        (tls.certificate.as_str(), tls.found_by.as_str()),
        ("self-signed", "default")
    );
    assert_eq!(tls.server_name.as_deref(), Some("shop.test"));
    assert_eq!(world.get("http://shop.test/").tls, None);
    let query = Query::get("https://shop.test/");
    let explanation = world.explain(&["--https", "off"], &query);
    assert_eq!(explanation.result.action, "unreachable");
    assert!(
        explanation.result.why.contains("--https off"),
        "{:?}",
        explanation.result
    );
}

#[test]
fn the_form_of_the_answer_is_read_as_it_is_written() {
    let explanation = World::shop().get("https://shop.test/empty");
    let text = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), explanation);
    let keys: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(
        keys.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "backend", "filters", "host", "listener", "notes", "path", "request", "result", "rules", "schema", "sent",
            "tls", "winner"
        ]
    );
}

impl World {
    /// Changes how an endpoint of `default/web:80` is chosen.
    fn with_policy(mut self, policy: PoolPolicy) -> Self {
        let pool = self.0.pools.get_mut("default/web:80").unwrap();
        Arc::make_mut(pool).policy = policy;
        self
    }
}

fn chances(explanation: &Explanation) -> Vec<f64> {
    let backend = explanation.backend.as_ref().unwrap();
    backend.endpoints.iter().map(|endpoint| endpoint.chance).collect()
}

#[test]
fn a_hash_decides_the_endpoint_and_weights_the_chances() {
    let mut world = World::shop().with_policy(PoolPolicy {
        algorithm: Algorithm::Maglev,
        hash_on: HashOn::Header("x-user".into()),
        ..PoolPolicy::default()
    });
    let pick = |world: &World, user: u32| {
        let query = with_header("http://shop.test/", &format!("X-User: {user}"));
        world.explain(&[], &query).backend.unwrap().pick.unwrap()
    };
    let picks: std::collections::BTreeSet<String> = (0..32).map(|user| pick(&world, user)).collect();
    assert_eq!(picks.len(), 2);
    assert!((0..8).all(|user| pick(&world, user) == pick(&world, user)));
    world = world.with_policy(PoolPolicy {
        algorithm: Algorithm::RoundRobin,
        ..PoolPolicy::default()
    });
    let list = world.0.endpoints.get_mut("default/web:80").unwrap();
    Arc::make_mut(list).endpoints[1].weight = 3;
    assert_eq!(chances(&world.get("http://shop.test/")), [0.25, 0.75]);
}

#[test]
fn an_affinity_cookie_is_read_where_the_key_is_known() {
    let world = World::shop().with_policy(PoolPolicy {
        affinity: Affinity::Cookie(AffinityCookie::default()),
        ..PoolPolicy::default()
    });
    let key = Arc::new(StickyKey::new(&[7; 64]).unwrap());
    let token = key
        .seal([1; 12], "default/web:80", ([10, 0, 0, 2], 8080).into())
        .unwrap();
    let query = with_header("http://shop.test/", &format!("Cookie: PROPYLON={token}"));
    let mut config = config(&[]);
    let explain = |config: &Config| {
        let explainer = Explainer::offline(config, &world.0, 1_700_000_000).unwrap();
        explainer.explain(&query).unwrap()
    };
    let unread = explain(&config);
    assert_eq!(chances(&unread), [0.5, 0.5]);
    assert!(unread.filters.last().unwrap().why.contains("--sticky-key-file"));
    config.sticky_key = Some(key);
    let read = explain(&config);
    assert_eq!(chances(&read), [0.0, 1.0]);
    assert_eq!(
        read.filters.last().unwrap().why,
        "cookie PROPYLON leads to 10.0.0.2:8080"
    );
}

#[test]
fn full_endpoints_get_nothing_while_others_have_room() {
    let mut policy = PoolPolicy::default();
    policy.limits.max_requests = Some(2);
    let world = World::shop().with_policy(policy);
    let explainer = Explainer::offline(&config(&[]), &world.0, 1_700_000_000).unwrap();
    let query = Query::get("http://shop.test/");
    let explain = || explainer.explain(&query).unwrap();
    let fill = |place: usize| {
        let applier = lock(&explainer.applier);
        let list = applier.endpoints()["default/web:80"].current.load_full();
        list.endpoints[place].state.active.store(2, Ordering::Relaxed);
    };
    assert_eq!(chances(&explain()), [0.5, 0.5]);
    fill(0);
    let one = explain();
    let health = |explanation: &Explanation| explanation.backend.as_ref().unwrap().endpoints[0].health.clone();
    assert_eq!((chances(&one), health(&one)), (vec![0.0, 1.0], "full".to_owned()));
    fill(1);
    let both = explain();
    assert_eq!(chances(&both), [0.5, 0.5]);
    assert!(
        both.notes.iter().any(|note| note.contains("wait for room, 3s at most")),
        "{:?}",
        both.notes
    );
}

#[test]
fn tls_that_is_handed_on_unopened_ends_there() {
    let mut world = World::shop();
    let host = HostPattern::parse("*.raw.test").unwrap();
    let passthrough = Passthrough {
        source: ObjectRef::new(Kind::Ingress, "default", "raw"),
        service: ObjectRef::new(Kind::Service, "default", "web"),
        created_unix_s: None,
        host,
        not_for: Vec::new(),
        endpoints: EndpointsName::new("default/web:80"),
        policy: PoolPolicy::default(),
        send_proxy: None,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_mins(1),
    };
    world
        .0
        .passthrough
        .insert(GroupName::new("default/raw/*.raw.test"), Arc::new(passthrough));
    let explanation = world.get("https://a.raw.test/");
    assert_eq!(explanation.result.action, "passthrough");
    let told = explanation.tls.as_ref().unwrap().passthrough.as_ref().unwrap();
    assert_eq!(
        (told.object.as_str(), told.host.as_str()),
        ("default/raw Ingress", "*.raw.test")
    );
    assert_eq!(chances(&explanation), [0.5, 0.5]);
    assert!(explanation.sent.is_empty() && explanation.rules.is_empty());
    assert_eq!(world.get("https://raw.test/").result.status, Some(404));
}

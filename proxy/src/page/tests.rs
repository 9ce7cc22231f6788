use std::sync::{Arc, Mutex, atomic::Ordering::Relaxed};

use propylon_kit::metrics::{Registry, RegistryConfig};
use propylon_model::{
    Action, BackendProtocol, BackendTls, Certificate, CertificateName, Delta, Endpoint, Endpoints, EndpointsName,
    GroupName, HostPattern, Kind, NormalPath, ObjectRef, PathMatch, Pool, PoolName, PoolPolicy, PrivateKeyDer, Report,
    ReportReason, Resources, RouteGroup, RoutePolicy, Rule, RulePosition,
};

use super::*;
use crate::{endpoint_state::process_ms, proxy::lock, tables::Applier, tls::TlsContext};

const HOSTILE: &str = "<script>alert('x')</script>\"\u{202e}\n";

struct Page {
    applier: Arc<Mutex<Applier>>,
    overview: Overview,
}

impl Page {
    fn new() -> Self {
        let registry = Registry::new(RegistryConfig::default());
        let applier = Applier::new(Arc::new(registry), TlsContext::new(0).unwrap(), 1);
        let applier = Arc::new(Mutex::new(applier));
        Self {
            overview: Overview::new(&applier),
            applier,
        }
    }

    fn with(resources: &Resources) -> Self {
        let page = Self::new();
        page.overview.sample();
        page.overview.apply(&Delta::between(&Resources::default(), resources));
        page
    }

    fn text(&self, query: &str) -> String {
        String::from_utf8(render(&self.overview, query)).expect("UTF-8")
    }
}

/// So many Ingresses, each with a host and a Service of its own.
fn resources(count: usize, name: &str) -> Resources {
    let mut resources = Resources::default();
    for number in 0..count {
        let service = format!("{name}-{number:05}");
        let pool = PoolName::new(format!("default/{service}:80"));
        let endpoints = EndpointsName::new(format!("default/{service}:80"));
        let rule = Rule {
            path: PathMatch::Prefix(NormalPath::parse_rule("/").unwrap()),
            action: Action::Forward(pool.clone()),
            policy: RoutePolicy::default(),
            position: RulePosition::default(),
        };
        let group = RouteGroup {
            source: ObjectRef::new(Kind::Ingress, "default", service.as_str()),
            created_unix_s: None,
            host: HostPattern::parse(&format!("h{number:05}.example")).unwrap(),
            rules: vec![rule],
            default_backend: None,
            redirect_https: false,
        };
        let spec = Pool {
            service: ObjectRef::new(Kind::Service, "default", service.as_str()),
            port: 80,
            endpoints: endpoints.clone(),
            protocol: BackendProtocol::Http1,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        let mut endpoint = Endpoint::new(([10, 0, 0, 1], 8080).into());
        endpoint.pod = Some(format!("{name}-pod").into());
        resources
            .groups
            .insert(GroupName::new(format!("default/{service}/h")), Arc::new(group));
        resources.pools.insert(pool, Arc::new(spec));
        resources
            .endpoints
            .insert(endpoints, Arc::new(Endpoints::new(vec![endpoint])));
    }
    resources
}

#[test]
fn names_of_manifests_are_text() {
    let mut resources = resources(1, HOSTILE);
    let certificate = Certificate {
        hosts: vec![HostPattern::parse("h.example").unwrap()],
        not_for: Vec::new(),
        chain_der: Arc::from([]),
        key: PrivateKeyDer::new(b"the secret key".to_vec()),
        not_after_unix_s: 0,
        rank: 0,
    };
    let name = CertificateName::new(format!("default/{HOSTILE}"));
    resources.certificates.insert(name, Arc::new(certificate));
    let page = Page::with(&resources);
    let object = ObjectRef::new(Kind::Ingress, "default", HOSTILE);
    page.overview.set_problems(vec![Report::new(
        object,
        ReportReason::InvalidObject,
        format!("bad {HOSTILE}"),
    )]);
    for query in ["", "q=%3Cscript%3E", "q=%22%3E%3Cscript%3E&sort=%22&routes=%22"] {
        let text = page.text(query);
        assert_eq!(text.matches("<script").count(), 1, "only the page's own: {query}");
        assert!(!text.contains('\u{202e}') && !text.contains("alert('x')"), "{query}");
    }
    let text = page.text("");
    // Problem, route, its Service, endpoint and pod, certificate, and the same among the changes.
    assert!(text.matches("&lt;script&gt;alert(&#39;x&#39;)").count() >= 7, "{text}");
    assert!(text.contains(r"\u{202e}\u{a}"), "{text}");
    assert!(!text.contains("secret key"));
}

#[test]
fn the_style_and_the_script_are_those_that_the_policy_allows() {
    let text = Page::new().text("");
    let policy = policy();
    let policy = policy.to_str().unwrap();
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
        let inner = text.split_once(open).unwrap().1.split_once(close).unwrap().0;
        assert!(policy.contains(&format!("'sha256-{}'", sha256(inner))), "{open}");
    }
    // The hash of the empty text, by FIPS 180-4.
    assert_eq!(sha256(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"));
    let handler = |rest: &str| rest.split([' ', '>']).next().is_some_and(|word| word.contains("=\""));
    assert!(
        !text.contains("style=\"") && !text.split(" on").skip(1).any(handler),
        "the policy forbids them"
    );
}

#[test]
fn every_section_stands_without_any_configuration() {
    let text = Page::new().text("");
    for (id, title) in SECTIONS {
        assert!(text.contains(&format!("<h2 id=\"{id}\">{title}")), "{id}");
        assert!(text.contains(&format!("<tbody id=\"{id}-rows\" data-live>")), "{id}");
    }
    assert!(text.contains("No routes:") && text.contains("Nothing was applied yet."));
    assert_eq!(text.matches("<table aria-labelledby=").count(), SECTIONS.len());
    assert!(text.contains("<html lang=\"en\">") && text.contains("<meta http-equiv=\"refresh\""));
}

#[test]
fn long_tables_are_turned_filtered_and_sorted() {
    let page = Page::with(&resources(250, "app"));
    let text = page.text("sort=name");
    assert!(
        text.contains("1 to 100 of 250") && text.contains("h00099.example /") && !text.contains("h00100.example /")
    );
    assert!(text.contains("aria-sort=\"ascending\""), "{text}");
    let text = page.text("sort=name&routes=3");
    assert!(text.contains("201 to 250 of 250") && text.contains("h00249.example /"));
    assert!(
        text.contains("href=\"?sort=name&amp;routes=2#routes\">Previous"),
        "{text}"
    );
    // Beyond the end is the last part.
    assert!(page.text("routes=99999999999999999999").contains("1 to 100 of 250"));
    assert!(page.text("sort=name&routes=77").contains("h00249.example /"));
    let text = page.text("q=H00123");
    assert!(
        text.contains("h00123.example /") && !text.contains("h00124.example /") && !text.contains(" of 250</span>")
    );
    assert!(text.contains("value=\"h00123\""));
    assert!(page.text("q=nowhere").contains("No row contains the text."));
}

#[test]
fn what_was_served_is_shown_with_rates() {
    let page = Page::with(&resources(2, "app"));
    let tables = page.overview.live.tables.load_full();
    let route = tables.routes.routes().next().unwrap();
    let cells = route.target.stats.cells(0).unwrap();
    for _ in 0..40 {
        cells.record(200, 2_000, None);
    }
    cells.record(502, 2_000, Some(crate::reason::Reason::ConnectionRefused));
    let base = page.overview.base().unwrap();
    let (rates, latency) = base.rule_since(&route.target.stats, &route.target.stats.totals());
    assert!(rates.requests > 0.0 && rates.errors > 0.0 && rates.requests > rates.errors);
    assert_eq!(latency.total(), 41);
    let text = page.text("");
    assert!(text.contains("<td class=\"n \">41</td>"), "{text}");
    assert!(text.contains("<td class=\"n \">2.0 ms</td>"), "{text}");
    // Old samples go: after five more, everything lies before the window.
    for _ in 0..5 {
        page.overview.sample();
    }
    let base = page.overview.base().unwrap();
    let (rates, latency) = base.rule_since(&route.target.stats, &route.target.stats.totals());
    assert!(rates.requests.abs() < 1e-9 && latency.total() == 0);
}

#[test]
fn an_endpoint_that_is_left_out_comes_first_and_says_why() {
    let page = Page::with(&resources(3, "app"));
    let last = page.overview.endpoints().pop().unwrap();
    last.state.ejected_until_ms.store(process_ms() + 60_000, Relaxed);
    last.state.ejections_total.store(2, Relaxed);
    let text = page.text("");
    let rows = text.split_once("<tbody id=\"endpoints-rows\"").unwrap().1;
    let first = rows.split_once("</tr>").unwrap().0;
    assert!(
        first.contains("app-00002:80") && first.contains("class=\"s bad\">ejected"),
        "{first}"
    );
    assert!(text.contains("class=\"bad\">2 of 3</dd>"), "{text}");
}

#[test]
fn certificates_are_listed_by_the_end_of_their_validity() {
    let page = Page::new();
    let mut resources = Resources::default();
    let day = 86_400;
    for (name, days) in [("late", 300), ("expired", -3), ("soon", 10)] {
        let certificate = Certificate {
            hosts: vec![HostPattern::parse(&format!("{name}.example")).unwrap()],
            not_for: Vec::new(),
            chain_der: Arc::from([]),
            key: PrivateKeyDer::new(Vec::new()),
            not_after_unix_s: 1_000 * day + days * day + 1,
            rank: 0,
        };
        resources
            .certificates
            .insert(CertificateName::new(format!("default/{name}")), Arc::new(certificate));
    }
    lock(&page.applier).apply(&Delta::between(&Resources::default(), &resources));
    let (query, tables) = (Query::default(), page.overview.live.tables.load_full());
    let mut html = Html::default();
    View::new(&page.overview, &tables, &query).certificates(&mut html, 1_000 * 86_400 * 1_000);
    let text = String::from_utf8(html.into_bytes()).unwrap();
    let positions: Vec<usize> = ["default/expired", "default/soon", "default/late"]
        .iter()
        .map(|name| text.find(name).unwrap())
        .collect();
    assert!(positions.is_sorted(), "{text}");
    assert!(
        text.contains("class=\"s bad\">expired 2 d ago") || text.contains("class=\"s bad\">expired 71 h"),
        "{text}"
    );
    assert!(
        text.contains("class=\"s warn\">10 d") && text.contains("class=\"s \">300 d"),
        "{text}"
    );
}

/// Not a measurement: it only shows that the cost is no more than linear, with room for a slow machine.
#[test]
fn ten_thousand_routes_are_one_part_of_a_table() {
    let page = Page::with(&resources(10_000, "app"));
    let began = clock::now();
    let text = page.text("sort=p99");
    let took = began.elapsed();
    println!("10,000 routes rendered in {took:?}, {} bytes", text.len());
    assert!(text.len() < 400_000, "{}", text.len());
    assert!(took.as_secs() < 10, "{took:?}");
    assert!(text.contains("1 to 100 of 10000"));
}

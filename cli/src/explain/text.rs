//! An explanation for people.

use std::collections::BTreeMap;

use propylon_proxy::explain::{BackendView, EndpointView, Explanation, PolicyView, RuleView, TlsView, WinnerView};

use super::layout::Page;

/// Writes an explanation.
pub(super) fn of(explanation: &Explanation) -> String {
    let mut page = Page::default();
    arrival(&mut page, explanation);
    page.table("rules", &rules(&explanation.rules));
    page.block("winner", explanation.winner.iter().flat_map(winner));
    page.table("filters", &filters(explanation));
    page.block("service", explanation.backend.iter().map(service));
    page.table("endpoints", &endpoints(explanation.backend.as_ref()));
    for sent in &explanation.sent {
        page.block("sent", std::iter::once(format!("({})", sent.protocol)));
        page.block("", &sent.head);
    }
    page.block("result", std::iter::once(result(explanation)));
    page.block("note", &explanation.notes);
    page.into_text()
}

/// From the request to the rules that are looked at.
fn arrival(page: &mut Page, explanation: &Explanation) {
    let request = &explanation.request;
    let line = format!("{} {} from {}", request.method, request.url, request.client_ip);
    let headers = request
        .headers
        .iter()
        .map(|field| format!("{}: {}", field.name, field.value));
    page.block("request", std::iter::once(line).chain(headers));
    let listener = explanation.listener.as_ref();
    page.block(
        "listener",
        listener.map(|listener| format!("{} {}", listener.scheme, listener.address)),
    );
    page.block("tls", explanation.tls.iter().flat_map(tls));
    let host = explanation.host.as_ref().map(|host| {
        let name = if host.name.is_empty() { "(none)" } else { &host.name };
        match host.pattern.as_deref() {
            None => format!("{name}: no rule is for this host"),
            Some("") => format!("{name}: the rules without a host"),
            Some(pattern) if pattern == host.name => format!("{name}: its own rules"),
            Some(pattern) => format!("{name}: the rules of {pattern}"),
        }
    });
    page.block("host", host);
    if let Some(path) = &explanation.path {
        let sent = if path.sent == path.normal {
            String::new()
        } else {
            format!(", sent on as {}", path.sent)
        };
        let readings = path.readings.iter().map(|reading| {
            let rule = reading.rule.as_deref().unwrap_or("no rule");
            format!("read as {} by some servers: {rule}", reading.path)
        });
        page.block(
            "path",
            std::iter::once(format!("{}{sent}", path.normal)).chain(readings),
        );
    }
}

fn tls(tls: &TlsView) -> Vec<String> {
    let name = tls.server_name.as_deref().unwrap_or("(no server name)");
    if let Some(passthrough) = &tls.passthrough {
        let host = &passthrough.host;
        return vec![format!(
            "{name}: handed on unopened by {} (host {host})",
            passthrough.object
        )];
    }
    let mut lines = vec![format!("{name}: certificate {} ({})", tls.certificate, tls.found_by)];
    if !tls.others.is_empty() {
        lines.push(format!("for clients that cannot verify it: {}", tls.others.join(", ")));
    }
    lines
}

/// The rules that match, then a few of those that do not, and the numbers of the rest.
fn rules(rules: &[RuleView]) -> Vec<Vec<String>> {
    let row = |rule: &RuleView| {
        let why = match &rule.by {
            Some(by) => format!("{}: {} ({by})", rule.verdict, rule.why),
            None => format!("{}: {}", rule.verdict, rule.why),
        };
        vec![
            if rule.verdict == "selected" { "*" } else { "-" }.to_owned(),
            format!("{} {}", rule.path_type, rule.path.as_deref().unwrap_or_default())
                .trim()
                .to_owned(),
            rule.object.clone(),
            rule.field.clone(),
            why,
        ]
    };
    let of = |verdicts: &'static [&'static str]| rules.iter().filter(|rule| verdicts.contains(&rule.verdict.as_str()));
    let mut rows: Vec<_> = of(&["selected", "outranked", "shadowed"]).map(row).collect();
    rows.extend(of(&["unmatched"]).take(SHOWN).map(row));
    let hidden = of(&["unmatched"]).skip(SHOWN).count();
    if hidden > 0 {
        rows.push(vec![
            "-".to_owned(),
            format!("{hidden} more that do not match (-o json has them)"),
        ]);
    }
    let mut passed_over: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for rule in of(&["passedOver"]) {
        passed_over.entry(&rule.host).or_insert((0, &rule.why)).0 += 1;
    }
    for (host, (count, why)) in passed_over {
        let host = if host.is_empty() { "no host" } else { host };
        rows.push(vec![
            "-".to_owned(),
            format!("{count} of {host}"),
            String::new(),
            String::new(),
            format!("passedOver: {why}"),
        ]);
    }
    rows
}

fn winner(winner: &WinnerView) -> Vec<String> {
    let path = winner.path.as_deref().unwrap_or_default();
    let rule = format!("{} {} ({} {path}", winner.object, winner.field, winner.path_type);
    vec![format!("{})", rule.trim_end()), policy(&winner.policy)]
}

fn policy(policy: &PolicyView) -> String {
    let total = policy.request_timeout_ms.map_or_else(|| "off".to_owned(), millis);
    format!(
        "timeouts: connect {}, response {}, idle {}, request {total}, tunnel {}; retries: {} ({})",
        millis(policy.connect_timeout_ms),
        millis(policy.response_timeout_ms),
        millis(policy.response_idle_timeout_ms),
        millis(policy.tunnel_idle_timeout_ms),
        policy.retries,
        policy.retry_on.join(",")
    )
}

fn millis(span_ms: u64) -> String {
    match span_ms {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

fn filters(explanation: &Explanation) -> Vec<Vec<String>> {
    let row = |filter: &propylon_proxy::explain::FilterView| {
        vec![filter.name.clone(), filter.effect.clone(), filter.why.clone()]
    };
    explanation.filters.iter().map(row).collect()
}

fn service(backend: &BackendView) -> String {
    let hash_on = backend
        .hash_on
        .as_ref()
        .map_or_else(String::new, |on| format!(" on {on}"));
    format!(
        "{} port {}, {}, {}{hash_on}, affinity {}",
        backend.service, backend.port, backend.protocol, backend.load_balancing, backend.affinity
    )
}

fn endpoints(backend: Option<&BackendView>) -> Vec<Vec<String>> {
    let Some(backend) = backend else { return Vec::new() };
    if backend.endpoints.is_empty() {
        let text = match &backend.external_name {
            Some(name) => format!("the addresses of {name}"),
            None => "none that can serve".to_owned(),
        };
        return vec![vec![text]];
    }
    let place = |label: &str, name: Option<&String>| name.map(|name| format!("{label} {name}")).unwrap_or_default();
    let row = |endpoint: &EndpointView| {
        vec![
            endpoint.address.clone(),
            format!("{:5.1} %", endpoint.chance * 100.0),
            format!("weight {}", endpoint.weight),
            endpoint.health.clone(),
            format!("{} in flight", endpoint.active),
            endpoint.latency_us.map(|us| format!("{us} us")).unwrap_or_default(),
            place("pod", endpoint.pod.as_ref()),
            place("node", endpoint.node.as_ref()),
            place("zone", endpoint.zone.as_ref()),
        ]
    };
    backend.endpoints.iter().map(row).collect()
}

fn result(explanation: &Explanation) -> String {
    let result = &explanation.result;
    let location = result.location.as_ref();
    let target = location.map_or_else(String::new, |location| format!(" to {location}"));
    match (&result.status, &result.reason, result.action.as_str()) {
        (Some(status), Some(reason), _) => format!("{status}{target} {reason}: {}", result.why),
        (_, _, "forward") => match explanation.backend.as_ref().and_then(|backend| backend.pick.as_ref()) {
            Some(pick) => format!("forwarded to {pick}"),
            None => "forwarded to one of the endpoints, by their chances".to_owned(),
        },
        (_, _, action) => format!("{action}: {}", result.why),
    }
}

/// Rules that do not match and are shown all the same.
const SHOWN: usize = 8;

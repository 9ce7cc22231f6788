//! Resources and reports as text, the same for the same values. Defaults are left out.

use std::{collections::BTreeMap, fmt::Write};

use jiff::Timestamp;
use propylon_model::{
    Action, Certificate, Endpoints, L4Service, Passthrough, Pool, PoolPolicy, RouteGroup, RoutePolicy,
    TrafficDistribution, TrafficPolicy,
};
use propylon_translate::Compiled;

pub(crate) fn render(compiled: &Compiled, pairs: &BTreeMap<Vec<u8>, String>) -> String {
    let mut out = String::new();
    let resources = &compiled.resources;
    for (name, group) in &resources.groups {
        writeln!(out, "group {name}").unwrap();
        render_group(group, &mut out);
    }
    for (name, pool) in &resources.pools {
        writeln!(out, "pool {name}: {}", pool_text(pool)).unwrap();
    }
    for (name, endpoints) in &resources.endpoints {
        writeln!(out, "endpoints {name}: {}", endpoints_text(endpoints)).unwrap();
    }
    for (name, l4) in &resources.l4 {
        writeln!(out, "l4 {name}: {}", l4_text(l4)).unwrap();
    }
    for (name, passthrough) in &resources.passthrough {
        writeln!(out, "passthrough {name}: {}", passthrough_text(passthrough)).unwrap();
    }
    for (name, certificate) in &resources.certificates {
        writeln!(out, "certificate {name}: {}", certificate_text(certificate, pairs)).unwrap();
    }
    for report in &compiled.reports {
        writeln!(out, "{report}").unwrap();
    }
    out
}

fn l4_text(l4: &L4Service) -> String {
    let addresses: Vec<String> = l4.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{} port {} {} of {} to {}",
        addresses.join("+"),
        l4.port,
        l4.protocol.as_str(),
        l4.source,
        l4.endpoints
    );
    if l4.service != l4.source {
        write!(text, " ({})", l4.service).unwrap();
    }
    if let Some(created) = l4.created_unix_s {
        write!(text, ", created {}", time_text(created)).unwrap();
    }
    if let Some(ranges) = &l4.source_ranges {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        write!(text, ", from [{}]", ranges.join(", ")).unwrap();
    }
    if l4.traffic_policy != TrafficPolicy::Cluster {
        write!(text, ", {:?}", l4.traffic_policy).unwrap();
    }
    if l4.accept_proxy {
        text.push_str(", accepts PROXY");
    }
    if let Some(version) = l4.send_proxy {
        write!(text, ", sends PROXY {version:?}").unwrap();
    }
    if let Some(name) = &l4.tls {
        write!(text, ", TLS by {name}").unwrap();
    }
    write!(text, ", connect {:?}, idle {:?}", l4.connect_timeout, l4.idle_timeout).unwrap();
    text + &pool_policy_text(&l4.policy)
}

fn passthrough_text(passthrough: &Passthrough) -> String {
    let Passthrough { host, endpoints, .. } = passthrough;
    let mut text = format!("{host} of {} to {endpoints}", passthrough.source);
    let not_for: Vec<String> = passthrough.not_for.iter().map(ToString::to_string).collect();
    if !not_for.is_empty() {
        write!(text, ", not for {}", not_for.join(", ")).unwrap();
    }
    if let Some(version) = passthrough.send_proxy {
        write!(text, ", sends PROXY {version:?}").unwrap();
    }
    let (connect, idle) = (passthrough.connect_timeout, passthrough.idle_timeout);
    write!(text, ", connect {connect:?}, idle {idle:?}").unwrap();
    text + &pool_policy_text(&passthrough.policy)
}

fn endpoints_text(endpoints: &Endpoints) -> String {
    let texts = endpoints.endpoints.iter().map(|endpoint| {
        let place = [("pod", &endpoint.pod), ("on", &endpoint.node), ("zone", &endpoint.zone)];
        let place = place
            .iter()
            .filter_map(|(word, name)| name.as_ref().map(|name| format!(" {word} {name}")));
        let hints = [("zones", &endpoint.for_zones), ("nodes", &endpoint.for_nodes)];
        let hints = hints
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(word, names)| format!(" for {word} {}", names.join("+")));
        let (place, hints) = (place.collect::<String>(), hints.collect::<String>());
        format!("{}{place}{hints}", endpoint.address)
    });
    let mut text = texts.collect::<Vec<_>>().join(", ");
    if let Some(external) = &endpoints.external {
        write!(text, "name {} port {}", external.host, external.port).unwrap();
        if external.allow_local {
            text.push_str(", local allowed");
        }
    }
    if text.is_empty() {
        text.push_str("none");
    }
    if endpoints.distribution != TrafficDistribution::Any {
        write!(text, ", {:?}", endpoints.distribution).unwrap();
    }
    text
}

fn render_group(group: &RouteGroup, out: &mut String) {
    let created = group
        .created_unix_s
        .map_or_else(|| "undated".to_owned(), |time| format!("created {}", time_text(time)));
    let redirect = if group.redirect_https {
        ", redirect to HTTPS"
    } else {
        ""
    };
    let host = group.host.to_string();
    let host = if host.is_empty() { "any" } else { &host };
    writeln!(out, "  of {}, {created}, host {host}{redirect}", group.source).unwrap();
    for rule in &group.rules {
        let kind = match rule.path {
            propylon_model::PathMatch::Exact(_) => "Exact",
            propylon_model::PathMatch::Prefix(_) => "Prefix",
        };
        let (action, policy) = (action_text(&rule.action), policy_text(&rule.policy));
        writeln!(out, "  {kind} {} -> {action}{policy}", rule.path.path()).unwrap();
    }
    if let Some((action, policy)) = &group.default_backend {
        writeln!(out, "  default -> {}{}", action_text(action), policy_text(policy)).unwrap();
    }
}

fn action_text(action: &Action) -> String {
    match action {
        Action::Forward(pool) => pool.to_string(),
        Action::Refuse(refusal) => format!("503 {refusal:?}"),
    }
}

fn policy_text(policy: &RoutePolicy) -> String {
    let default = RoutePolicy::default();
    let values = [
        ("connect", Some(policy.connect_timeout), Some(default.connect_timeout)),
        (
            "response",
            Some(policy.response_timeout),
            Some(default.response_timeout),
        ),
        (
            "response-idle",
            Some(policy.response_idle_timeout),
            Some(default.response_idle_timeout),
        ),
        ("request", policy.request_timeout, default.request_timeout),
        (
            "tunnel-idle",
            Some(policy.tunnel_idle_timeout),
            Some(default.tunnel_idle_timeout),
        ),
    ];
    let retry = if policy.retry == default.retry {
        String::new()
    } else {
        format!(", {:?}", policy.retry)
    };
    let changed = values.iter().filter(|(_, value, default)| value != default);
    let text = |value: &Option<_>| value.map_or("off".to_owned(), |value: std::time::Duration| format!("{value:?}"));
    changed
        .flat_map(|(name, value, _)| [", ", *name, " "].map(str::to_owned).into_iter().chain([text(value)]))
        .chain([retry])
        .collect()
}

fn pool_text(pool: &Pool) -> String {
    let mut text = format!(
        "{} port {}, {:?} to {}",
        pool.service, pool.port, pool.protocol, pool.endpoints
    );
    if let Some(authorities) = &pool.tls.ca_der {
        write!(text, ", {} authorities", authorities.len()).unwrap();
    }
    if let Some(name) = &pool.tls.server_name {
        write!(text, ", server name {name}").unwrap();
    }
    text + &pool_policy_text(&pool.policy)
}

/// What of a policy is not the default.
fn pool_policy_text(policy: &PoolPolicy) -> String {
    let default = PoolPolicy::default();
    let values: [(&dyn std::fmt::Debug, bool, &str); 7] = [
        (&policy.algorithm, policy.algorithm != default.algorithm, ""),
        (&policy.hash_on, policy.hash_on != default.hash_on, "hash on "),
        (&policy.affinity, policy.affinity != default.affinity, "affinity "),
        (
            &policy.outlier_ejection,
            policy.outlier_ejection != default.outlier_ejection,
            "ejection ",
        ),
        (
            &policy.health_check,
            policy.health_check != default.health_check,
            "check ",
        ),
        (&policy.limits, policy.limits != default.limits, ""),
        (
            &policy.slow_start,
            policy.slow_start != default.slow_start,
            "slow start ",
        ),
    ];
    let changed = values.iter().filter(|(_, changed, _)| *changed);
    let texts: Vec<String> = changed.map(|(value, _, word)| format!(", {word}{value:?}")).collect();
    texts.concat()
}

fn certificate_text(certificate: &Certificate, pairs: &BTreeMap<Vec<u8>, String>) -> String {
    let hosts = certificate.hosts.iter().map(ToString::to_string);
    let hosts = hosts
        .map(|host| if host.is_empty() { "any".to_owned() } else { host })
        .collect::<Vec<_>>()
        .join(", ");
    let mut not_for = certificate
        .not_for
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if !not_for.is_empty() {
        not_for.insert_str(0, ", not for ");
    }
    let pair = pairs.get(&certificate.chain_der[0]).map_or("unknown", String::as_str);
    let hosts = if hosts.is_empty() { "no host" } else { &hosts };
    format!(
        "{pair} for {hosts}{not_for}, rank {}, ends {}",
        certificate.rank,
        time_text(certificate.not_after_unix_s)
    )
}

fn time_text(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).unwrap().to_string()
}

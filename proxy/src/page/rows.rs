//! Rows of the page's tables, and the texts in them.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use propylon_kit::{
    clock,
    metrics::{LATENCY_BUCKETS, LatencyCounts, latency_bound_us},
};
use propylon_model::HostPattern;

use super::{html::Html, query::Query};
use crate::stats::{EndpointRates, EndpointRow, Health, RouteRates, RouteRow, figures};

/// A route with its rates.
pub(super) struct RouteLine<'a> {
    pub(super) row: RouteRow<'a>,
    pub(super) rates: RouteRates,
}

impl RouteLine<'_> {
    /// One row of the table of routes.
    pub(super) fn write(&self, html: &mut Html) {
        let (route, rates, totals) = (self.row.route, &self.rates, &self.row.totals);
        html.raw("<tr><th scope=\"row\">")
            .text(&host_and_path(&self.row))
            .raw("<small>");
        html.raw(self.row.path_type())
            .raw(" · ")
            .text(&route.source.to_string());
        html.raw("</small></th><td class=\"name\">");
        match (self.row.service(), self.row.refused()) {
            (_, Some(refused)) => html.raw("<span class=\"bad\">503</span> ").text(&refused),
            (Some(service), None) => html.text(&service),
            (None, None) => html.raw("<span class=\"bad\">503</span> no backend"),
        };
        if route.redirect_https {
            html.raw("<small>HTTP is sent to HTTPS</small>");
        }
        html.raw("</td>");
        number(html, "", &figures::rate(rates.requests));
        number(html, bad_if(rates.errors > 0.0), &figures::rate(rates.errors));
        for latency_us in [rates.p50_us, rates.p95_us, rates.p99_us] {
            number(html, "", &figures::duration_us(latency_us));
        }
        number(html, "", &figures::count(totals.in_flight));
        number(html, "", &figures::count(totals.requests()));
        html.raw("</tr>\n");
    }
}

/// One row of the table of endpoints.
pub(super) fn endpoint(html: &mut Html, row: &EndpointRow, rates: EndpointRates) {
    let (spec, state, health) = (&row.spec, &row.state, row.health());
    html.raw("<tr><th scope=\"row\">").text(&spec.address.to_string());
    let places = [("pod ", &spec.pod), ("node ", &spec.node), ("zone ", &spec.zone)];
    for (what, name) in places {
        if let Some(name) = name {
            html.raw("<small>").raw(what).text(name).raw("</small>");
        }
    }
    html.raw("</th><td class=\"name\">")
        .text(row.service.as_str())
        .raw("</td><td class=\"s ");
    html.raw(match health {
        Health::Ejected | Health::Unhealthy => "bad",
        Health::Healthy => "good",
        Health::Unchecked => "",
    });
    html.raw("\">").raw(health.as_str());
    if health == Health::Ejected {
        html.raw("<small>for another ")
            .text(&figures::span_ms(row.ejected_for_ms()))
            .raw("</small>");
    }
    html.raw("</td>");
    number(html, "", &figures::rate(rates.requests));
    number(html, bad_if(rates.failures > 0.0), &figures::rate(rates.failures));
    number(html, "", &figures::duration_us(row.latency_us()));
    number(html, "", &state.shown_active.load(Relaxed).to_string());
    number(html, "", &state.shown_connections.load(Relaxed).to_string());
    number(html, "", &figures::count(state.ejections_total.load(Relaxed)));
    html.raw("<td class=\"s\">");
    if let Some(failure) = row.last_failure() {
        html.text(&failure.what)
            .raw("<small>")
            .text(&figures::span_ms(failure.ago_ms))
            .raw(" ago</small>");
    }
    html.raw("</td></tr>\n");
}

/// A cell to the right.
pub(super) fn number(html: &mut Html, class: &'static str, text: &str) {
    html.raw("<td class=\"n ").raw(class).raw("\">").text(text).raw("</td>");
}

/// The one row of a table without rows.
pub(super) fn empty(html: &mut Html, columns: usize, query: &Query, text: &'static str) {
    html.raw("<tr><td class=\"empty\" colspan=\"")
        .count(columns as u64)
        .raw("\">");
    html.raw(if query.filter.is_empty() {
        text
    } else {
        "No row contains the text."
    });
    html.raw("</td></tr>\n");
}

/// A point in time.
pub(super) fn date(html: &mut Html, unix_s: i64) {
    let text = clock::utc_text(unix_s);
    html.raw("<time datetime=\"").text(&text).raw("\">");
    html.text(&text.replace('T', " ").replace('Z', " UTC")).raw("</time>");
}

/// The class of what is bad.
pub(super) fn bad_if(condition: bool) -> &'static str {
    if condition { "bad" } else { "" }
}

/// What a route matches.
pub(super) fn host_and_path(row: &RouteRow<'_>) -> String {
    let host = row.route.host.to_string();
    let host = if host.is_empty() { "any host" } else { &host };
    match &row.route.path {
        Some(path) => format!("{host} {}", path.path()),
        None => format!("{host} (all other paths)"),
    }
}

/// What the filter looks at.
pub(super) fn route_text(row: &RouteRow<'_>) -> String {
    let service = row.service().unwrap_or_default();
    format!("{} {} {service}", host_and_path(row), row.route.source)
}

/// What the filter looks at.
pub(super) fn endpoint_text(row: &EndpointRow) -> String {
    let spec = &row.spec;
    let place = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
    format!(
        "{} {} {} {} {} {}",
        row.service,
        spec.address,
        place(&spec.pod),
        place(&spec.node),
        place(&spec.zone),
        row.health().as_str()
    )
}

/// The hosts of a certificate, not too many.
pub(super) fn hosts_text(hosts: &[HostPattern]) -> String {
    let mut texts: Vec<String> = hosts
        .iter()
        .take(MAX_HOSTS)
        .map(|host| match host {
            HostPattern::Any => "default certificate".to_owned(),
            host => host.to_string(),
        })
        .collect();
    if hosts.len() > MAX_HOSTS {
        texts.push(format!("and {} more", hosts.len() - MAX_HOSTS));
    }
    texts.join(", ")
}

/// How long a certificate has, and how bad that is.
pub(super) fn remaining(left_s: i64) -> (&'static str, String) {
    let span = figures::span_ms(left_s.unsigned_abs().saturating_mul(1_000));
    match left_s {
        ..=0 => ("bad", format!("expired {span} ago")),
        1..EXPIRES_SOON_S => ("warn", span),
        _ => ("", span),
    }
}

/// Lower bound, upper bound and count of each power of two between the first and the last that has any.
pub(super) fn octaves(latency: &LatencyCounts) -> Vec<(u64, Option<u64>, u64)> {
    let mut rows: Vec<(u64, Option<u64>, u64)> = Vec::new();
    let mut from = 0;
    let mut counts = latency.0.iter().copied().zip(0..LATENCY_BUCKETS).peekable();
    while let Some((first, bucket)) = counts.next() {
        let (mut count, mut to) = (first, latency_bound_us(bucket));
        // After the first bucket, four make a power of two.
        while let Some((next, bucket)) = counts.next_if(|(_, next)| bucket > 0 && next % 4 != 1) {
            (count, to) = (count + next, latency_bound_us(bucket));
        }
        rows.push((from, to, count));
        from = to.unwrap_or(from);
    }
    let is_used = |row: &(u64, Option<u64>, u64)| row.2 > 0;
    let (Some(first), Some(last)) = (rows.iter().position(is_used), rows.iter().rposition(is_used)) else {
        return Vec::new();
    };
    rows.drain(first..=last).collect()
}

/// Hosts that are named of one certificate.
const MAX_HOSTS: usize = 8;
/// 21 days, as the reports have it.
const EXPIRES_SOON_S: i64 = 21 * 86_400;

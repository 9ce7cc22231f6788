//! The sections of the page, from what is known at one moment.

use std::{cmp::Reverse, sync::Arc};

use propylon_kit::metrics::LatencyCounts;
use propylon_model::{Certificate, CertificateName, Report, Severity};

use super::{
    html::Html,
    query::{Query, Sort, Table},
    rows::{RouteLine, bad_if, date, empty, endpoint, endpoint_text, hosts_text, octaves, remaining, route_text},
    tables::{Column, Part, table},
};
use crate::{
    overview::{Overview, Sample},
    recent::Change,
    stats::{EndpointRates, EndpointRow, RouteRates, figures, routes},
    tables::Tables,
};

/// What one rendering shows.
pub(super) struct View<'a> {
    query: &'a Query,
    /// Length of the window of the rates, seconds.
    seconds: f64,
    routes: Vec<RouteLine<'a>>,
    route_count: usize,
    endpoints: Vec<(EndpointRow, EndpointRates)>,
    endpoint_count: usize,
    used_count: usize,
    certificates: Vec<(CertificateName, Arc<Certificate>)>,
    problems: Vec<Report>,
    changes: Vec<Arc<Change>>,
    total: RouteRates,
    unmatched: RouteRates,
    in_flight: u64,
    latency: LatencyCounts,
}

impl<'a> View<'a> {
    /// Looks at everything once.
    pub(super) fn new(overview: &Overview, tables: &'a Tables, query: &'a Query) -> Self {
        let base = overview.base();
        let base = base.as_deref();
        let mut view = Self {
            query,
            seconds: base.map_or(0.0, Sample::seconds),
            routes: Vec::new(),
            route_count: 0,
            endpoints: Vec::new(),
            endpoint_count: 0,
            used_count: 0,
            certificates: overview.with_resources(|resources| {
                let certificates = resources.certificates.iter();
                certificates
                    .map(|(name, certificate)| (name.clone(), Arc::clone(certificate)))
                    .collect()
            }),
            problems: overview.problems().to_vec(),
            changes: overview.recent(),
            total: RouteRates::default(),
            unmatched: RouteRates::default(),
            in_flight: 0,
            latency: LatencyCounts::default(),
        };
        view.add_routes(tables, base);
        view.unmatched = base
            .map(|base| base.unmatched_since(&overview.live.unmatched.totals()))
            .unwrap_or_default();
        view.add_endpoints(overview.endpoints(), base);
        view.certificates.retain(|(name, certificate)| {
            let hosts = certificate.hosts.iter().map(ToString::to_string);
            query.filter.is_empty() || query.wants(name.as_str()) || hosts.into_iter().any(|host| query.wants(&host))
        });
        view.certificates
            .sort_by_key(|(_, certificate)| certificate.not_after_unix_s);
        view.problems
            .retain(|problem| query.filter.is_empty() || query.wants(&problem.to_string()));
        view.problems.sort_by_key(Report::severity);
        view
    }

    fn add_routes(&mut self, tables: &'a Tables, base: Option<&Sample>) {
        let (mut requests, mut errors) = (0.0, 0.0);
        for row in routes(tables) {
            let (rates, latency) = base
                .map(|base| base.rule_since(&row.route.target.stats, &row.totals))
                .unwrap_or_default();
            requests += rates.requests;
            errors += rates.errors;
            self.in_flight += row.totals.in_flight;
            self.route_count += 1;
            for (total, count) in self.latency.0.iter_mut().zip(&latency.0) {
                *total += count;
            }
            if self.query.filter.is_empty() || self.query.wants(&route_text(&row)) {
                self.routes.push(RouteLine { row, rates });
            }
        }
        self.total = RouteRates {
            requests,
            errors,
            ..RouteRates::new(0, 0, &self.latency, self.seconds)
        };
        match self.query.sort {
            Sort::Errors => self.routes.sort_by(|a, b| b.rates.errors.total_cmp(&a.rates.errors)),
            Sort::InFlight => self.routes.sort_by_key(|line| Reverse(line.row.totals.in_flight)),
            Sort::Name => {}
            Sort::P99 => self.routes.sort_by_key(|line| Reverse(line.rates.p99_us)),
            Sort::Requests => self
                .routes
                .sort_by(|a, b| b.rates.requests.total_cmp(&a.rates.requests)),
        }
    }

    fn add_endpoints(&mut self, rows: Vec<EndpointRow>, base: Option<&Sample>) {
        self.endpoint_count = rows.len();
        for row in rows {
            self.used_count += usize::from(row.health().is_used());
            if self.query.filter.is_empty() || self.query.wants(&endpoint_text(&row)) {
                let rates = base.map(|base| base.endpoint_since(&row)).unwrap_or_default();
                self.endpoints.push((row, rates));
            }
        }
        // What needs a look comes first.
        self.endpoints.sort_by_key(|(row, _)| row.health());
    }

    /// The figures of the whole.
    pub(super) fn summary(&self, html: &mut Html) {
        html.raw("<dl id=\"summary\" data-live>");
        let has_error = self
            .problems
            .iter()
            .any(|problem| problem.severity() == Severity::Error);
        let unused = self.endpoint_count - self.used_count;
        let tiles = [
            (
                "Requests per second",
                figures::rate(self.total.requests + self.unmatched.requests),
                "",
            ),
            (
                "Errors per second",
                figures::rate(self.total.errors),
                bad_if(self.total.errors > 0.0),
            ),
            ("Latency p50", figures::duration_us(self.total.p50_us), ""),
            ("Latency p99", figures::duration_us(self.total.p99_us), ""),
            ("In flight", self.in_flight.to_string(), ""),
            (
                "Without a route, per second",
                figures::rate(self.unmatched.requests),
                "",
            ),
            ("Routes", self.route_count.to_string(), ""),
            (
                "Endpoints in use",
                format!("{} of {}", self.used_count, self.endpoint_count),
                bad_if(unused > 0),
            ),
            ("Problems", self.problems.len().to_string(), bad_if(has_error)),
        ];
        for (title, value, class) in tiles {
            html.raw("<div><dt>")
                .raw(title)
                .raw("</dt><dd class=\"")
                .raw(class)
                .raw("\">");
            html.text(&value).raw("</dd></div>");
        }
        html.raw("</dl>\n");
    }

    /// The reports that stand.
    pub(super) fn problems(&self, html: &mut Html) {
        let part = Part::new(self.query, Table::Problems, self.problems.len());
        let columns = [Column::text("Object"), Column::text("Severity"), Column::text("What")];
        let caption = "What cannot be served as it is written, and what to do about it.";
        table(html, ("problems", "Problems", caption), &columns, &part, |html| {
            if self.problems.is_empty() {
                empty(html, 3, self.query, "None: everything is served as it is written.");
            }
            for problem in part.of(&self.problems) {
                let class = match problem.severity() {
                    Severity::Error => "bad",
                    Severity::Warning => "warn",
                    Severity::Notice => "",
                };
                html.raw("<tr><th scope=\"row\">").text(&problem.object.to_string());
                html.raw("</th><td class=\"s ")
                    .raw(class)
                    .raw("\">")
                    .raw(problem.severity().as_str());
                html.raw("</td><td class=\"what\">").text(&problem.message);
                html.raw("<small>")
                    .raw(problem.reason.as_str())
                    .raw("</small></td></tr>\n");
            }
        });
    }

    /// The rules of the table.
    pub(super) fn routes(&self, html: &mut Html) {
        let part = Part::new(self.query, Table::Routes, self.routes.len());
        let columns = [
            Column::sorted("Host and path", self.query, Sort::Name),
            Column::text("To"),
            Column::sorted("Requests/s", self.query, Sort::Requests),
            Column::sorted("Errors/s", self.query, Sort::Errors),
            Column::number("p50"),
            Column::number("p95"),
            Column::sorted("p99", self.query, Sort::P99),
            Column::sorted("In flight", self.query, Sort::InFlight),
            Column::number("Requests"),
        ];
        let caption = "Rates and latencies are of the last seconds; Requests counts since the route appeared.";
        table(html, ("routes", "Routes", caption), &columns, &part, |html| {
            if self.routes.is_empty() {
                empty(
                    html,
                    columns.len(),
                    self.query,
                    "No routes: nothing that was read leads anywhere.",
                );
            }
            part.of(&self.routes).iter().for_each(|line| line.write(html));
        });
    }

    /// The endpoints and their health.
    pub(super) fn endpoints(&self, html: &mut Html) {
        let part = Part::new(self.query, Table::Endpoints, self.endpoints.len());
        let columns = [
            Column::text("Endpoint"),
            Column::text("Service"),
            Column::text("Health"),
            Column::number("Requests/s"),
            Column::number("Failures/s"),
            Column::number("First byte"),
            Column::number("In flight"),
            Column::number("Connections"),
            Column::number("Ejections"),
            Column::text("Last failure"),
        ];
        let caption = "Those that are left out come first. First byte is a moving average.";
        table(
            html,
            ("endpoints", "Endpoints and health", caption),
            &columns,
            &part,
            |html| {
                if self.endpoints.is_empty() {
                    empty(html, columns.len(), self.query, "No endpoints.");
                }
                part.of(&self.endpoints)
                    .iter()
                    .for_each(|(row, rates)| endpoint(html, row, *rates));
            },
        );
    }

    /// How the latencies of all routes are spread.
    pub(super) fn latency(&self, html: &mut Html) {
        let octaves: Vec<(u64, Option<u64>, u64)> = octaves(&self.latency);
        let total = self.latency.total().max(1);
        let columns = [
            Column::number("Up to"),
            Column::number("Requests"),
            Column::number("Share"),
            Column::text("Share, as a bar"),
        ];
        let caption = "All routes, from the head of the request to the end of the response, last seconds.";
        let part = Part::all(octaves.len());
        table(html, ("latency", "Latency", caption), &columns, &part, |html| {
            if octaves.is_empty() {
                html.raw("<tr><td class=\"empty\" colspan=\"4\">No request ended in the last seconds.</td></tr>\n");
            }
            for (from, to, count) in &octaves {
                let permille = count * 1_000 / total;
                html.raw("<tr><th scope=\"row\" class=\"n\">");
                match to {
                    Some(to) => html.text(&figures::duration_us(Some(*to))),
                    None => html.raw("over ").text(&figures::duration_us(Some(*from))),
                };
                html.raw("</th><td class=\"n\">")
                    .count(*count)
                    .raw("</td><td class=\"n\">");
                html.text(&format!("{}.{} %", permille / 10, permille % 10));
                html.raw("</td><td><svg aria-hidden=\"true\" height=\"14\" width=\"200\"><rect height=\"14\" width=\"");
                html.count(if *count == 0 { 0 } else { (permille / 5).max(1) })
                    .raw("\"/></svg></td></tr>\n");
            }
        });
    }

    /// The certificates with the end of their validity.
    pub(super) fn certificates(&self, html: &mut Html, now_unix_ms: u64) {
        let part = Part::new(self.query, Table::Certificates, self.certificates.len());
        let columns = [
            Column::text("Secret"),
            Column::text("Hosts"),
            Column::text("Ends"),
            Column::text("In"),
        ];
        let caption = "The first to end comes first. Hosts without a certificate get the default one.";
        let now_unix_s = i64::try_from(now_unix_ms / 1_000).unwrap_or(i64::MAX);
        table(
            html,
            ("certificates", "Certificates", caption),
            &columns,
            &part,
            |html| {
                if self.certificates.is_empty() {
                    empty(
                        html,
                        4,
                        self.query,
                        "No certificates: HTTPS is served with a self-signed one.",
                    );
                }
                for (name, certificate) in part.of(&self.certificates) {
                    let ends = certificate.not_after_unix_s;
                    let left_s = ends.saturating_sub(now_unix_s);
                    html.raw("<tr><th scope=\"row\">")
                        .text(name.as_str())
                        .raw("</th><td class=\"name\">");
                    html.text(&hosts_text(&certificate.hosts)).raw("</td><td class=\"s\">");
                    date(html, ends);
                    let (class, text) = remaining(left_s);
                    html.raw("</td><td class=\"s ")
                        .raw(class)
                        .raw("\">")
                        .text(&text)
                        .raw("</td></tr>\n");
                }
            },
        );
    }

    /// The last changes of the configuration.
    pub(super) fn changes(&self, html: &mut Html, now_unix_ms: u64) {
        let columns = [
            Column::text("When"),
            Column::number("Routes no."),
            Column::text("What changed"),
        ];
        let part = Part::all(self.changes.len());
        let caption = "The last 50 changes that were applied, the newest first.";
        table(html, ("changes", "Recent changes", caption), &columns, &part, |html| {
            if self.changes.is_empty() {
                html.raw("<tr><td class=\"empty\" colspan=\"3\">Nothing was applied yet.</td></tr>\n");
            }
            for change in &self.changes {
                html.raw("<tr><th scope=\"row\" class=\"s\">");
                html.text(&figures::span_ms(now_unix_ms.saturating_sub(change.unix_ms)))
                    .raw(" ago<small>");
                date(html, i64::try_from(change.unix_ms / 1_000).unwrap_or(0));
                html.raw("</small></th><td class=\"n\">").count(change.generation);
                html.raw("</td><td><ul class=\"plain\">");
                for item in &change.items {
                    html.raw("<li>")
                        .raw(item.verb.as_str())
                        .raw(" ")
                        .raw(item.kind)
                        .raw(" ")
                        .text(&item.name);
                    if !item.detail.is_empty() {
                        html.raw(" <span class=\"muted\">(").text(&item.detail).raw(")</span>");
                    }
                    html.raw("</li>");
                }
                if change.more > 0 {
                    html.raw("<li>and ").count(change.more as u64).raw(" more</li>");
                }
                html.raw("</ul></td></tr>\n");
            }
        });
    }
}

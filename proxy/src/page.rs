//! The page at `/` of the admin listener: one HTML document without anything from elsewhere, the same with and without
//! JavaScript, which only keeps it up to date.
//!
//! Every name on it may come from whoever writes manifests: see [`html::Html::text`]. Keys and other secrets are not on it.

mod html;
mod query;
mod rows;
mod sections;
mod tables;

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use propylon_kit::clock;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use self::{
    html::Html,
    query::{Query, Sort},
    sections::View,
};
use crate::{overview::Overview, stats::figures};

/// How often a page that is looked at is brought up to date.
pub(crate) const REFRESH: Duration = Duration::from_secs(2);

/// What a browser may do for the page: its own style and script, and nothing else (CSP Level 3).
pub(crate) fn policy() -> HeaderValue {
    static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            sha256(STYLE),
            sha256(SCRIPT)
        );
        HeaderValue::from_str(&policy).ok()
    });
    let strictest = || HeaderValue::from_static("default-src 'none'");
    POLICY.clone().unwrap_or_else(strictest)
}

/// The document for a query.
///
/// # Cost
/// Some microseconds per route and endpoint, for their counts; rows are written for one part of each table only.
pub(crate) fn render(overview: &Overview, query: &str) -> Vec<u8> {
    let query = Query::parse(query);
    let tables = overview.live.tables.load_full();
    let view = View::new(overview, &tables, &query);
    let mut html = Html::default();
    head(&mut html);
    html.raw("<body>\n<header><h1>Propylon</h1>");
    html.raw("<p class=\"muted\">version ").raw(env!("CARGO_PKG_VERSION"));
    html.raw(" · up <span id=\"uptime\" data-live>");
    html.text(&figures::span_ms(crate::config::millis(overview.uptime())));
    html.raw("</span> · routes <span id=\"generation\" data-live>no. ")
        .count(tables.generation);
    html.raw("</span></p>\n<p id=\"live\" role=\"status\" class=\"muted\"></p></header>\n");
    html.raw("<noscript><p class=\"muted\">This page loads itself again every 10 seconds.</p></noscript>\n");
    navigation(&mut html, &query);
    html.raw("<main>\n");
    view.summary(&mut html);
    view.problems(&mut html);
    view.routes(&mut html);
    view.endpoints(&mut html);
    view.latency(&mut html);
    view.certificates(&mut html, clock::unix_now_ms());
    view.changes(&mut html, clock::unix_now_ms());
    html.raw("</main>\n<footer><p class=\"muted\">Read only. The same as JSON: <a href=\"stats\">stats</a>, ");
    html.raw("<a href=\"routes\">routes</a>, <a href=\"endpoints\">endpoints</a>; for Prometheus: ");
    html.raw("<a href=\"metrics\">metrics</a>.</p></footer>\n<script>")
        .raw(SCRIPT);
    html.raw("</script>\n</body>\n</html>\n");
    html.into_bytes()
}

fn head(html: &mut Html) {
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Propylon</title>\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw(
        "<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n<link rel=\"icon\" href=\"data:,\">\n",
    );
    html.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
}

fn navigation(html: &mut Html, query: &Query) {
    html.raw("<nav aria-label=\"Sections\"><ul>");
    for (anchor, title) in SECTIONS {
        html.raw("<li><a href=\"#")
            .raw(anchor)
            .raw("\">")
            .raw(title)
            .raw("</a></li>");
    }
    html.raw("</ul></nav>\n<form method=\"get\" role=\"search\"><label>Only rows that contain");
    html.raw("<input type=\"search\" name=\"q\" maxlength=\"200\" value=\"")
        .text(&query.filter);
    html.raw("\"></label><label>Routes by<select name=\"sort\">");
    for sort in Sort::ALL {
        html.raw("<option")
            .raw(if sort == query.sort { " selected" } else { "" });
        html.raw(">").raw(sort.as_str()).raw("</option>");
    }
    html.raw("</select></label><button>Show</button>");
    if *query != Query::default() {
        html.raw("<a href=\"?\">Show all</a>");
    }
    html.raw("</form>\n");
}

fn sha256(text: &str) -> String {
    // The hash of the suite's name; TLS 1.3 suites have one.
    TLS13_AES_128_GCM_SHA256.tls13().map_or_else(String::new, |suite| {
        STANDARD.encode(suite.common.hash_provider.hash(text.as_bytes()).as_ref())
    })
}

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/live.js");
const SECTIONS: [(&str, &str); 6] = [
    ("problems", "Problems"),
    ("routes", "Routes"),
    ("endpoints", "Endpoints"),
    ("latency", "Latency"),
    ("certificates", "Certificates"),
    ("changes", "Recent changes"),
];

#[cfg(test)]
mod tests;

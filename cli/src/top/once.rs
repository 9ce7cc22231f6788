//! `--once`: two looks, and what happened in between.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use propylon_proxy::stats::{EndpointStats, RouteRates, RouteStats, Served, Stats, Window, figures};
use serde::Serialize;

use super::{Output, TopArgs, fetch, state::plain};
use crate::failure::Failure;

/// The document of `-o json`. Field names are stable; new ones may be added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    version: &'a str,
    started_unix_ms: u64,
    uptime_ms: u64,
    generation: u64,
    /// Length of the window of the rates and quantiles.
    interval_seconds: f64,
    latency_bounds_us: &'a [u64],
    unmatched: Line<'a, Served>,
    routes: Vec<Line<'a, RouteStats>>,
    endpoints: Vec<EndpointLine<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a, T: Serialize> {
    #[serde(flatten)]
    counts: &'a T,
    requests_per_second: f64,
    errors_per_second: f64,
    p50_us: Option<u64>,
    p95_us: Option<u64>,
    p99_us: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointLine<'a> {
    #[serde(flatten)]
    counts: &'a EndpointStats,
    requests_per_second: f64,
    failures_per_second: f64,
}

/// Looks a second time and prints.
pub(super) fn once(args: &TopArgs, first: &Stats) -> Result<ExitCode, Failure> {
    thread::sleep(args.interval);
    let second = fetch(&args.admin)?;
    if second.started_unix_ms != first.started_unix_ms {
        return Err(Failure::Restarted(args.admin.clone()));
    }
    let window = Window::between(Some(first), &second);
    let text = match args.output {
        Output::Json => json(&second, &window),
        Output::Text => columns(&second, &window),
    };
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| Failure::System {
            attempt: "write to standard output",
            source,
        })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn json(stats: &Stats, window: &Window) -> String {
    let document = Document {
        version: &stats.version,
        started_unix_ms: stats.started_unix_ms,
        uptime_ms: stats.uptime_ms,
        generation: stats.generation,
        interval_seconds: window.seconds,
        latency_bounds_us: &stats.latency_bounds_us,
        unmatched: line(&stats.unmatched, &window.unmatched),
        routes: stats
            .routes
            .iter()
            .zip(&window.routes)
            .map(|(route, rates)| line(route, rates))
            .collect(),
        endpoints: stats
            .endpoints
            .iter()
            .zip(&window.endpoints)
            .map(|(counts, rates)| EndpointLine {
                counts,
                requests_per_second: rates.requests,
                failures_per_second: rates.failures,
            })
            .collect(),
    };
    // Numbers and texts always have a JSON form.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn line<'a, T: Serialize>(counts: &'a T, rates: &RouteRates) -> Line<'a, T> {
    Line {
        counts,
        requests_per_second: rates.requests,
        errors_per_second: rates.errors,
        p50_us: rates.p50_us,
        p95_us: rates.p95_us,
        p99_us: rates.p99_us,
    }
}

pub(super) fn columns(stats: &Stats, window: &Window) -> String {
    let mut routes: Vec<_> = stats.routes.iter().zip(&window.routes).collect();
    routes.sort_by(|(_, one), (_, other)| other.requests.total_cmp(&one.requests));
    let mut rows = vec![
        [
            "REQ/S",
            "ERR/S",
            "P50",
            "P95",
            "P99",
            "IN FLIGHT",
            "REQUESTS",
            "ROUTE",
            "TO",
        ]
        .map(str::to_owned),
    ];
    rows.extend(routes.into_iter().map(|(route, rates)| {
        [
            figures::rate(rates.requests),
            figures::rate(rates.errors),
            figures::duration_us(rates.p50_us),
            figures::duration_us(rates.p95_us),
            figures::duration_us(rates.p99_us),
            route.served.in_flight.to_string(),
            route.served.requests.to_string(),
            plain(&super::state::route_name(route)),
            plain(&super::state::target_name(route)),
        ]
    }));
    let mut text = aligned(&rows, 7);
    text.push('\n');
    let mut rows = vec![
        [
            "REQ/S",
            "FAIL/S",
            "1ST BYTE",
            "IN FLIGHT",
            "CONNS",
            "EJECTIONS",
            "HEALTH",
            "ENDPOINT",
            "OF",
        ]
        .map(str::to_owned),
    ];
    rows.extend(stats.endpoints.iter().zip(&window.endpoints).map(|(endpoint, rates)| {
        [
            figures::rate(rates.requests),
            figures::rate(rates.failures),
            figures::duration_us(endpoint.latency_us),
            endpoint.in_flight.to_string(),
            endpoint.connections.to_string(),
            endpoint.ejections.to_string(),
            endpoint.health.as_str().to_owned(),
            plain(&endpoint.address),
            plain(&endpoint.service),
        ]
    }));
    text.push_str(&aligned(&rows, 6));
    text
}

/// Columns two blanks apart, the first `numbers` of them to the right.
fn aligned<const N: usize>(rows: &[[String; N]], numbers: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < numbers {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

//! What happened between two documents.

use std::collections::HashMap;

use propylon_kit::metrics::LatencyCounts;

use super::{EndpointStats, RouteStats, Served, Stats};

/// The time between two documents of one process, and what was counted in it.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Its length, seconds; 0 where there is no earlier document of this process.
    pub seconds: f64,
    /// Per route, in the order of the later document.
    pub routes: Vec<RouteRates>,
    /// Per endpoint, in the order of the later document.
    pub endpoints: Vec<EndpointRates>,
    /// Requests that no rule matched.
    pub unmatched: RouteRates,
}

/// What a route served in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteRates {
    /// Requests per second.
    pub requests: f64,
    /// Errors per second.
    pub errors: f64,
    /// Median of the latency, microseconds; none without requests.
    pub p50_us: Option<u64>,
    /// What 95 % of the requests do not exceed.
    pub p95_us: Option<u64>,
    /// What 99 % of the requests do not exceed.
    pub p99_us: Option<u64>,
}

/// What an endpoint served in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EndpointRates {
    /// Attempts per second.
    pub requests: f64,
    /// Failures per second.
    pub failures: f64,
}

impl RouteRates {
    /// The rates of so many requests and errors with these latencies in so many seconds.
    pub(crate) fn new(requests: u64, errors: u64, latency: &LatencyCounts, seconds: f64) -> Self {
        Self {
            requests: per_second(requests, seconds),
            errors: per_second(errors, seconds),
            p50_us: latency.quantile_us(0.50),
            p95_us: latency.quantile_us(0.95),
            p99_us: latency.quantile_us(0.99),
        }
    }

    fn between(earlier: Option<&Served>, later: &Served, seconds: f64) -> Self {
        let nothing = Served::default();
        // Counts that fell began anew.
        let earlier = earlier
            .filter(|earlier| earlier.requests <= later.requests)
            .unwrap_or(&nothing);
        let latency = counts(later).since(&counts(earlier));
        let errors = later.errors.saturating_sub(earlier.errors);
        Self::new(later.requests - earlier.requests, errors, &latency, seconds)
    }
}

impl EndpointRates {
    /// The rates of so many attempts and failures in so many seconds.
    pub(crate) fn new(requests: u64, failures: u64, seconds: f64) -> Self {
        Self {
            requests: per_second(requests, seconds),
            failures: per_second(failures, seconds),
        }
    }
}

impl Window {
    /// What was counted from `earlier` to `later`; nothing where they are of different processes, or not in order. What
    /// stands in the later document alone began at zero.
    pub fn between(earlier: Option<&Stats>, later: &Stats) -> Self {
        let Some(earlier) = earlier
            .filter(|earlier| earlier.started_unix_ms == later.started_unix_ms && earlier.uptime_ms < later.uptime_ms)
        else {
            return Self {
                routes: vec![RouteRates::default(); later.routes.len()],
                endpoints: vec![EndpointRates::default(); later.endpoints.len()],
                ..Self::default()
            };
        };
        let millis = later.uptime_ms - earlier.uptime_ms;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^53")]
        let seconds = millis as f64 / 1e3;
        let routes: HashMap<_, &Served> = earlier
            .routes
            .iter()
            .map(|route| (route_key(route), &route.served))
            .collect();
        let endpoints: HashMap<_, &EndpointStats> = earlier
            .endpoints
            .iter()
            .map(|endpoint| (endpoint_key(endpoint), endpoint))
            .collect();
        Self {
            seconds,
            routes: later
                .routes
                .iter()
                .map(|route| RouteRates::between(routes.get(&route_key(route)).copied(), &route.served, seconds))
                .collect(),
            endpoints: later
                .endpoints
                .iter()
                .map(|endpoint| endpoint_rates(endpoints.get(&endpoint_key(endpoint)).copied(), endpoint, seconds))
                .collect(),
            unmatched: RouteRates::between(Some(&earlier.unmatched), &later.unmatched, seconds),
        }
    }
}

/// What tells a route of one document from the others, and finds it in another document.
fn route_key(route: &RouteStats) -> (&str, Option<&str>, &str, &str) {
    (&route.host, route.path.as_deref(), &route.path_type, &route.source)
}

fn endpoint_key(endpoint: &EndpointStats) -> (&str, &str) {
    (&endpoint.service, &endpoint.address)
}

fn endpoint_rates(earlier: Option<&EndpointStats>, later: &EndpointStats, seconds: f64) -> EndpointRates {
    let (requests, failures) = earlier
        .filter(|earlier| earlier.requests <= later.requests)
        .map_or((0, 0), |earlier| (earlier.requests, earlier.failures));
    EndpointRates::new(
        later.requests - requests,
        later.failures.saturating_sub(failures),
        seconds,
    )
}

fn counts(served: &Served) -> LatencyCounts {
    let mut counts = LatencyCounts::default();
    for (bucket, count) in &served.latency {
        if let Some(cell) = counts.0.get_mut(*bucket) {
            *cell = *count;
        }
    }
    counts
}

#[expect(clippy::cast_precision_loss, reason = "counts of a window stay far below 2^53")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(uptime_ms: u64, requests: u64) -> Stats {
        let served = Served {
            requests,
            errors: requests / 10,
            latency: vec![(5, requests)],
            ..Served::default()
        };
        Stats {
            started_unix_ms: 7,
            uptime_ms,
            routes: vec![RouteStats {
                host: "a.test".to_owned(),
                served,
                ..RouteStats::default()
            }],
            endpoints: vec![EndpointStats {
                address: "10.0.0.1:80".to_owned(),
                requests,
                failures: requests / 10,
                ..EndpointStats::default()
            }],
            ..Stats::default()
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_documents() {
        let window = Window::between(Some(&document(1_000, 100)), &document(3_000, 300));
        assert!((window.seconds - 2.0).abs() < 1e-9);
        let route = window.routes[0];
        assert!((route.requests - 100.0).abs() < 1e-9 && (route.errors - 10.0).abs() < 1e-9);
        assert!(route.p50_us.is_some_and(|us| (64..=80).contains(&us)), "{route:?}");
        let endpoint = window.endpoints[0];
        assert!((endpoint.requests - 100.0).abs() < 1e-9 && (endpoint.failures - 10.0).abs() < 1e-9);
    }

    #[test]
    fn another_process_and_no_process_give_no_rates() {
        let mut restarted = document(500, 5);
        restarted.started_unix_ms = 8;
        for earlier in [None, Some(&document(1_000, 100))] {
            let window = Window::between(earlier, &restarted);
            assert!(window.seconds.abs() < 1e-9);
            assert_eq!(window.routes, [RouteRates::default()]);
            assert_eq!(window.endpoints, [EndpointRates::default()]);
        }
    }

    #[test]
    fn counts_that_fell_began_anew_and_what_is_new_began_at_zero() {
        let window = Window::between(Some(&document(1_000, 100)), &document(2_000, 20));
        assert!((window.routes[0].requests - 20.0).abs() < 1e-9);
        let mut empty = document(1_000, 100);
        empty.routes.clear();
        empty.endpoints.clear();
        let window = Window::between(Some(&empty), &document(2_000, 30));
        assert!((window.routes[0].requests - 30.0).abs() < 1e-9);
        assert!((window.endpoints[0].requests - 30.0).abs() < 1e-9);
    }
}

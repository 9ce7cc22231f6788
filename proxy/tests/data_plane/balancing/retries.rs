//! What is sent again, where, how often and when.

use propylon_kit::clock;
use propylon_model::{RetryOn, RetryPolicy};

use super::*;

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn on_503() -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            status_503: true,
            ..RetryOn::default()
        },
        ..RetryPolicy::default()
    }
}

fn route(retry: RetryPolicy) -> RoutePolicy {
    RoutePolicy {
        retry,
        ..RoutePolicy::default()
    }
}

/// Takes turns, and never leaves anybody out: what is tried again shows.
fn in_turn() -> PoolPolicy {
    PoolPolicy {
        outlier_ejection: false,
        ..policy(Algorithm::RoundRobin)
    }
}

#[test]
fn a_status_is_repeated_elsewhere_where_the_rule_says_so() {
    let (busy, sound) = (always(BUSY), echo("sound"));
    let addresses = [busy.address, sound.address];
    let before = site(&addresses, &in_turn(), &route(on_503()));
    let proxy = serve(&before);
    for _ in 0..6 {
        assert_eq!(name(&get(&proxy, "/", "")), "sound");
    }
    assert!(metric(&proxy, "propylon_retries_total{reason=\"503\"}") >= 3);
    let mut posts = Vec::new();
    for _ in 0..4 {
        let mut client = client(&proxy);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
        posts.push(client.response().unwrap().status);
    }
    assert!(posts.contains(&503), "a POST is not repeated: {posts:?}");
    let after = site(&addresses, &in_turn(), &RoutePolicy::default());
    proxy.apply(&Delta::between(&before, &after));
    let statuses: Vec<u16> = (0..4).map(|_| get(&proxy, "/", "").status).collect();
    assert!(
        statuses.contains(&503),
        "by default a status is handed on: {statuses:?}"
    );
}

#[test]
fn what_is_declared_repeatable_is_repeated() {
    let (busy, sound) = (always(BUSY), echo("sound"));
    let declared = RetryPolicy {
        non_idempotent: true,
        ..on_503()
    };
    let proxy = serve(&site(&[busy.address, sound.address], &in_turn(), &route(declared)));
    for _ in 0..6 {
        let mut client = client(&proxy);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
}

#[test]
fn the_budget_bounds_what_is_sent_again() {
    let busy = [always(BUSY), always(BUSY)];
    let addresses = busy.each_ref().map(|server| server.address);
    let proxy = serve(&site(&addresses, &in_turn(), &route(on_503())));
    let began = clock::now();
    for _ in 0..200 {
        assert_eq!(get(&proxy, "/", "").status, 503);
    }
    let seconds = began.elapsed().as_secs();
    let sent: usize = busy.iter().map(ScriptedServer::connections).sum();
    let retries = u64::try_from(sent).unwrap() - 200;
    // A fifth of the requests, ten at the beginning, five a second.
    assert!(
        (40..=50 + 5 * (seconds + 1)).contains(&retries),
        "{retries} in {seconds} s"
    );
}

#[test]
fn a_short_retry_after_is_waited_for_and_a_long_one_handed_on() {
    let later = |seconds: u32| {
        let text = format!("HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n");
        scripted_server(vec![
            vec![Step::ReadHead, Step::write(&text)],
            vec![Step::ReadHead, Step::write(OK)],
        ])
        .unwrap()
    };
    let (soon, late, hasty) = (later(1), later(60), later(1));
    let patient = route(on_503());
    let impatient = RoutePolicy {
        request_timeout: Some(Duration::from_millis(800)),
        ..patient
    };
    for (server, rule, status, waited) in [
        (&soon, &patient, 200, true),
        (&late, &patient, 503, false),
        (&hasty, &impatient, 503, false),
    ] {
        let proxy = serve(&site(&[server.address], &in_turn(), rule));
        let began = clock::now();
        assert_eq!(get(&proxy, "/", "").status, status);
        assert_eq!(began.elapsed() >= Duration::from_secs(1), waited);
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_made_elsewhere() {
    let silent = scripted_server(vec![vec![Step::ReadHead, Step::Hold]]).unwrap();
    let sound = echo("sound");
    let patient = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(300)),
        ..RetryPolicy::default()
    };
    let proxy = serve(&site(&[silent.address, sound.address], &in_turn(), &route(patient)));
    for _ in 0..4 {
        let began = clock::now();
        assert_eq!(name(&get(&proxy, "/", "")), "sound");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert!(silent.connections() >= 1);
    assert!(metric(&proxy, "propylon_retries_total{reason=\"timeout\"}") >= 1);
}

#[test]
fn no_attempts_means_none() {
    let sound = echo("sound");
    let never = RetryPolicy {
        attempts: 0,
        ..RetryPolicy::default()
    };
    let proxy = serve(&site(&[refused(), sound.address], &in_turn(), &route(never)));
    let statuses: Vec<u16> = (0..6).map(|_| get(&proxy, "/", "").status).collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 502).count(),
        3,
        "{statuses:?}"
    );
}

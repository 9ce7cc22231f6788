use propylon_proxy::stats::{EndpointStats, Health, RouteStats, Served, Stats, Window};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::draw,
    once,
    state::{Order, Pane, State, Step, plain},
};

fn route(host: &str, requests: u64, errors: u64) -> RouteStats {
    RouteStats {
        host: host.to_owned(),
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        source: format!("default/{host} Ingress"),
        service: Some("default/web:80".to_owned()),
        served: Served {
            requests,
            errors,
            in_flight: errors,
            latency: vec![(20, requests)],
            ..Served::default()
        },
        ..RouteStats::default()
    }
}

fn stats(uptime_ms: u64, busy: u64) -> Stats {
    Stats {
        version: "1.2.3".to_owned(),
        started_unix_ms: 1_000,
        uptime_ms,
        generation: 4,
        routes: vec![
            route("quiet.example", 5, 0),
            route("busy.example", busy, busy / 10),
            RouteStats {
                service: None,
                refused: Some("the Service does not exist".to_owned()),
                ..route("gone.example", 0, 0)
            },
        ],
        endpoints: vec![
            EndpointStats {
                service: "default/web:80".to_owned(),
                address: "10.0.0.1:8080".to_owned(),
                requests: busy,
                latency_us: Some(1_500),
                ..EndpointStats::default()
            },
            EndpointStats {
                service: "default/web:80".to_owned(),
                address: "10.0.0.2:8080".to_owned(),
                health: Health::Ejected,
                ejected_for_ms: 30_000,
                ejections: 3,
                ..EndpointStats::default()
            },
        ],
        ..Stats::default()
    }
}

fn state() -> State {
    let mut state = State::new("127.0.0.1:9902".to_owned(), stats(1_000, 100));
    state.answer(Ok(stats(2_000, 300)));
    state
}

fn screen(state: &mut State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(usize::from(width)).map(|line| {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn press(state: &mut State, keys: &[KeyCode]) -> Step {
    let steps = keys
        .iter()
        .map(|code| state.key(KeyEvent::new(*code, KeyModifiers::NONE)));
    steps.last().unwrap()
}

#[test]
fn the_screen_shows_the_busiest_route_first() {
    let mut state = state();
    let screen = screen(&mut state, 110, 9);
    let expected = "\
propylon top 127.0.0.1:9902  version 1.2.3  up 2 s  routes no. 4
200 requests/s  20 errors/s  0 without a route/s  30 in flight  endpoints in use 1 of 2
 Routes 3  Endpoints 2   by requests
ROUTE                     TO                    REQ/S     ERR/S       P50       P95       P99 IN FLIGHT
busy.example/             default/web:80          200        20    960 µs    1.0 ms    1.0 ms        30
quiet.example/            default/web:80            0         0         -         -         -         0
gone.example/             503: the Service d        0         0         -         -         -         0

q: quit  Tab: routes/endpoints  s: sort by  r: reverse  /: filter  arrows: scroll";
    let squeeze = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(
        squeeze(&screen).starts_with(&squeeze(expected).lines().take(5).collect::<Vec<_>>().join("\n")),
        "{screen}"
    );
    assert!(
        screen.contains("503: the Service") && screen.ends_with("arrows: scroll"),
        "{screen}"
    );
}

#[test]
fn keys_turn_sort_filter_and_quit() {
    let mut state = state();
    press(&mut state, &[KeyCode::Tab]);
    assert_eq!(state.pane, Pane::Endpoints);
    let endpoints = screen(&mut state, 110, 9);
    assert!(
        endpoints.contains("ejected 30 s") && endpoints.contains("10.0.0.1:8080"),
        "{endpoints}"
    );
    press(&mut state, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!(state.order, Order::Latency);
    press(
        &mut state,
        &[
            KeyCode::Char('1'),
            KeyCode::Char('s'),
            KeyCode::Char('s'),
            KeyCode::Char('r'),
        ],
    );
    assert_eq!(state.order, Order::Name);
    let hosts: Vec<&str> = state.routes().iter().map(|(route, _)| route.host.as_str()).collect();
    assert_eq!(
        hosts,
        ["quiet.example", "gone.example", "busy.example"],
        "by name, reversed"
    );
    press(
        &mut state,
        &[
            KeyCode::Char('/'),
            KeyCode::Char('G'),
            KeyCode::Char('O'),
            KeyCode::Char('q'),
        ],
    );
    assert!(
        screen(&mut state, 80, 8).contains("No row contains the text."),
        "q is text here"
    );
    press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(state.routes().len(), 1);
    press(&mut state, &[KeyCode::Esc]);
    assert_eq!(state.routes().len(), 3);
    assert_eq!(press(&mut state, &[KeyCode::Char('q')]), Step::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(control_c), Step::Quit);
}

#[test]
fn scrolling_ends_at_the_last_row_whatever_the_size() {
    let mut many = stats(1_000, 1);
    many.routes = (0..50)
        .map(|number| route(&format!("h{number:02}.example"), 0, 0))
        .collect();
    let mut state = State::new("a:1".to_owned(), many);
    assert!(screen(&mut state, 80, 14).contains("h08.example"));
    press(&mut state, &[KeyCode::End]);
    let last = screen(&mut state, 80, 14);
    assert!(last.contains("h49.example") && last.contains("h41.example"), "{last}");
    // A taller terminal shows more of the end, not emptiness behind it.
    assert!(screen(&mut state, 80, 24).contains("h31.example"));
    for (width, height) in [(1, 1), (5, 2), (20, 4), (300, 100)] {
        screen(&mut state, width, height);
    }
    screen(&mut state, 80, 14);
    press(&mut state, &[KeyCode::Home, KeyCode::PageDown, KeyCode::Up]);
    assert_eq!(state.first, 8);
}

#[test]
fn without_an_answer_the_last_figures_stay_and_a_new_process_begins_anew() {
    let mut state = state();
    state.answer(Err("no answer from the admin address".to_owned()));
    let old = screen(&mut state, 110, 9);
    assert!(old.contains("trying again") && old.contains("busy.example"), "{old}");
    let mut restarted = stats(100, 10);
    restarted.started_unix_ms = 9_999;
    state.answer(Ok(restarted));
    assert!(state.trouble.is_none());
    let rates: f64 = state.window.routes.iter().map(|rates| rates.requests).sum();
    assert!(rates.abs() < 1e-9, "two processes are not compared");
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let mut hostile = stats(1_000, 1);
    hostile.routes[0].host = "a\u{1b}[2Jb\u{202e}".to_owned();
    let mut state = State::new("a:1".to_owned(), hostile);
    let screen = screen(&mut state, 110, 9);
    assert!(
        !screen.contains('\u{1b}') && screen.contains(r"a\u{1b}[2Jb\u{202e}/"),
        "{screen}"
    );
    assert_eq!(plain("bücher\n"), r"bücher\u{a}");
}

#[test]
fn the_json_of_once_has_counts_and_rates() {
    let (first, second) = (stats(1_000, 100), stats(2_000, 300));
    let window = Window::between(Some(&first), &second);
    let text = once::json(&second, &window);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let route = &document["routes"][1];
    assert_eq!(route["host"], "busy.example");
    assert_eq!(route["requests"], 300);
    assert_eq!(route["requestsPerSecond"], 200.0);
    assert_eq!(route["errorsPerSecond"], 20.0);
    assert!(route["p99Us"].as_u64().is_some_and(|us| us > 0), "{text}");
    assert_eq!(document["endpoints"][1]["health"], "ejected");
    assert_eq!(document["endpoints"][0]["requestsPerSecond"], 200.0);
    assert_eq!(document["intervalSeconds"], 1.0);
    let columns = once::columns(&second, &window);
    let busiest = columns.lines().nth(1).unwrap();
    assert!(
        busiest.contains("busy.example/ ") && busiest.ends_with("default/web:80"),
        "{columns}"
    );
}

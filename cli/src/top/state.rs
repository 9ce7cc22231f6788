//! What the screen shows, and what keys and answers make of it. No terminal, no socket, no clock.

use std::{cmp::Ordering, collections::VecDeque};

use propylon_proxy::stats::{EndpointRates, EndpointStats, RouteRates, RouteStats, Stats, Window};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The state of the screen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) admin: String,
    pub(super) pane: Pane,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    /// Text that a row must contain.
    pub(super) filter: String,
    /// Whether keys write the filter.
    pub(super) is_filtering: bool,
    /// The first row that is shown.
    pub(super) first: usize,
    /// Rows that fitted at the last drawing.
    pub(super) height: usize,
    /// The last answers of one process, the newest last; never empty.
    samples: VecDeque<Stats>,
    pub(super) window: Window,
    /// Why there is no newer answer.
    pub(super) trouble: Option<String>,
}

/// What the table is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    Endpoints,
    #[default]
    Routes,
}

/// What rows are sorted by: numbers from the largest, names from the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    Errors,
    InFlight,
    /// p99 of routes, first byte of endpoints.
    Latency,
    Name,
    #[default]
    Requests,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Continue,
    Quit,
}

impl Order {
    const CYCLE: [Self; 5] = [Self::Requests, Self::Errors, Self::Latency, Self::InFlight, Self::Name];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::InFlight => "in flight",
            Self::Latency => "latency",
            Self::Name => "name",
            Self::Requests => "requests",
        }
    }

    fn next(self) -> Self {
        let place = Self::CYCLE.iter().position(|order| *order == self).unwrap_or(0);
        Self::CYCLE.iter().cycle().nth(place + 1).copied().unwrap_or_default()
    }
}

impl State {
    /// Begins with a first answer.
    pub(super) fn new(admin: String, first: Stats) -> Self {
        let mut state = Self {
            admin,
            pane: Pane::default(),
            order: Order::default(),
            is_reversed: false,
            filter: String::new(),
            is_filtering: false,
            first: 0,
            height: 1,
            samples: VecDeque::new(),
            window: Window::default(),
            trouble: None,
        };
        state.answer(Ok(first));
        state
    }

    /// Takes over an answer, or the reason why there is none: what was known stays then.
    pub(super) fn answer(&mut self, answer: Result<Stats, String>) {
        let stats = match answer {
            Ok(stats) => stats,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        // Another process begins at zero: nothing of the one before can be compared with it.
        self.samples
            .retain(|sample| sample.started_unix_ms == stats.started_unix_ms);
        self.window = Window::between(self.samples.front(), &stats);
        self.samples.push_back(stats);
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.scroll_to(self.first);
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Step {
        if key.kind == KeyEventKind::Release {
            return Step::Continue;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Step::Quit;
        }
        if self.is_filtering {
            self.filter_key(key.code);
            return Step::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => self.turn(),
            KeyCode::Char('1') => self.pane = Pane::Routes,
            KeyCode::Char('2') => self.pane = Pane::Endpoints,
            KeyCode::Down | KeyCode::Char('j') => self.scroll_to(self.first + 1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_to(self.first.saturating_sub(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll_to(self.first + self.height),
            KeyCode::PageUp => self.scroll_to(self.first.saturating_sub(self.height)),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.scroll_to(usize::MAX),
            _ => {}
        }
        // Another pane or filter may have fewer rows.
        self.scroll_to(self.first);
        Step::Continue
    }

    /// The newest answer.
    pub(super) fn stats(&self) -> Option<&Stats> {
        self.samples.back()
    }

    /// The routes that pass the filter, in order.
    pub(super) fn routes(&self) -> Vec<(&RouteStats, RouteRates)> {
        let routes = self.stats().map_or([].as_slice(), |stats| &stats.routes);
        let mut rows: Vec<_> = routes
            .iter()
            .zip(&self.window.routes)
            .map(|(route, rates)| (route, *rates))
            .filter(|(route, _)| self.wants(&[&route_name(route), &target_name(route), &route.source]))
            .collect();
        rows.sort_by(|(one, one_rates), (other, other_rates)| {
            self.ordered(match self.order {
                Order::Errors => other_rates.errors.total_cmp(&one_rates.errors),
                Order::InFlight => other.served.in_flight.cmp(&one.served.in_flight),
                Order::Latency => other_rates.p99_us.cmp(&one_rates.p99_us),
                Order::Name => route_name(one).cmp(&route_name(other)),
                Order::Requests => other_rates.requests.total_cmp(&one_rates.requests),
            })
        });
        rows
    }

    /// The endpoints that pass the filter, in order.
    pub(super) fn endpoints(&self) -> Vec<(&EndpointStats, EndpointRates)> {
        let endpoints = self.stats().map_or([].as_slice(), |stats| &stats.endpoints);
        let mut rows: Vec<_> = endpoints
            .iter()
            .zip(&self.window.endpoints)
            .map(|(endpoint, rates)| (endpoint, *rates))
            .filter(|(endpoint, _)| {
                let place = |name: &Option<String>| name.clone().unwrap_or_default();
                let (pod, node, zone) = (place(&endpoint.pod), place(&endpoint.node), place(&endpoint.zone));
                let health = endpoint.health.as_str();
                self.wants(&[&endpoint.service, &endpoint.address, &pod, &node, &zone, health])
            })
            .collect();
        rows.sort_by(|(one, one_rates), (other, other_rates)| {
            self.ordered(match self.order {
                Order::Errors => other_rates.failures.total_cmp(&one_rates.failures),
                Order::InFlight => other.in_flight.cmp(&one.in_flight),
                Order::Latency => other.latency_us.cmp(&one.latency_us),
                Order::Name => (&one.service, &one.address).cmp(&(&other.service, &other.address)),
                Order::Requests => other_rates.requests.total_cmp(&one_rates.requests),
            })
        });
        rows
    }

    /// Notes how many rows fit, and shows no emptiness where there are rows.
    pub(super) fn fit(&mut self, height: usize) {
        self.height = height.max(1);
        self.scroll_to(self.first);
    }

    fn filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_filtering = false,
            KeyCode::Esc => {
                self.is_filtering = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if self.filter.chars().count() < MAX_FILTER => self.filter.push(character),
            _ => {}
        }
        self.first = 0;
    }

    fn turn(&mut self) {
        self.pane = match self.pane {
            Pane::Endpoints => Pane::Routes,
            Pane::Routes => Pane::Endpoints,
        };
        self.first = 0;
    }

    fn scroll_to(&mut self, row: usize) {
        let rows = match self.pane {
            Pane::Endpoints => self.endpoints().len(),
            Pane::Routes => self.routes().len(),
        };
        self.first = row.min(rows.saturating_sub(self.height));
    }

    fn wants(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    fn ordered(&self, ordering: Ordering) -> Ordering {
        if self.is_reversed { ordering.reverse() } else { ordering }
    }
}

/// Host and path of a route.
pub(super) fn route_name(route: &RouteStats) -> String {
    let host = if route.host.is_empty() { "*" } else { &route.host };
    match &route.path {
        Some(path) if route.path_type == "Exact" => format!("{host}{path} (exact)"),
        Some(path) => format!("{host}{path}"),
        None => format!("{host} (default backend)"),
    }
}

/// Where a route leads.
pub(super) fn target_name(route: &RouteStats) -> String {
    match (&route.refused, &route.service) {
        (Some(refused), _) => format!("503: {refused}"),
        (None, Some(service)) => service.clone(),
        (None, None) => "503".to_owned(),
    }
}

/// A text without anything that a terminal would obey: names come from whoever wrote the manifests.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        let is_unseen = character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if is_unseen {
            plain.extend(character.escape_unicode());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Answers that are kept: rates are of the last five intervals.
const SAMPLES: usize = 5;
/// The most that a filter may have of characters.
const MAX_FILTER: usize = 100;

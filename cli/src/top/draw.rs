//! From the state to a frame.

use propylon_proxy::stats::{Health, figures};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell, Paragraph, Row, Table},
};

use super::state::{Order, Pane, State, plain, route_name, target_name};

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let [head, tabs, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    // One line of the table is its head.
    state.fit(usize::from(table.height).saturating_sub(1));
    frame.render_widget(Paragraph::new(summary(state)), head);
    frame.render_widget(Paragraph::new(pane_titles(state)), tabs);
    match state.pane {
        Pane::Endpoints => endpoints(frame, table, state),
        Pane::Routes => routes(frame, table, state),
    }
    frame.render_widget(Paragraph::new(keys(state)), foot);
}

fn summary(state: &State) -> Vec<Line<'static>> {
    let mut first = vec![
        Span::styled("propylon top ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(plain(&state.admin)),
    ];
    let Some(stats) = state.stats() else {
        return vec![Line::from(first)];
    };
    first.push(Span::raw(format!(
        "  version {}  up {}  routes no. {}",
        plain(&stats.version),
        figures::span_ms(stats.uptime_ms),
        stats.generation
    )));
    if let Some(trouble) = &state.trouble {
        let trouble = format!("trying again, the figures are old: {}", plain(trouble));
        return vec![Line::from(first), Line::styled(trouble, bad())];
    }
    let window = &state.window;
    let sum = |rate: fn(&propylon_proxy::stats::RouteRates) -> f64| window.routes.iter().map(rate).sum::<f64>();
    let in_flight: u64 = stats.routes.iter().map(|route| route.served.in_flight).sum();
    let used = stats
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.health.is_used())
        .count();
    let errors = sum(|rates| rates.errors);
    let second = Line::from(vec![
        Span::raw(format!(
            "{} requests/s  ",
            figures::rate(sum(|rates| rates.requests) + window.unmatched.requests)
        )),
        Span::styled(
            format!("{} errors/s", figures::rate(errors)),
            if errors > 0.0 { bad() } else { Style::new() },
        ),
        Span::raw(format!(
            "  {} without a route/s  {in_flight} in flight  endpoints in use {used} of {}",
            figures::rate(window.unmatched.requests),
            stats.endpoints.len()
        )),
    ]);
    vec![Line::from(first), second]
}

fn pane_titles(state: &State) -> Line<'static> {
    let count = |all: usize, shown: usize| {
        if all == shown {
            all.to_string()
        } else {
            format!("{shown} of {all}")
        }
    };
    let (routes, endpoints) = state
        .stats()
        .map_or((0, 0), |stats| (stats.routes.len(), stats.endpoints.len()));
    let title = |pane: Pane, text: String| {
        let style = if state.pane == pane {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        Span::styled(format!(" {text} "), style)
    };
    let order = if state.is_reversed { ", reversed" } else { "" };
    Line::from(vec![
        title(Pane::Routes, format!("Routes {}", count(routes, state.routes().len()))),
        title(
            Pane::Endpoints,
            format!("Endpoints {}", count(endpoints, state.endpoints().len())),
        ),
        Span::raw(format!("  by {}{order}", state.order.as_str())),
    ])
}

fn routes(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let columns = [
        Head::name("ROUTE", Order::Name),
        Head::wide("TO"),
        Head::sorted("REQ/S", Order::Requests),
        Head::sorted("ERR/S", Order::Errors),
        Head::extra("P50"),
        Head::extra("P95"),
        Head::sorted("P99", Order::Latency),
        Head::sorted("IN FLIGHT", Order::InFlight),
    ];
    let rows = state
        .routes()
        .into_iter()
        .skip(state.first)
        .take(state.height)
        .map(|(route, rates)| {
            let is_failing = rates.errors > 0.0;
            vec![
                Value::text(&route_name(route)),
                Value::text(&target_name(route)).bad_if(route.refused.is_some()),
                Value::number(figures::rate(rates.requests)),
                Value::number(figures::rate(rates.errors)).bad_if(is_failing),
                Value::number(figures::duration_us(rates.p50_us)),
                Value::number(figures::duration_us(rates.p95_us)),
                Value::number(figures::duration_us(rates.p99_us)),
                Value::number(figures::count(route.served.in_flight)),
            ]
        });
    table(frame, area, (state, &columns), rows.collect());
}

fn endpoints(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let columns = [
        Head::name("ENDPOINT", Order::Name),
        Head::wide("OF"),
        Head::fixed("HEALTH"),
        Head::sorted("REQ/S", Order::Requests),
        Head::sorted("FAIL/S", Order::Errors),
        Head::sorted("1ST BYTE", Order::Latency),
        Head::sorted("IN FLIGHT", Order::InFlight),
        Head::extra("CONNS"),
        Head::extra("EJECTIONS"),
    ];
    let rows = state
        .endpoints()
        .into_iter()
        .skip(state.first)
        .take(state.height)
        .map(|(endpoint, rates)| {
            let health = match endpoint.health {
                Health::Ejected => format!("ejected {}", figures::span_ms(endpoint.ejected_for_ms)),
                health => health.as_str().to_owned(),
            };
            vec![
                Value::text(&endpoint.address),
                Value::text(&endpoint.service),
                Value::text(&health).bad_if(!endpoint.health.is_used()),
                Value::number(figures::rate(rates.requests)),
                Value::number(figures::rate(rates.failures)).bad_if(rates.failures > 0.0),
                Value::number(figures::duration_us(endpoint.latency_us)),
                Value::number(figures::count(endpoint.in_flight)),
                Value::number(figures::count(endpoint.connections)),
                Value::number(figures::count(endpoint.ejections)),
            ]
        });
    table(frame, area, (state, &columns), rows.collect());
}

/// The head of a column.
#[derive(Clone, Copy)]
struct Head {
    title: &'static str,
    order: Option<Order>,
    width: Width,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// A number that a narrow terminal goes without.
    Extra,
    /// A short text.
    Fixed,
    /// A number.
    Number,
    /// The rest of the line.
    Rest,
    /// A share of the rest, where the terminal is wide.
    Share,
}

impl Head {
    const fn new(title: &'static str, order: Option<Order>, width: Width) -> Self {
        Self { title, order, width }
    }

    const fn name(title: &'static str, order: Order) -> Self {
        Self::new(title, Some(order), Width::Rest)
    }

    const fn wide(title: &'static str) -> Self {
        Self::new(title, None, Width::Share)
    }

    const fn fixed(title: &'static str) -> Self {
        Self::new(title, None, Width::Fixed)
    }

    const fn sorted(title: &'static str, order: Order) -> Self {
        Self::new(title, Some(order), Width::Number)
    }

    const fn extra(title: &'static str) -> Self {
        Self::new(title, None, Width::Extra)
    }

    fn is_shown(self, terminal: u16) -> bool {
        match self.width {
            Width::Extra => terminal >= 100,
            Width::Share => terminal >= 76,
            Width::Fixed | Width::Number | Width::Rest => true,
        }
    }

    fn constraint(self) -> Constraint {
        match self.width {
            Width::Extra | Width::Number => Constraint::Length(9),
            Width::Fixed => Constraint::Length(12),
            Width::Rest => Constraint::Fill(3),
            Width::Share => Constraint::Fill(2),
        }
    }

    fn cell(self, state: &State) -> Cell<'static> {
        let mut style = Style::new().add_modifier(Modifier::BOLD);
        if self.order == Some(state.order) {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        let is_number = matches!(self.width, Width::Extra | Width::Number);
        Cell::from(aligned(self.title.to_owned(), is_number)).style(style)
    }
}

/// What stands in a cell.
struct Value {
    text: String,
    is_number: bool,
    is_bad: bool,
}

impl Value {
    fn text(text: &str) -> Self {
        Self {
            text: plain(text),
            is_number: false,
            is_bad: false,
        }
    }

    fn number(text: String) -> Self {
        Self {
            text,
            is_number: true,
            is_bad: false,
        }
    }

    fn bad_if(self, is_bad: bool) -> Self {
        Self { is_bad, ..self }
    }

    fn cell(self) -> Cell<'static> {
        let style = if self.is_bad { bad() } else { Style::new() };
        Cell::from(aligned(self.text, self.is_number)).style(style)
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, (state, columns): (&State, &[Head]), rows: Vec<Vec<Value>>) {
    if rows.is_empty() {
        let text = if state.filter.is_empty() {
            "Nothing to show: there is no configuration yet."
        } else {
            "No row contains the text."
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let shown = |index: usize| columns.get(index).is_some_and(|column| column.is_shown(area.width));
    let heads = columns.iter().filter(|column| column.is_shown(area.width));
    let cells = rows.into_iter().map(|row| {
        let cells = row.into_iter().enumerate().filter(|(index, _)| shown(*index));
        Row::new(cells.map(|(_, value)| value.cell()))
    });
    let table = Table::new(cells, heads.clone().map(|column| column.constraint()))
        .header(Row::new(heads.map(|column| column.cell(state))))
        .column_spacing(1);
    frame.render_widget(table, area);
}

fn keys(state: &State) -> Line<'static> {
    if state.is_filtering {
        return Line::from(format!(
            "Only rows with: {}_   Enter: keep  Esc: all",
            plain(&state.filter)
        ));
    }
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("  rows with \"{}\", Esc: all", plain(filter)),
    };
    let keys = "q: quit  Tab: routes/endpoints  s: sort by  r: reverse  /: filter  arrows: scroll";
    Line::from(format!("{keys}{filter}"))
}

fn aligned(text: String, is_number: bool) -> Text<'static> {
    Text::from(text).alignment(if is_number { Alignment::Right } else { Alignment::Left })
}

/// Bold beside the colour, for those who do not see it.
fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

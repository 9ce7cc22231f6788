//! Events as JSON, one object a line.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::clock;

/// Writes `{"timestamp":...,"level":...,"target":...,"message":...,FIELDS}`. A field whose name is one of these four is
/// written with `_` behind it.
#[derive(Debug)]
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writeln!(writer, "{}", Value::Object(line(event, clock::unix_now_ms())))
    }
}

fn line(event: &Event<'_>, now_ms: u64) -> Map<String, Value> {
    let metadata = event.metadata();
    let seconds = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let date = clock::utc_text(seconds);
    let timestamp = format!("{}.{:03}Z", date.trim_end_matches('Z'), now_ms % 1000);
    let mut fields = Fields(Map::new());
    for (name, value) in [
        ("timestamp", timestamp),
        ("level", metadata.level().as_str().to_ascii_lowercase()),
        ("target", metadata.target().to_owned()),
    ] {
        fields.0.insert(name.to_owned(), Value::String(value));
    }
    event.record(&mut fields);
    fields.0
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            taken @ ("timestamp" | "level" | "target") => format!("{taken}_"),
            name => name.to_owned(),
        };
        self.0.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_json_object_on_one_line() {
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("two\nlines \"quoted\"");
            tracing::warn!(%error, count = 3, target_ = true, "it failed");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "it failed");
        assert_eq!(value["error"], "two\nlines \"quoted\"");
        assert_eq!(value["count"], 3);
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'), "{value}");
    }
}

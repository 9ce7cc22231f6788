//! The report of what was received, as JSON.

use bytes::Bytes;
use http::{HeaderMap, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{body::Failure, service::Connection};

/// What came after the head of a request.
#[derive(Default)]
pub(super) struct Received {
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Its trailers.
    pub trailers: HeaderMap,
}

/// Reads a body to its end.
pub(super) async fn receive(mut body: Incoming) -> Result<Received, Failure> {
    let mut received = Received::default();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => received.body_bytes += data.len() as u64,
            Err(frame) => received.trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(received)
}

/// The report, one line of JSON.
pub(super) fn report(connection: &Connection, head: &Parts, received: &Received) -> Bytes {
    let mut report = json!({
        "name": *connection.name,
        "protocol": format!("{:?}", head.version),
        "tls": connection.tls,
        "method": head.method.as_str(),
        "target": target(head),
        "host": host(head),
        "headers": pairs(&head.headers),
        "body_bytes": received.body_bytes,
        "trailers": pairs(&received.trailers),
        "peer": connection.peer.to_string(),
        "connection": connection.number,
    });
    if let Some(members) = report.as_object_mut() {
        let facts = connection.facts.iter();
        members.extend(facts.map(|(name, fact)| (name.clone(), Value::from(fact.as_str()))));
    }
    let mut line = report.to_string();
    line.push('\n');
    line.into()
}

/// The target as it stood on the request line, or `:path` where the protocol has one.
fn target(head: &Parts) -> String {
    match head.version {
        http::Version::HTTP_2 => head
            .uri
            .path_and_query()
            .map_or_else(|| "*".to_owned(), ToString::to_string),
        _ => head.uri.to_string(),
    }
}

fn host(head: &Parts) -> Option<String> {
    let field = head.headers.get(http::header::HOST).map(|value| text(value.as_bytes()));
    head.uri.authority().map(ToString::to_string).or(field)
}

fn pairs(headers: &HeaderMap) -> Value {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), text(value.as_bytes())]))
        .collect()
}

/// Text of any bytes: those that are no UTF-8 are read as Latin-1.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().map(|byte| char::from(*byte)).collect(),
        ToOwned::to_owned,
    )
}

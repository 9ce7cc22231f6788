//! The first stage: one strict reading of the head, of which all later stages live.

use std::borrow::Cow;

use http::{Method, Version};
use propylon_model::path::RequestPath;

use super::scheme;
use crate::{
    edge::{
        Facts, FieldFault, ForwardedFields, Head, Limits, RequestFault, RequestTarget, TargetForm,
        client_address::Seen, fields, request_target,
    },
    exchange::Exchange,
    reason::Reason,
    respond::ProxyError,
};

/// A request as routing and forwarding see it.
pub(super) struct Normalised<'a> {
    pub(super) facts: Facts,
    target: RequestTarget<'a>,
    pub(super) path: RequestPath<'a>,
    query: Option<&'a str>,
    pub(super) forwarded: ForwardedFields<'a>,
    /// `Max-Forwards` of OPTIONS.
    pub(super) max_forwards: Option<u64>,
}

impl<'a> Normalised<'a> {
    /// The canonical host, empty where the request names none.
    pub(super) fn host(&self) -> &str {
        self.target.host.canonical()
    }

    /// The host as the client wrote it.
    pub(super) fn authority(&self) -> &'a str {
        self.target.host.text()
    }

    /// Whether the client's own connection is HTTPS, as far as we may believe.
    pub(super) fn is_https(&self) -> bool {
        self.forwarded.is_https()
    }

    /// The request target for the backend: dot segments removed, otherwise the client's bytes.
    pub(super) fn target(&self) -> Cow<'_, str> {
        match (self.target.form, self.query) {
            (TargetForm::Asterisk, _) => Cow::Borrowed("*"),
            (_, None) => Cow::Borrowed(self.path.forward()),
            (_, Some(query)) => {
                let path = self.path.forward();
                let mut target = String::with_capacity(path.len() + 1 + query.len());
                target.push_str(path);
                target.push('?');
                target.push_str(query);
                Cow::Owned(target)
            }
        }
    }
}

/// Reads the head.
pub(super) fn normalise(exchange: &Exchange) -> Result<Normalised<'_>, ProxyError> {
    let (parts, connection, shared) = (&exchange.parts, &exchange.connection, &exchange.worker.shared);
    let head = Head::of_parts(parts);
    let facts = fields::check(&head, &limits(exchange)).map_err(of_field_fault)?;
    refuse_method(exchange)?;
    let target = request_target::of_request(&head, scheme(connection)).map_err(of_request_fault)?;
    if is_misdirected(exchange, target.host.canonical()) {
        return Err(ProxyError::new(
            Reason::Misdirected,
            "this connection was opened for a host with another certificate",
        ));
    }
    let path = match target.form {
        TargetForm::Asterisk => "/",
        _ => match parts.uri.path() {
            "" => "/",
            path => path,
        },
    };
    let path = RequestPath::parse(path)
        .map_err(|_| ProxyError::new(Reason::PathInvalid, "the path is malformed or hides a dot segment"))?;
    let seen = Seen {
        scheme: scheme(connection),
        host: target.host.text(),
        port: target.host.port().unwrap_or_else(|| connection.local.port()),
        random: exchange.request_id,
    };
    let forwarded = ForwardedFields::new(&connection.peer, &shared.trusted, &parts.headers, &seen);
    note(exchange, &facts, &forwarded);
    let max_forwards = if facts.max_forwards && parts.method == Method::OPTIONS {
        max_forwards(parts)
    } else {
        None
    };
    Ok(Normalised {
        facts,
        target,
        path,
        query: parts.uri.query(),
        forwarded,
        max_forwards,
    })
}

/// Whether the host has another certificate than the connection was opened with (RFC 9110 7.4); the table is only looked
/// at where the host is not the server name.
fn is_misdirected(exchange: &Exchange, host: &str) -> bool {
    match &exchange.connection.tls {
        Some(tls) if tls.sni.as_deref() != Some(host) => {
            exchange.worker.shared.live.certificates.load().misdirected(tls, host)
        }
        _ => false,
    }
}

/// Leaves behind what the access log will say.
fn note(exchange: &Exchange, facts: &Facts, forwarded: &ForwardedFields<'_>) {
    exchange.client.set(Some(forwarded.client));
    // Field overhead is counted as 32 bytes; on the wire it is four.
    let fields = facts.field_bytes.saturating_sub(facts.field_count * 28);
    let line = exchange.parts.method.as_str().len()
        + exchange.parts.uri.path().len()
        + exchange.parts.uri.query().map_or(0, str::len)
        + 14;
    exchange
        .head_bytes
        .set(u32::try_from(fields + line).unwrap_or(u32::MAX));
    if exchange.connection.peer.is_trusted() {
        let field = exchange.parts.headers.get("x-request-id");
        exchange.kept_request_id.set(
            field
                .filter(|field| field.as_bytes() == forwarded.request_id())
                .cloned(),
        );
    }
}

fn limits(exchange: &Exchange) -> Limits {
    let limits = &exchange.worker.shared.config.limits;
    Limits {
        max_headers: limits.max_headers as usize,
        max_header_bytes: limits.max_header_bytes as usize,
        max_uri_bytes: limits.max_uri_bytes as usize,
    }
}

/// TRACE would reflect credentials, CONNECT would make us a tunnel; extended CONNECT (RFC 8441) is a WebSocket.
fn refuse_method(exchange: &Exchange) -> Result<(), ProxyError> {
    let parts = &exchange.parts;
    match parts.method {
        Method::TRACE => Err(ProxyError::new(Reason::TraceNotAllowed, "TRACE is not served")),
        Method::CONNECT => {
            let protocol = parts.extensions.get::<hyper::ext::Protocol>();
            let websocket =
                parts.version == Version::HTTP_2 && protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
            if websocket {
                Ok(())
            } else {
                Err(ProxyError::new(Reason::ConnectNotImplemented, "CONNECT is not served"))
            }
        }
        _ => Ok(()),
    }
}

fn max_forwards(parts: &http::request::Parts) -> Option<u64> {
    parts
        .headers
        .get(http::header::MAX_FORWARDS)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn of_field_fault(fault: FieldFault) -> ProxyError {
    let reason = match fault {
        FieldFault::UriTooLong => Reason::UriTooLong,
        FieldFault::TooLarge | FieldFault::TooMany => Reason::HeadersTooLarge,
        _ => Reason::RequestInvalid,
    };
    ProxyError::new(reason, fault.name())
}

fn of_request_fault(fault: RequestFault) -> ProxyError {
    let reason = match fault {
        RequestFault::Connect => Reason::ConnectNotImplemented,
        RequestFault::Host(_) | RequestFault::HostMissing | RequestFault::HostMismatch | RequestFault::HostRepeated => {
            Reason::HostInvalid
        }
        RequestFault::Asterisk | RequestFault::Target | RequestFault::Scheme => Reason::RequestInvalid,
    };
    ProxyError::new(reason, fault.name())
}

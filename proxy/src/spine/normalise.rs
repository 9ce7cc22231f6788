//! The first stage: one strict reading of the head, of which all later stages live.

use std::borrow::Cow;

use http::{Method, Version};
use propylon_model::path::RequestPath;

use super::Circumstances;
use crate::{
    edge::{
        Facts, FieldFault, ForwardedFields, Head, RequestFault, RequestTarget, TargetForm, client_address::Seen,
        fields, request_target,
    },
    exchange::Exchange,
    reason::Reason,
    respond::ProxyError,
};

/// A request as routing and forwarding see it.
pub(crate) struct Normalised<'a> {
    pub(crate) facts: Facts,
    target: RequestTarget<'a>,
    pub(crate) path: RequestPath<'a>,
    query: Option<&'a str>,
    pub(crate) forwarded: ForwardedFields<'a>,
    /// `Max-Forwards` of OPTIONS.
    pub(crate) max_forwards: Option<u64>,
}

impl<'a> Normalised<'a> {
    /// The canonical host, empty where the request names none.
    pub(crate) fn host(&self) -> &str {
        self.target.host.canonical()
    }

    /// The host as the client wrote it.
    pub(crate) fn authority(&self) -> &'a str {
        self.target.host.text()
    }

    /// Whether the client's own connection is HTTPS, as far as we may believe.
    pub(crate) fn is_https(&self) -> bool {
        self.forwarded.is_https()
    }

    /// The request target for the backend: dot segments removed, otherwise the client's bytes.
    pub(crate) fn target(&self) -> Cow<'_, str> {
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
pub(crate) fn normalise<'a>(of: &Circumstances<'a>) -> Result<Normalised<'a>, ProxyError> {
    let parts = of.parts;
    let head = Head::of_parts(parts);
    let facts = fields::check(&head, &of.limits).map_err(of_field_fault)?;
    refuse_method(parts)?;
    let target = request_target::of_request(&head, of.scheme).map_err(of_request_fault)?;
    if is_misdirected(of, target.host.canonical()) {
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
        scheme: of.scheme,
        host: target.host.text(),
        port: target.host.port().unwrap_or_else(|| of.local.port()),
        random: of.random,
    };
    let forwarded = ForwardedFields::new(of.peer, of.trusted, &parts.headers, &seen);
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
fn is_misdirected(of: &Circumstances<'_>, host: &str) -> bool {
    match of.tls {
        Some(tls) if tls.sni.as_deref() != Some(host) => of.certificates.load().misdirected(tls, host),
        _ => false,
    }
}

/// Leaves behind what the access log will say.
pub(super) fn note(exchange: &Exchange, request: &Normalised<'_>) {
    let (facts, forwarded) = (&request.facts, &request.forwarded);
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

/// TRACE would reflect credentials, CONNECT would make us a tunnel; extended CONNECT (RFC 8441) is a WebSocket.
fn refuse_method(parts: &http::request::Parts) -> Result<(), ProxyError> {
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

//! Which host a request is for, and in which form it said so (RFC 9112 3.2, RFC 9113 8.3.1).

use http::{Method, StatusCode, Version, header};
use thiserror::Error;

use super::{
    Head, Scheme,
    host::{HostFault, RequestHost, parse_host},
};

/// The form of the request target (RFC 9112 3.2); the authority-form is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `http://host/path` in HTTP/1: the host is the target's, not the field's.
    Absolute,
    /// `*`, with OPTIONS only.
    Asterisk,
    /// `/path`; every other HTTP/2 request too.
    Origin,
}

/// The host and the form of a request's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// The host to route by.
    pub host: RequestHost<'a>,
    /// The form.
    pub form: TargetForm,
}

/// Why a request target or its host is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum RequestFault {
    /// `*` with another method than OPTIONS (RFC 9112 3.2.4).
    #[error("the asterisk form is for OPTIONS only")]
    Asterisk,
    /// CONNECT without `:protocol`; this is no tunnel of any host's.
    #[error("CONNECT is not served")]
    Connect,
    /// A host that is none.
    #[error("bad host: {0}")]
    Host(#[from] HostFault),
    /// HTTP/1.1 without `Host` (RFC 9112 3.2), HTTP/2 without `:authority` and `host`, or with an empty one.
    #[error("the request names no host")]
    HostMissing,
    /// A `host` field that disagrees with `:authority` (RFC 9113 8.3.1).
    #[error("host and :authority disagree")]
    HostMismatch,
    /// More than one `Host` field (RFC 9112 3.2).
    #[error("more than one Host field")]
    HostRepeated,
    /// A target in authority-form or without a leading slash.
    #[error("the request target is neither a path nor an http(s) URI")]
    Target,
    /// A scheme that is not http or https, or in HTTP/1 not the listener's.
    #[error("the scheme of the request target is not served here")]
    Scheme,
}

impl RequestFault {
    /// The status to answer with: 501 for CONNECT, else 400.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A short stable name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asterisk => "asterisk-form",
            Self::Connect => "connect",
            Self::Host(_) => "host-invalid",
            Self::HostMissing => "host-missing",
            Self::HostMismatch => "host-mismatch",
            Self::HostRepeated => "host-repeated",
            Self::Target => "request-target",
            Self::Scheme => "scheme",
        }
    }
}

/// Finds the host of a request.
///
/// HTTP/1.1: exactly one valid `Host` field, even when an absolute-form target overrides it; an empty one means no host.
/// HTTP/1.0: at most one; none means no host. An absolute-form target must carry the scheme of the listener. HTTP/2:
/// `:authority`, which a `host` field must agree with (name without case, port with its default filled in), else
/// `host`; the scheme may be http or https whatever the listener is, because proxies before us end TLS. Extended CONNECT
/// (RFC 8441) is read like any other request.
///
/// # Errors
/// [`RequestFault`], never retryable.
pub fn of_request<'a>(head: &Head<'a>, scheme: Scheme) -> Result<RequestTarget<'a>, RequestFault> {
    let form = form_of(head, scheme)?;
    let field = host_field(head)?;
    let authority = head
        .uri
        .authority()
        .map(|authority| parse_host(authority.as_str().as_bytes()))
        .transpose()?;
    let host = if is_http2(head) {
        http2_host(authority, field, scheme)?
    } else {
        http1_host(authority, field, head.version)?
    };
    Ok(RequestTarget { host, form })
}

fn form_of(head: &Head<'_>, listener: Scheme) -> Result<TargetForm, RequestFault> {
    let path = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    if head.method == Method::CONNECT && (!is_http2(head) || path.is_none()) {
        return Err(RequestFault::Connect);
    }
    let http1_authority = head.uri.authority().is_some() && !is_http2(head);
    match head.uri.scheme_str() {
        None if http1_authority => return Err(RequestFault::Target),
        None => {}
        Some(named) if !is_http2(head) && !named.eq_ignore_ascii_case(listener.as_str()) => {
            return Err(RequestFault::Scheme);
        }
        Some(named) if named.eq_ignore_ascii_case("http") || named.eq_ignore_ascii_case("https") => {}
        Some(_) => return Err(RequestFault::Scheme),
    }
    match path {
        Some("*") if head.method == Method::OPTIONS => Ok(TargetForm::Asterisk),
        Some("*") => Err(RequestFault::Asterisk),
        Some(path) if path.starts_with('/') => Ok(if http1_authority {
            TargetForm::Absolute
        } else {
            TargetForm::Origin
        }),
        _ if http1_authority => Ok(TargetForm::Absolute),
        _ => Err(RequestFault::Target),
    }
}

fn host_field<'a>(head: &Head<'a>) -> Result<Option<RequestHost<'a>>, RequestFault> {
    let mut values = head.headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(RequestFault::HostRepeated);
    }
    Ok(Some(parse_host(value.as_bytes())?))
}

fn http1_host<'a>(
    authority: Option<RequestHost<'a>>,
    field: Option<RequestHost<'a>>,
    version: Version,
) -> Result<RequestHost<'a>, RequestFault> {
    if field.is_none() && version != Version::HTTP_10 {
        return Err(RequestFault::HostMissing);
    }
    match authority {
        Some(host) if host.is_none() => Err(RequestFault::HostMissing),
        Some(host) => Ok(host),
        None => Ok(field.unwrap_or(RequestHost::NONE)),
    }
}

fn http2_host<'a>(
    authority: Option<RequestHost<'a>>,
    field: Option<RequestHost<'a>>,
    scheme: Scheme,
) -> Result<RequestHost<'a>, RequestFault> {
    let port = |host: &RequestHost<'_>| host.port().unwrap_or_else(|| scheme.default_port());
    match (authority, field) {
        (Some(authority), Some(field))
            if authority.canonical() != field.canonical() || port(&authority) != port(&field) =>
        {
            Err(RequestFault::HostMismatch)
        }
        (Some(host), _) | (None, Some(host)) if !host.is_none() => Ok(host),
        _ => Err(RequestFault::HostMissing),
    }
}

fn is_http2(head: &Head<'_>) -> bool {
    head.version == Version::HTTP_2
}

#[cfg(test)]
mod tests;

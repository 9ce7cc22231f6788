//! The host of a request: a strict reading of the `Host` field and of `:authority`.

use std::{borrow::Cow, net::Ipv6Addr};

use thiserror::Error;

/// The authority of a request, checked: `uri-host [":" port]` without userinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHost<'a> {
    text: &'a str,
    canonical: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> RequestHost<'a> {
    /// No host: an HTTP/1.0 request without `Host`, or an empty field.
    pub const NONE: RequestHost<'static> = RequestHost {
        text: "",
        canonical: Cow::Borrowed(""),
        port: None,
    };

    /// The host as rules and certificates are looked up: lower-case, without port and trailing dot; an IPv6 address in
    /// brackets and in the form of RFC 5952; empty when the request names no host.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The port as the client wrote it, if any.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The bytes of the client, port included: what goes upstream as `Host`.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether the request names no host.
    pub fn is_none(&self) -> bool {
        self.canonical.is_empty()
    }
}

/// Why bytes are no `uri-host [":" port]`; every one is answered with 400 (RFC 9112 3.2).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum HostFault {
    /// A byte that no host name or port holds: userinfo, a comma, white space, percent-encoding, `<`, bytes above 127.
    #[error("host holds a character that is not allowed")]
    Character,
    /// Two dots in a row, a leading dot, or nothing before the port.
    #[error("host has an empty label")]
    EmptyLabel,
    /// Brackets around something that is no IPv6 address (zones and `IPvFuture` are not served).
    #[error("host has brackets without an IPv6 address")]
    Ipv6,
    /// A port that is no number from 0 to 65535.
    #[error("host has a bad port")]
    Port,
    /// More than 253 characters.
    #[error("host is longer than 253 characters")]
    TooLong,
}

/// Reads a `Host` value or an `:authority`: `uri-host [":" port]` (RFC 3986 3.2.2, RFC 9110 7.2).
///
/// Stricter than the RFC in what a `reg-name` may hold: letters, digits, `-`, `.` and `_`, no percent-encoding, because
/// no rule can name anything else. An empty port (`example.com:`) is legal (RFC 3986 3.2.3) and means none. Empty bytes
/// give [`RequestHost::NONE`].
///
/// # Errors
/// When the bytes are anything else. Not retryable.
///
/// # Cost
/// One pass; allocates only when the name has to be lowered or an IPv6 address rewritten.
pub fn parse_host(bytes: &[u8]) -> Result<RequestHost<'_>, HostFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| HostFault::Character)?;
    if text.is_empty() {
        return Ok(RequestHost::NONE);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return parse_ipv6(text, rest);
    }
    let (name, port) = text
        .split_once(':')
        .map_or((text, None), |(name, port)| (name, Some(port)));
    let canonical = parse_name(name)?;
    Ok(RequestHost {
        text,
        canonical,
        port: parse_port(port)?,
    })
}

fn parse_ipv6<'a>(text: &'a str, rest: &'a str) -> Result<RequestHost<'a>, HostFault> {
    let (address, after) = rest.split_once(']').ok_or(HostFault::Ipv6)?;
    let parsed: Ipv6Addr = address.parse().map_err(|_| HostFault::Ipv6)?;
    let port = match after {
        "" => None,
        _ => Some(after.strip_prefix(':').ok_or(HostFault::Character)?),
    };
    let canonical = format!("[{parsed}]");
    let bracketed = text.strip_suffix(after).unwrap_or(text);
    let canonical = if bracketed == canonical {
        Cow::Borrowed(bracketed)
    } else {
        Cow::Owned(canonical)
    };
    Ok(RequestHost {
        text,
        canonical,
        port: parse_port(port)?,
    })
}

fn parse_name(name: &str) -> Result<Cow<'_, str>, HostFault> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut upper = false;
    let mut before = b'.';
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' => upper = true,
            b'.' if before == b'.' => return Err(HostFault::EmptyLabel),
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {}
            _ => return Err(HostFault::Character),
        }
        before = byte;
    }
    if before == b'.' {
        return Err(HostFault::EmptyLabel);
    }
    if name.len() > MAX_NAME {
        return Err(HostFault::TooLong);
    }
    Ok(if upper {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

fn parse_port(port: Option<&str>) -> Result<Option<u16>, HostFault> {
    match port {
        None | Some("") => Ok(None),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| HostFault::Port)
        }
        Some(_) => Err(HostFault::Port),
    }
}

/// Length of a DNS name in text form without the trailing dot (RFC 1035 3.1).
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests;

//! The grammars of annotation values.

use std::{net::IpAddr, sync::Arc, time::Duration};

use propylon_model::{
    Algorithm, HashOn, HostName, Probe, ProxyVersion, RetryOn, SameSite,
    duration::{parse_duration, parse_duration_within},
};

use super::{AffinityKind, Form, LbPath, Redirect, Value};
use crate::world::PortRef;

/// A value, or what is wrong with the text.
type Read = Result<Value, String>;

impl Form {
    /// Reads a value; surrounding white space does not count.
    pub(crate) fn read(self, text: &str) -> Read {
        let text = text.trim();
        match self {
            Self::Affinity | Self::Algorithm | Self::LbPath | Self::ProxyVersion | Self::Redirect | Self::Switch => {
                self.word(text)
            }
            Self::SameSite => same_site(text),
            Self::DurationOrOff | Self::CountOrOff if text == "off" => Ok(Value::Off),
            Self::CookieAge if text == "session" => Ok(Value::Off),
            Self::Duration | Self::DurationOrOff | Self::CookieAge | Self::Interval => self.duration(text),
            Self::CookieDomain => host(text.strip_prefix('.').unwrap_or(text)),
            Self::HostName => host(text),
            Self::CookieName => token(text, "cookie").map(Value::Name),
            Self::CookiePath => cookie_path(text),
            Self::Count { least, most } => count(text, least, most),
            Self::CountOrOff => count(text, 1, u32::MAX),
            Self::HashOn => hash_on(text),
            Self::HealthCheck => health_check(text),
            Self::Ports => ports(text),
            Self::RetryOn => retry_on(text),
            Self::SecretName => secret_name(text),
            Self::Addresses => addresses(text),
            Self::Text if text.is_empty() => Err("it is empty".to_owned()),
            Self::Text => Ok(Value::Name(text.into())),
        }
    }

    /// One of a few words.
    fn word(self, text: &str) -> Read {
        let words: &[(&str, Value)] = match self {
            Self::Affinity => &[
                ("none", Value::Affinity(AffinityKind::None)),
                ("cookie", Value::Affinity(AffinityKind::Cookie)),
                ("client-ip", Value::Affinity(AffinityKind::ClientIp)),
            ],
            Self::Algorithm => &[
                ("least-request", Value::Algorithm(Algorithm::LeastRequest)),
                ("ewma", Value::Algorithm(Algorithm::Ewma)),
                ("round-robin", Value::Algorithm(Algorithm::RoundRobin)),
                ("maglev", Value::Algorithm(Algorithm::Maglev)),
            ],
            Self::LbPath => &[
                ("proxy", Value::LbPath(LbPath::Proxy)),
                ("kernel", Value::LbPath(LbPath::Kernel)),
            ],
            Self::ProxyVersion => &[
                ("v1", Value::ProxyVersion(ProxyVersion::V1)),
                ("v2", Value::ProxyVersion(ProxyVersion::V2)),
            ],
            Self::Redirect => &[
                ("auto", Value::Redirect(Redirect::Auto)),
                ("true", Value::Redirect(Redirect::Always)),
                ("false", Value::Redirect(Redirect::Never)),
            ],
            _ => &[("true", Value::Switch(true)), ("false", Value::Switch(false))],
        };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            format!("'{text}' is none of {} and {last}", others.join(", "))
        })
    }

    fn duration(self, text: &str) -> Read {
        let day = Duration::from_hours(24);
        let read = match self {
            Self::CookieAge => parse_duration_within(text, Duration::from_secs(1), Duration::from_hours(9600)),
            Self::Interval => parse_duration_within(text, Duration::from_millis(100), day),
            _ => parse_duration(text),
        };
        read.map(Value::Duration).map_err(|error| error.to_string())
    }
}

fn same_site(text: &str) -> Read {
    let known = [SameSite::Lax, SameSite::Strict, SameSite::None];
    let found = known
        .into_iter()
        .find(|value| value.as_str().eq_ignore_ascii_case(text));
    found
        .map(Value::SameSite)
        .ok_or_else(|| format!("'{text}' is none of Lax, Strict and None"))
}

fn host(text: &str) -> Read {
    HostName::parse(text)
        .map(|name| Value::Name(name.as_str().into()))
        .map_err(|error| error.to_string())
}

/// A token (RFC 9110 5.6.2), of which names of header fields and cookies are made.
fn token(text: &str, what: &str) -> Result<Arc<str>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=256).contains(&text.len()) && text.bytes().all(is_token) {
        Ok(text.into())
    } else {
        Err(format!(
            "'{text}' is no name of a {what} (1 to 256 letters, digits and !#$%&'*+-.^_`|~)"
        ))
    }
}

fn cookie_path(text: &str) -> Read {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        Ok(Value::Name(text.into()))
    } else {
        Err(format!(
            "'{text}' is no path (it begins with '/' and has no space and no ';')"
        ))
    }
}

fn count(text: &str, least: u32, most: u32) -> Read {
    let number: Option<u32> = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.map(Value::Count).ok_or_else(|| {
        if most == u32::MAX {
            format!("'{text}' is no whole number from {least}")
        } else {
            format!("'{text}' is no whole number from {least} to {most}")
        }
    })
}

fn hash_on(text: &str) -> Read {
    let read = match text.split_once(':') {
        None if text == "client-ip" => HashOn::ClientIp,
        None if text == "uri" => HashOn::Uri,
        Some(("header", name)) => HashOn::Header(token(&name.to_ascii_lowercase(), "header field")?),
        Some(("cookie", name)) => HashOn::Cookie(token(name, "cookie")?),
        Some(("query", name)) if !name.is_empty() => HashOn::Query(name.into()),
        _ => return Err(format!("'{text}' is nothing of a request that can be hashed")),
    };
    Ok(Value::HashOn(read))
}

fn health_check(text: &str) -> Read {
    let is_service = |name: &str| {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        !name.is_empty() && name.bytes().all(is_name)
    };
    let is_path =
        |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let probe = match text.split_once(':') {
        None if text == "none" => None,
        None if text == "tcp" => Some(Probe::Tcp),
        None if text == "grpc" => Some(Probe::Grpc("".into())),
        Some(("http", path)) if is_path(path) => Some(Probe::Http(path.into())),
        Some(("grpc", name)) if is_service(name) => Some(Probe::Grpc(name.into())),
        _ => return Err(format!("'{text}' is no check")),
    };
    Ok(Value::HealthCheck(probe))
}

fn retry_on(text: &str) -> Read {
    let mut on = RetryOn::NEVER;
    for item in text.split(',').map(str::trim) {
        let condition = match item {
            "connect-failure" => &mut on.connect_failure,
            "reset" => &mut on.reset,
            "429" => &mut on.status_429,
            "502" => &mut on.status_502,
            "503" => &mut on.status_503,
            "504" => &mut on.status_504,
            _ => {
                return Err(format!(
                    "'{item}' is none of connect-failure, reset, 429, 502, 503 and 504 (for no retries write retries: \"0\")"
                ));
            }
        };
        *condition = true;
    }
    Ok(Value::RetryOn(on))
}

fn ports(text: &str) -> Read {
    if text == "*" {
        return Ok(Value::Ports(None));
    }
    let port = |item: &str| match item.parse::<u16>() {
        Ok(number) if number > 0 => Ok(PortRef::Number(number)),
        Err(_) if is_port_name(item) => Ok(PortRef::Name(item.into())),
        _ => Err(format!("'{item}' is no name and no number of a port")),
    };
    let ports: Result<Vec<PortRef>, String> = text.split(',').map(|item| port(item.trim())).collect();
    Ok(Value::Ports(Some(ports?.into())))
}

fn is_port_name(text: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(is_name) && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn addresses(text: &str) -> Read {
    match text.split(',').find(|item| item.trim().parse::<IpAddr>().is_err()) {
        Some(wrong) => Err(format!("'{}' is no IP address", wrong.trim())),
        None => Ok(Value::Name(text.into())),
    }
}

fn secret_name(text: &str) -> Read {
    let is_name = |text: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !text.is_empty() && text.bytes().all(is_of_name)
    };
    let (namespace, name) = text
        .split_once('/')
        .map_or((None, text), |(namespace, name)| (Some(namespace), name));
    if is_name(name) && namespace.is_none_or(is_name) {
        Ok(Value::Name(text.into()))
    } else {
        Err(format!("'{text}' is no name of a Secret, and no NAMESPACE/NAME of one"))
    }
}

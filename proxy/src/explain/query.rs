//! Which request is to be explained, and its form in a URL's query.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::edge::Scheme;

/// A request that nobody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// `http://HOST[:PORT]/PATH?QUERY`, or `https://...`; nothing of it is made canonical.
    pub url: String,
    /// The method. Default `GET`.
    pub method: String,
    /// Fields beside `Host`, which the URL gives unless it is here.
    pub headers: Vec<(String, String)>,
    /// Where it comes from, after a PROXY header. Default 127.0.0.1.
    pub client_ip: IpAddr,
}

/// Why a request cannot be explained; not retryable, the message says what to write.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QueryError {
    /// The address of the client is none.
    #[error("client address '{0}' is no IP address; write one such as 203.0.113.7 or 2001:db8::7")]
    ClientIp(String),
    /// A field without a colon, or on more than one line.
    #[error("header '{0}' is no header field; write 'NAME: VALUE', on one line")]
    Header(String),
    /// The URL names no host.
    #[error("the URL '{0}' names no host; write http://HOST/PATH or https://HOST/PATH")]
    HostMissing(String),
    /// A control character.
    #[error("the {0} holds a control character; percent-encode it")]
    Control(&'static str),
    /// A parameter of the query is unknown.
    #[error("parameter '{0}' is not known; url, method, header (repeatable) and client-ip are")]
    Parameter(String),
    /// A port that is none.
    #[error("the port of the URL '{0}' is no number from 1 to 65535")]
    Port(String),
    /// Neither http nor https.
    #[error("the URL '{0}' has no scheme that is served; begin it with http:// or https://")]
    Scheme(String),
    /// A name and perhaps a password before the host.
    #[error("the URL '{0}' holds user information before the host; send it with -H 'Authorization: ...' instead")]
    UserInformation(String),
    /// No URL.
    #[error("no URL is given; write http://HOST/PATH or https://HOST/PATH")]
    UrlMissing,
}

/// The parts of a URL, as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: Scheme,
    /// What a client sends as `Host`: the port only where it is not the scheme's own.
    pub(super) authority: &'a str,
    /// The host in lower case would be the server name; brackets and port left out.
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// Path and query; empty: `/`.
    pub(super) target: &'a str,
}

impl Query {
    /// A GET of a URL from this machine.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Reads `NAME: VALUE`.
    ///
    /// # Errors
    /// [`QueryError::Header`].
    pub fn header(text: &str) -> Result<(String, String), QueryError> {
        let refused = || QueryError::Header(text.escape_debug().to_string());
        let (name, value) = text.split_once(':').ok_or_else(refused)?;
        if name.is_empty() || text.contains(['\r', '\n']) {
            return Err(refused());
        }
        Ok((name.to_owned(), value.trim().to_owned()))
    }

    /// Whether it is a request that can be explained.
    ///
    /// # Errors
    /// When the URL is none, or the URL or the method holds a control character.
    pub fn check(&self) -> Result<(), QueryError> {
        self.url().map(drop)
    }

    /// The query of the admin server's `/explain`, percent-encoded.
    pub fn to_query_string(&self) -> String {
        let mut text = String::new();
        let mut push = |name: &str, value: &str| {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            encode(value, &mut text);
        };
        push("url", &self.url);
        push("method", &self.method);
        push("client-ip", &self.client_ip.to_string());
        for (name, value) in &self.headers {
            push("header", &format!("{name}: {value}"));
        }
        text
    }

    /// Reads [`Query::to_query_string`], every parameter but `url` optional.
    ///
    /// # Errors
    /// When a parameter is unknown or does not parse.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::get("");
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match name {
                "url" => query.url = value,
                "method" => query.method = value,
                "client-ip" => query.client_ip = value.parse().map_err(|_| QueryError::ClientIp(value))?,
                "header" => query.headers.push(Self::header(&value)?),
                other => return Err(QueryError::Parameter(decode(other))),
            }
        }
        query.check()?;
        Ok(query)
    }

    /// Takes the URL apart.
    pub(super) fn url(&self) -> Result<Url<'_>, QueryError> {
        let refused = |error: fn(String) -> QueryError| error(self.url.clone());
        if self.url.is_empty() {
            return Err(QueryError::UrlMissing);
        }
        for (text, name) in [(&self.url, "URL"), (&self.method, "method")] {
            if text.contains(|character: char| character.is_ascii_control()) {
                return Err(QueryError::Control(name));
            }
        }
        // A fragment never leaves the client (RFC 9110 7.1).
        let url = self.url.split('#').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused(QueryError::Scheme))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(refused(QueryError::Scheme)),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (written, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if written.contains('@') {
            return Err(refused(QueryError::UserInformation));
        }
        let (host, port) = split_port(written);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() {
            return Err(refused(QueryError::HostMissing));
        }
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(refused(QueryError::Port)),
                Ok(port) => port,
            },
        };
        Ok(Url {
            scheme,
            authority: if port == scheme.default_port() { host } else { written },
            host: bare,
            port,
            target,
        })
    }
}

impl Url<'_> {
    /// The server name that a client sends; none for an IP address (RFC 6066 3).
    pub(super) fn server_name(&self) -> Option<String> {
        let is_address = self.host.parse::<Ipv4Addr>().is_ok() || self.host.parse::<Ipv6Addr>().is_ok();
        let name = self.host.strip_suffix('.').unwrap_or(self.host);
        (!is_address).then(|| name.to_ascii_lowercase())
    }
}

/// Splits `HOST[:PORT]`; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            _ => {
                let digit = |value: u8| {
                    char::from_digit(u32::from(value), 16)
                        .unwrap_or('0')
                        .to_ascii_uppercase()
                };
                out.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
            }
        }
    }
}

/// Decodes `%XX`; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let octet = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (b'%', Some(octet)) = (first, octet) {
            bytes.push(octet);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> QueryError {
        Query::get(url).url().unwrap_err()
    }

    #[test]
    fn a_url_is_taken_apart_as_it_was_written() {
        let query = Query::get("http://Shop.Example:8080/a/../%2f?x=/#y");
        let url = query.url().unwrap();
        assert_eq!(
            (url.authority, url.host, url.port),
            ("Shop.Example:8080", "Shop.Example", 8080)
        );
        assert_eq!(url.target, "/a/../%2f?x=/");
        let query = Query::get("https://[::1]:443?q");
        let url = query.url().unwrap();
        assert_eq!((url.authority, url.target, url.server_name()), ("[::1]", "?q", None));
        assert_eq!(
            Query::get("https://A.test./").url().unwrap().server_name().as_deref(),
            Some("a.test")
        );
    }

    #[test]
    fn what_is_no_url_says_so() {
        assert!(matches!(error("shop.example/"), QueryError::Scheme(_)));
        assert!(matches!(error("ftp://shop.example/"), QueryError::Scheme(_)));
        assert!(matches!(error("http:///x"), QueryError::HostMissing(_)));
        assert!(matches!(error("http://:80/x"), QueryError::HostMissing(_)));
        assert!(matches!(error("http://a:0/"), QueryError::Port(_)));
        assert!(matches!(error("http://a:http/"), QueryError::Port(_)));
        assert!(matches!(error("http://u:p@a/"), QueryError::UserInformation(_)));
        assert_eq!(error("http://a/\r\n"), QueryError::Control("URL"));
        assert_eq!(error(""), QueryError::UrlMissing);
    }

    #[test]
    fn a_query_goes_round() {
        let mut query = Query::get("https://a.test/x?a=b&c=%20#f");
        query.method = "POST".to_owned();
        query.client_ip = "2001:db8::1".parse().unwrap();
        query.headers = vec![("X-Ä".to_owned(), "1 & 2 = 3%".to_owned())];
        assert_eq!(Query::parse(&query.to_query_string()), Ok(query));
        assert_eq!(
            Query::parse("url=http://a/&verbose"),
            Err(QueryError::Parameter("verbose".to_owned()))
        );
        assert!(matches!(Query::parse("client-ip=here"), Err(QueryError::ClientIp(_))));
        assert_eq!(Query::parse(""), Err(QueryError::UrlMissing));
        assert!(Query::header("no colon").is_err() && Query::header(": x").is_err());
    }
}

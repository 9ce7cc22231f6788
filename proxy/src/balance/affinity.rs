//! The affinity cookie: its value says which endpoint serves the client, and only we can read it.
//!
//! The address is sealed with AES-256-GCM-SIV (RFC 8452) under a key that all replicas share: a client can neither read
//! nor choose its endpoint, and two clients cannot even tell whether they have the same one.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use propylon_model::AffinityCookie;
use thiserror::Error;

/// The key of affinity cookies.
pub struct StickyKey(LessSafeKey);

/// Why a secret makes no key; not retryable, the message says what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StickyKeyError {
    /// Too short to be random enough.
    #[error("has {0} bytes, wanted are 32 random ones at least; make one with: head -c 32 /dev/urandom")]
    TooShort(usize),
    /// The cipher refused the key.
    #[error("cannot be used as a key")]
    Refused,
}

impl StickyKey {
    /// The key of a secret: its SHA-256, white space at its end aside.
    ///
    /// # Errors
    /// When the secret has less than 32 bytes. Not retryable.
    pub fn new(secret: &[u8]) -> Result<Self, StickyKeyError> {
        let secret = secret.trim_ascii_end();
        if secret.len() < LEAST_SECRET {
            return Err(StickyKeyError::TooShort(secret.len()));
        }
        let digest = digest::digest(&digest::SHA256, secret);
        UnboundKey::new(&AES_256_GCM_SIV, digest.as_ref())
            .map(|key| Self(LessSafeKey::new(key)))
            .map_err(|_| StickyKeyError::Refused)
    }

    /// Seals an endpoint into a cookie's value; `scope` (the name of the list of endpoints) must be the same to open it.
    /// `nonce` must be random.
    ///
    /// # Errors
    /// Where the cipher fails, which it does not.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], scope: &str, endpoint: SocketAddr) -> Result<String, StickyKeyError> {
        let mut sealed = Vec::with_capacity(TOKEN_LEN);
        sealed.extend_from_slice(&to_ipv6(endpoint.ip()).octets());
        sealed.extend_from_slice(&endpoint.port().to_be_bytes());
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(scope.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| StickyKeyError::Refused)?;
        sealed.splice(0..0, nonce);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The endpoint of a cookie's value; none where we did not make it for this scope.
    pub fn open(&self, scope: &str, value: &[u8]) -> Option<SocketAddr> {
        let mut token = [0_u8; TOKEN_LEN];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut token).ok()?;
        if length != TOKEN_LEN {
            return None;
        }
        let (nonce, sealed) = token.split_first_chunk_mut::<NONCE_LEN>()?;
        let opened = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(scope.as_bytes()),
                sealed,
            )
            .ok()?;
        let (address, port) = opened.split_first_chunk::<16>()?;
        let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
        let port = u16::from_be_bytes(*port.first_chunk()?);
        Some(SocketAddr::new(address, port))
    }
}

impl fmt::Debug for StickyKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StickyKey")
    }
}

/// Whether the connection to the client is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Plain HTTP.
    Plain,
    /// HTTPS.
    Tls,
}

/// The value of `Set-Cookie` (RFC 6265 4.1): `HttpOnly` always, `Secure` on HTTPS. None where a part of it cannot stand in
/// a field.
pub fn set_cookie(cookie: &AffinityCookie, token: &str, rule_path: &str, channel: Channel) -> Option<HeaderValue> {
    use fmt::Write as _;
    let path = cookie.path.as_deref().unwrap_or(rule_path);
    // A semicolon would end the attribute.
    let path = if path.starts_with('/') && !path.contains(';') {
        path
    } else {
        "/"
    };
    let mut text = format!("{}={token}; Path={path}", cookie.name);
    let written = match (&cookie.domain, cookie.max_age) {
        (Some(domain), Some(age)) => write!(text, "; Domain={domain}; Max-Age={}", age.as_secs()),
        (Some(domain), None) => write!(text, "; Domain={domain}"),
        (None, Some(age)) => write!(text, "; Max-Age={}", age.as_secs()),
        (None, None) => Ok(()),
    };
    written.ok()?;
    text.push_str("; HttpOnly; SameSite=");
    text.push_str(cookie.same_site.as_str());
    if channel == Channel::Tls {
        text.push_str("; Secure");
    }
    HeaderValue::from_str(&text).ok()
}

fn to_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

const LEAST_SECRET: usize = 32;
/// Nonce, address, port, tag.
const TOKEN_LEN: usize = NONCE_LEN + 16 + 2 + 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use propylon_model::SameSite;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key() -> StickyKey {
        StickyKey::new(SECRET).unwrap()
    }

    #[test]
    fn replicas_with_the_same_secret_agree() {
        let with_newline = [SECRET, b"\n"].concat();
        for address in ["10.1.2.3:8080", "[fd00::1]:443"] {
            let address: SocketAddr = address.parse().unwrap();
            let value = key().seal([7; 12], "shop/cart:80", address).unwrap();
            let other = StickyKey::new(&with_newline).unwrap();
            assert_eq!(other.open("shop/cart:80", value.as_bytes()), Some(address));
        }
    }

    #[test]
    fn nothing_of_the_endpoint_shows() {
        let seal = |nonce, address: &str| key().seal([nonce; 12], "a/b:80", address.parse().unwrap()).unwrap();
        let (one, two) = (seal(1, "10.1.2.3:8080"), seal(2, "10.1.2.3:8080"));
        assert_ne!(one.as_bytes()[16..], two.as_bytes()[16..], "the same endpoint");
        assert_eq!(one.len(), seal(1, "[fd00::1]:80").len());
        let raw = URL_SAFE_NO_PAD.decode(&one).unwrap();
        assert!(!raw.windows(4).any(|window| window == [10, 1, 2, 3]));
    }

    #[test]
    fn what_is_not_ours_is_not_opened() {
        let address = "10.1.2.3:8080".parse().unwrap();
        let value = key().seal([7; 12], "shop/cart:80", address).unwrap();
        assert_eq!(key().open("shop/other:80", value.as_bytes()), None, "another Service");
        let other = StickyKey::new(b"another secret of more than 32 bytes").unwrap();
        assert_eq!(other.open("shop/cart:80", value.as_bytes()), None, "another key");
        for index in 0..value.len() {
            let mut bad = value.clone().into_bytes();
            bad[index] = if bad[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(key().open("shop/cart:80", &bad), None, "changed at {index}");
        }
        for bad in ["", "abc", "10.1.2.3:8080", "%", &"A".repeat(500)] {
            assert_eq!(key().open("shop/cart:80", bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_with_a_way_to_make_one() {
        let error = StickyKey::new(b"short\n\n").unwrap_err().to_string();
        assert!(
            error.contains("has 5 bytes") && error.contains("/dev/urandom"),
            "{error}"
        );
    }

    #[test]
    fn attributes_of_the_cookie() {
        let plain = set_cookie(&AffinityCookie::default(), "T", "/shop", Channel::Plain).unwrap();
        assert_eq!(plain, "PROPYLON=T; Path=/shop; HttpOnly; SameSite=Lax");
        let cookie = AffinityCookie {
            name: "SID".into(),
            max_age: Some(Duration::from_hours(1)),
            path: Some("/x".into()),
            domain: Some("example.com".into()),
            same_site: SameSite::None,
        };
        let full = set_cookie(&cookie, "T", "/shop", Channel::Tls).unwrap();
        assert_eq!(
            full,
            "SID=T; Path=/x; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=None; Secure"
        );
        let odd = set_cookie(&AffinityCookie::default(), "T", "/a;b", Channel::Plain).unwrap();
        assert_eq!(odd, "PROPYLON=T; Path=/; HttpOnly; SameSite=Lax");
    }
}

//! Who the client is, and what backends are told about it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Scheme;

/// The peers whose forwarded fields are believed; empty by default.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    /// Takes the networks; a v4-mapped IPv6 network counts as the IPv4 one.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: networks.into_iter().map(unmap_network).collect(),
        }
    }

    /// Whether an address lies in one of the networks.
    ///
    /// # Cost
    /// Linear in the number of networks; nothing when there is none.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// The peer of one connection, prepared once: after the PROXY header where there is one.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    address: SocketAddr,
    text: Box<str>,
    trusted: bool,
}

impl PeerInfo {
    /// Prepares the peer's text form; a v4-mapped address becomes IPv4.
    pub fn new(peer: SocketAddr, trust: &TrustedProxies) -> Self {
        let address = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self {
            address,
            text: address.ip().to_string().into(),
            trusted: trust.contains(address.ip()),
        }
    }

    /// The address, never v4-mapped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The IP address as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether forwarded fields of this peer are believed.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// The client of a request: the peer, or where the peer is trusted the rightmost address of `X-Forwarded-For` that
    /// is not; an entry that is no address ends the walk at the last one that was, and so does the end of the list.
    pub fn client_address(&self, headers: &HeaderMap, trust: &TrustedProxies) -> IpAddr {
        let peer = self.address.ip();
        if !self.trusted {
            return peer;
        }
        let mut client = peer;
        for value in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
            for entry in value.as_bytes().rsplit(|byte| *byte == b',') {
                match parse_entry(entry.trim_ascii()) {
                    Some(address) if trust.contains(address) => client = address,
                    Some(address) => return address,
                    None => return client,
                }
            }
        }
        client
    }
}

/// What a request says of itself, beside its fields.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// How the client reached us.
    pub scheme: Scheme,
    /// The authority as the client wrote it ([`super::RequestHost::text`]).
    pub host: &'a str,
    /// The port that clients reach this listener under (`--https-public-port` for HTTPS).
    pub port: u16,
    /// Randomness for a request id.
    pub random: u128,
}

/// The forwarded fields of one request, ready to be written; borrows from the request and its connection.
///
/// `X-Forwarded-For` (a trusted peer's list, then the peer), `X-Real-IP` (the client), `X-Forwarded-Proto`, `-Host` and
/// `-Port` and `X-Request-ID` (kept from a trusted peer where they are sane, else ours). The client's own fields of
/// these names must not be copied.
#[derive(Clone, Debug)]
pub struct ForwardedFields<'a> {
    /// The client's address.
    pub client: IpAddr,
    list: Option<&'a HeaderMap>,
    peer: &'a PeerInfo,
    proto: &'a [u8],
    host: &'a [u8],
    port: Port<'a>,
    id: RequestId<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Port<'a> {
    Kept(&'a [u8]),
    Ours(u16),
}

#[derive(Clone, Copy, Debug)]
enum RequestId<'a> {
    Kept(&'a [u8]),
    Ours([u8; 32]),
}

impl<'a> ForwardedFields<'a> {
    /// Decides every value.
    ///
    /// # Cost
    /// No allocation; looks fields up only when the peer is trusted.
    pub fn new(peer: &'a PeerInfo, trust: &TrustedProxies, headers: &'a HeaderMap, seen: &Seen<'a>) -> Self {
        let kept = peer.trusted.then_some(headers);
        let keep = |name: &HeaderName, sane: fn(&[u8]) -> bool| {
            let value = only(kept?, name)?;
            sane(value).then_some(value)
        };
        let proto = keep(&X_FORWARDED_PROTO, is_scheme);
        let port = if proto.is_some_and(|proto| !proto.eq_ignore_ascii_case(seen.scheme.as_str().as_bytes())) {
            // A proxy before us ended TLS (or began it): our own port would contradict the scheme.
            if seen.scheme == Scheme::Http { 443 } else { 80 }
        } else {
            seen.port
        };
        Self {
            client: peer.client_address(headers, trust),
            list: kept.filter(|headers| headers.contains_key(&X_FORWARDED_FOR)),
            peer,
            proto: proto.unwrap_or(seen.scheme.as_str().as_bytes()),
            host: keep(&X_FORWARDED_HOST, is_sane).unwrap_or(seen.host.as_bytes()),
            port: keep(&X_FORWARDED_PORT, is_port).map_or(Port::Ours(port), Port::Kept),
            id: keep(&X_REQUEST_ID, is_sane).map_or_else(|| RequestId::Ours(hex(seen.random)), RequestId::Kept),
        }
    }

    /// The request id, for logs.
    pub fn request_id(&self) -> &[u8] {
        match &self.id {
            RequestId::Kept(bytes) => bytes,
            RequestId::Ours(bytes) => bytes,
        }
    }

    /// Whether the client is taken to have used HTTPS: by the listener, or by a trusted peer's `X-Forwarded-Proto`.
    pub fn is_https(&self) -> bool {
        self.proto.eq_ignore_ascii_case(b"https")
    }

    /// Every name and value, in a fixed order, borrowed from the request and from `scratch`, which can be used again for
    /// the next request.
    ///
    /// # Cost
    /// One allocation at most, none when `scratch` has the room.
    pub fn list<'b>(&'b self, scratch: &'b mut Scratch) -> FieldList<'b> {
        let text = &mut scratch.0;
        text.clear();
        text.reserve(SCRATCH_BYTES);
        self.write_list(text);
        let list_end = text.len();
        let client_is_peer = self.client == self.peer.address.ip();
        if !client_is_peer {
            write_text(text, &self.client);
        }
        let client_end = text.len();
        if let Port::Ours(port) = self.port {
            text.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        let (list, rest) = text.split_at(list_end);
        let (client, port) = rest.split_at(client_end - list_end);
        FieldList {
            fields: [
                (&X_FORWARDED_FOR, list),
                (
                    &X_REAL_IP,
                    if client_is_peer {
                        self.peer.text.as_bytes()
                    } else {
                        client
                    },
                ),
                (&X_FORWARDED_PROTO, self.proto),
                (
                    &X_FORWARDED_PORT,
                    if let Port::Kept(kept) = self.port { kept } else { port },
                ),
                (&X_REQUEST_ID, self.request_id()),
                (&X_FORWARDED_HOST, self.host),
            ],
        }
    }

    fn write_list(&self, out: &mut Vec<u8>) {
        for value in self.list.iter().flat_map(|headers| headers.get_all(&X_FORWARDED_FOR)) {
            if !value.is_empty() {
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(self.peer.text.as_bytes());
    }
}

/// The fields that are sent; six, or five when the request names no host.
#[derive(Clone, Copy, Debug)]
pub struct FieldList<'a> {
    /// `X-Forwarded-Host` is the last, so that it can be left off.
    fields: [(&'static HeaderName, &'a [u8]); 6],
}

impl<'a> Deref for FieldList<'a> {
    type Target = [(&'static HeaderName, &'a [u8])];

    fn deref(&self) -> &Self::Target {
        match self.fields.split_last() {
            Some(((_, []), rest)) => rest,
            _ => &self.fields,
        }
    }
}

/// A buffer that [`ForwardedFields`] puts values together in.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

/// Appends the text of an address.
fn write_text(out: &mut Vec<u8>, address: &IpAddr) {
    use std::io::Write as _;
    // Writing to a Vec never fails.
    if write!(out, "{address}").is_err() {
        debug_assert!(false, "a Vec takes every byte");
    }
}

/// The one value of a field; a repeated one counts as none.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// An entry of `X-Forwarded-For`: an address, with a port where some proxies add one, IPv6 then in brackets.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let port = after.strip_prefix(':');
            if !after.is_empty() && !port.is_some_and(|port| is_port(port.as_bytes())) {
                return None;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => text.parse().ok().or_else(|| {
            text.parse()
                .ok()
                .map(|address: std::net::SocketAddrV4| IpAddr::V4(*address.ip()))
        })?,
    };
    Some(address.to_canonical())
}

fn is_scheme(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"https")
}

fn is_port(value: &[u8]) -> bool {
    (1..=5).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(value).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

fn is_sane(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

fn hex(random: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    let mut rest = random;
    for digit in digits.iter_mut().rev() {
        let nibble = u8::try_from(rest & 0xf).unwrap_or_default();
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        rest >>= 4;
    }
    digits
}

fn unmap_network(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(network, IpNet::V4),
            None => network,
        },
        _ => network,
    }
}

/// Enough for a list of a few addresses, the client and a port.
const SCRATCH_BYTES: usize = 128;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests;

//! The PROXY protocol, versions 1 and 2: who is behind a load balancer that forwards connections.
//!
//! What it is: a parser without I/O ([`parse`]) and a reader that takes exactly the header off a socket
//! ([`read_header`]), and writers of both versions ([`push_v1`], [`push_v2`]). Source: haproxy doc/proxy-protocol.txt,
//! 2020/03/05.
//!
//! What it is not: it does not decide who may send a header; the listener does (`--proxy-protocol`).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;
use tokio::{io::AsyncReadExt, net::TcpStream};

mod write;

pub use write::{Carried, MAX_WRITTEN, push_v1, push_v2};

/// The addresses that a PROXY header carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The client; `None` for `LOCAL`, `UNKNOWN` and families without ports: the peer of the socket then counts.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
}

/// A whole PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Length of the header; payload begins behind it.
    pub consumed: usize,
    /// The addresses.
    pub addresses: Addresses,
}

/// Why there is no header (yet).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// The bytes begin a header; more are needed.
    #[error("the PROXY header is incomplete")]
    Incomplete,
    /// The bytes are no header.
    #[error("not a PROXY header: {0}")]
    Invalid(&'static str),
}

/// Reads one header at the start of `buffer`.
///
/// Version 1: one line of at most 107 bytes with CRLF. Version 2: at most 4 KiB with its TLVs, whose lengths must fill it
/// exactly and whose content is skipped (a CRC is not verified). A `LOCAL` or `UNKNOWN` header gives no address.
///
/// # Errors
/// [`ParseError::Incomplete`] until the whole header is there (retry with more bytes); `Invalid` as soon as no
/// continuation could be a header (not retryable).
pub fn parse(buffer: &[u8]) -> Result<Parsed, ParseError> {
    if starts_like(buffer, V2_SIGNATURE) {
        parse_v2(buffer)
    } else if starts_like(buffer, V1_PREFIX) {
        parse_v1(buffer)
    } else {
        Err(ParseError::Invalid("no signature"))
    }
}

/// Takes one header off the socket and nothing behind it.
///
/// The deadline is the caller's.
///
/// # Errors
/// `InvalidData` when the peer sends something else, `UnexpectedEof` when it ends first, else what the socket says; the
/// connection is of no use afterwards.
///
/// # Cancel safety
/// Not cancel safe: bytes may have been consumed. Drop the socket with the future.
pub async fn read_header(stream: &mut TcpStream) -> io::Result<Addresses> {
    // On the heap, and only for this call: the future of every connection would carry it otherwise.
    let mut buffer = vec![0_u8; MAX_V2];
    let mut filled = 0;
    loop {
        let free = buffer.get_mut(filled..).unwrap_or_default();
        let seen = stream.peek(free).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let total = filled + seen;
        let outcome = parse(buffer.get(..total).unwrap_or_default());
        let take = match outcome {
            Ok(parsed) => parsed.consumed.saturating_sub(filled),
            Err(ParseError::Incomplete) => seen,
            Err(error @ ParseError::Invalid(_)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        // What was peeked is in the receive queue, so this does not wait.
        stream
            .read_exact(buffer.get_mut(filled..filled + take).unwrap_or_default())
            .await?;
        filled += take;
        if let Ok(parsed) = outcome {
            return Ok(parsed.addresses);
        }
    }
}

fn starts_like(buffer: &[u8], signature: &[u8]) -> bool {
    let length = buffer.len().min(signature.len());
    buffer.get(..length) == signature.get(..length)
}

fn parse_v1(buffer: &[u8]) -> Result<Parsed, ParseError> {
    let window = buffer.get(..buffer.len().min(MAX_V1)).unwrap_or_default();
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return Err(if buffer.len() >= MAX_V1 {
            ParseError::Invalid("line too long")
        } else {
            ParseError::Incomplete
        });
    };
    let line = window
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or(ParseError::Invalid("no CRLF"))?;
    let line = std::str::from_utf8(line).map_err(|_| ParseError::Invalid("not ASCII"))?;
    let rest = line.strip_prefix("PROXY ").ok_or(ParseError::Invalid("no signature"))?;
    let addresses = v1_addresses(rest).ok_or(ParseError::Invalid("bad addresses"))?;
    Ok(Parsed {
        consumed: end + 1,
        addresses,
    })
}

fn v1_addresses(rest: &str) -> Option<Addresses> {
    let mut words = rest.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Addresses::default());
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (v1_port(words.next()?)?, v1_port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    Some(Addresses {
        source: Some(SocketAddr::new(address(source)?, source_port)),
        destination: Some(SocketAddr::new(address(destination)?, destination_port)),
    })
}

fn v1_port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with('0');
    if !plain || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_v2(buffer: &[u8]) -> Result<Parsed, ParseError> {
    let Some((signature, rest)) = buffer.split_at_checked(V2_SIGNATURE.len()) else {
        return Err(ParseError::Incomplete);
    };
    debug_assert_eq!(signature, V2_SIGNATURE);
    let Some((&[command, family, high, low], rest)) = rest.split_first_chunk::<4>() else {
        return early_v2(rest);
    };
    check_v2(command, family)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let consumed = V2_FIXED + length;
    if consumed > MAX_V2 {
        return Err(ParseError::Invalid("header too long"));
    }
    let body = rest.get(..length).ok_or(ParseError::Incomplete)?;
    if command == V2_LOCAL {
        return Ok(Parsed {
            consumed,
            addresses: Addresses::default(),
        });
    }
    let (addresses, tlvs) = v2_addresses(family, body).ok_or(ParseError::Invalid("addresses do not fit"))?;
    if !tlvs_fit(tlvs) {
        return Err(ParseError::Invalid("TLVs do not fit"));
    }
    Ok(Parsed { consumed, addresses })
}

/// Refuses a header whose length is not there yet but whose command or family is already wrong.
fn early_v2(rest: &[u8]) -> Result<Parsed, ParseError> {
    match rest {
        [command, family, ..] => check_v2(*command, *family)?,
        [command] => check_v2(*command, 0)?,
        [] => {}
    }
    Err(ParseError::Incomplete)
}

fn check_v2(command: u8, family: u8) -> Result<(), ParseError> {
    if !matches!(command, V2_LOCAL | V2_PROXY) {
        return Err(ParseError::Invalid("unknown version or command"));
    }
    if !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(ParseError::Invalid("unknown address family"));
    }
    Ok(())
}

fn v2_addresses(family: u8, body: &[u8]) -> Option<(Addresses, &[u8])> {
    match family >> 4 {
        1 => {
            let (source, rest) = body.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            v2_ports(
                Ipv4Addr::from(*source).into(),
                Ipv4Addr::from(*destination).into(),
                rest,
            )
        }
        2 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            v2_ports(
                Ipv6Addr::from(*source).into(),
                Ipv6Addr::from(*destination).into(),
                rest,
            )
        }
        3 => Some((Addresses::default(), body.get(V2_UNIX..)?)),
        // AF_UNSPEC: whatever follows is to be ignored (section 2.2).
        _ => Some((Addresses::default(), &[])),
    }
}

fn v2_ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Option<(Addresses, &[u8])> {
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, rest) = rest.split_first_chunk::<2>()?;
    let addresses = Addresses {
        source: Some(SocketAddr::new(source, u16::from_be_bytes(*source_port))),
        destination: Some(SocketAddr::new(destination, u16::from_be_bytes(*destination_port))),
    };
    Some((addresses, rest))
}

fn tlvs_fit(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some((&[_kind, high, low], after)) = rest.split_first_chunk::<3>() else {
            return false;
        };
        let Some(next) = after.get(usize::from(u16::from_be_bytes([high, low]))..) else {
            return false;
        };
        rest = next;
    }
    true
}

const V1_PREFIX: &[u8] = b"PROXY ";
/// Longest line of version 1, CRLF included (specification, section 2.1).
const MAX_V1: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL: the sender's own connection, a health check for one.
const V2_LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
const V2_FIXED: usize = 16;
const V2_UNIX: usize = 216;
/// Longest header of version 2 that is read; the format allows 64 KiB, senders stay far below this.
const MAX_V2: usize = 4096;

#[cfg(test)]
mod tests;

//! The server name of a `ClientHello`, as far as it has arrived.

use rustls::server::Acceptor;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The beginning of a `ClientHello`.
    Incomplete,
    /// A `ClientHello` with a server name.
    Name(String),
    /// One without, or something else.
    NoName,
}

/// Looks at the bytes from the beginning of a connection.
///
/// # Cost
/// Until the `ClientHello` is complete, a few instructions per record, so that one that comes byte by byte costs little.
pub(super) fn look(bytes: &[u8]) -> Sight {
    match is_complete(bytes) {
        None => Sight::NoName,
        Some(false) => Sight::Incomplete,
        Some(true) => parse(bytes).map_or(Sight::NoName, Sight::Name),
    }
}

/// Whether the first handshake message (RFC 8446 4) is all there, possibly in several records (section 5.1); none where
/// the bytes are no `ClientHello`.
fn is_complete(mut bytes: &[u8]) -> Option<bool> {
    let mut header = [0_u8; 4];
    let mut have = 0_usize;
    let mut wanted: Option<usize> = None;
    loop {
        match bytes.first() {
            None => return Some(false),
            Some(kind) if *kind != HANDSHAKE => return None,
            Some(_) => {}
        }
        let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else {
            return Some(false);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > MOST_RECORD {
            return None;
        }
        let payload = rest.get(..length.min(rest.len())).unwrap_or_default();
        for (place, byte) in header.iter_mut().skip(have).zip(payload) {
            *place = *byte;
        }
        have += payload.len();
        if have >= 1 && header.first() != Some(&CLIENT_HELLO) {
            return None;
        }
        if have >= header.len() {
            let [_, high, middle, low] = header;
            wanted = Some(header.len() + u32::from_be_bytes([0, high, middle, low]) as usize);
        }
        if wanted.is_some_and(|wanted| have >= wanted) {
            return Some(true);
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
}

fn parse(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    loop {
        let before = bytes.len();
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
        if bytes.len() == before {
            return None;
        }
    }
}

/// Content type of a record (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
/// Type of a handshake message (RFC 8446 4).
const CLIENT_HELLO: u8 = 1;
/// Payload of a record at most (RFC 8446 5.1; senders of TLS 1.2 may add to it, but never before a `ServerHello`).
const MOST_RECORD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of another size.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let chunks = bytes[5..].chunks(size);
        chunks
            .flat_map(|chunk| {
                let length = u16::try_from(chunk.len()).unwrap().to_be_bytes();
                [&[HANDSHAKE, 3, 1], length.as_slice(), chunk].concat()
            })
            .collect()
    }

    #[test]
    fn the_name_is_found_once_everything_is_there() {
        let bytes = hello("App.example.com");
        for records in [bytes.clone(), in_records(&bytes, 1), in_records(&bytes, 100)] {
            for seen in 0..records.len() {
                assert_eq!(look(&records[..seen]), Sight::Incomplete, "{seen} of {}", records.len());
            }
            assert_eq!(look(&records), Sight::Name("app.example.com".to_owned()));
        }
    }

    #[test]
    fn a_client_without_a_name_has_none() {
        assert_eq!(look(&hello("127.0.0.1")), Sight::NoName);
    }

    #[test]
    fn what_is_no_hello_is_seen_at_its_first_bytes() {
        for bytes in [
            b"GET / HTTP/1.1".as_slice(),
            b"\x16\x03\x01\0\x01\x02",
            b"\x16\x03\x01\0\0",
            b"\x15",
        ] {
            assert_eq!(look(bytes), Sight::NoName, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(look(&bytes));
            let mut record = vec![HANDSHAKE, 3, 1, 1, 0];
            record.extend_from_slice(&bytes);
            drop(look(&record));
        }
    }
}

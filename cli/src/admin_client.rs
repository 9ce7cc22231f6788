//! A client of the admin listener: one GET per connection, with a deadline.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use thiserror::Error;

/// Why the admin listener gave no answer.
#[derive(Debug, Error)]
pub(crate) enum AdminClientError {
    /// It is no address.
    #[error("--admin {0}: write HOST:PORT, such as 127.0.0.1:9902")]
    Address(String),
    /// Nothing answers there, or not in time. Retryable.
    #[error(
        "no answer from the admin address {address}: {source}; is the proxy running there? `--admin HOST:PORT` names another"
    )]
    Connect {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What answers is no proxy of this version.
    #[error("{address}{path} answers {what}; is that the admin address of a proxy of this version?")]
    Unexpected {
        /// The address.
        address: String,
        /// What was asked for.
        path: String,
        /// What came.
        what: String,
    },
}

/// Gets the body of a path of the admin listener at `HOST:PORT`.
///
/// # Errors
/// See [`AdminClientError`]; all but a malformed address are retryable.
pub(crate) fn get(admin: &str, path: &str) -> Result<Vec<u8>, AdminClientError> {
    let failed = |source| AdminClientError::Connect {
        address: admin.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = admin
        .to_socket_addrs()
        .map_err(|_| AdminClientError::Address(admin.to_owned()))?
        .collect();
    let mut stream = connect(&addresses).map_err(failed)?;
    let answer = exchange(&mut stream, path).map_err(failed)?;
    body_of(&answer).map_err(|what| AdminClientError::Unexpected {
        address: admin.to_owned(),
        path: path.to_owned(),
        what,
    })
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, DEADLINE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(stream: &mut TcpStream, path: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    // The name of the peer, by its address: the listener answers to no other (protection from DNS rebinding).
    let host = stream.peer_addr()?;
    // HTTP/1.0: the answer ends with the connection and has no transfer coding (RFC 9112 6.1).
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// The body of an answer 200 that is complete, else what it is instead.
fn body_of(answer: &[u8]) -> Result<Vec<u8>, String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some((head, body)) = end.and_then(|end| answer.split_at_checked(end + 4)) else {
        return Err("something else than HTTP".to_owned());
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    match status.and_then(|rest| rest.split(' ').nth(1)) {
        Some("200") => {}
        Some(status) => return Err(format!("status {}", status.chars().take(3).collect::<String>())),
        None => return Err("something else than HTTP".to_owned()),
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match length {
        Some(length) if length != body.len() => Err(format!("{} of {length} bytes", body.len())),
        _ => Ok(body.to_vec()),
    }
}

/// How long a connect, a read or a write may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_200_has_a_body() {
        assert_eq!(
            body_of(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            Ok(b"ok".to_vec())
        );
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\n\r\nok"), Ok(b"ok".to_vec()));
        for (answer, what) in [
            (b"HTTP/1.1 404 Not Found\r\n\r\n".as_slice(), "status 404"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "2 of 3 bytes"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "something else than HTTP"),
            (b"\x15\x03", "something else than HTTP"),
        ] {
            assert_eq!(body_of(answer), Err(what.to_owned()));
        }
    }

    #[test]
    fn an_address_that_is_none_and_one_that_does_not_answer_are_told_apart() {
        assert!(matches!(get("nonsense", "/"), Err(AdminClientError::Address(_))));
        // A port that was free a moment ago: nothing listens on it.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = get(&free.to_string(), "/").unwrap_err();
        assert!(error.to_string().contains("is the proxy running there?"), "{error}");
    }
}

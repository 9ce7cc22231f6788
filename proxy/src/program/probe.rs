//! `propylon-proxy probe`: one question to the status socket, for the exec probes of a kubelet.
//!
//! On the network of the host, a probe by port would be answered by whichever pod has the port; the socket is the pod's own.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum as _;
use thiserror::Error;

use super::flags::{ProbeArgs, ProbeName};

/// Why a probe got no answer. Retryable: the process may be starting.
#[derive(Debug, Error)]
enum ProbeError {
    #[error("no socket is named; give --socket, or PROPYLON_STATUS_SOCKET as the proxy has it")]
    NoSocket,
    #[error("{path}: {source}; does the proxy run with --status-socket {path}?")]
    Socket { path: PathBuf, source: io::Error },
    #[error("{path} answers with something else than HTTP")]
    NotHttp { path: PathBuf },
}

/// Prints the answer, and tells by the exit code whether the probe holds.
pub(super) fn probe(args: &ProbeArgs) -> ExitCode {
    let (holds, text) = match answer(args) {
        Ok(answer) => answer,
        Err(error) => (false, format!("error: {error}\n")),
    };
    // A kubelet shows either; where nobody listens, the exit code says it.
    drop(io::stdout().write_all(text.as_bytes()));
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn answer(args: &ProbeArgs) -> Result<(bool, String), ProbeError> {
    let path = args.socket.as_deref().ok_or(ProbeError::NoSocket)?;
    let failed = |source| ProbeError::Socket {
        path: path.to_owned(),
        source,
    };
    let response = ask(path, args.probe).map_err(failed)?;
    parse(&response).ok_or_else(|| ProbeError::NotHttp { path: path.to_owned() })
}

fn ask(path: &Path, probe: ProbeName) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let name = probe.to_possible_value().map(|value| value.get_name().to_owned());
    let name = name.unwrap_or_default();
    write!(
        stream,
        "GET /{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut response)?;
    Ok(response)
}

/// Whether the status is 200, and the body.
fn parse(response: &str) -> Option<(bool, String)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    Some((status == "200", body.to_owned()))
}

/// How long the process may take to answer; a kubelet waits for 1 s unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most of an answer that is read.
const MOST_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_and_the_body_is_shown() {
        let good = parse("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").unwrap();
        assert_eq!(good, (true, "ok\n".to_owned()));
        let bad = parse("HTTP/1.1 503 Service Unavailable\r\n\r\nfailed\n").unwrap();
        assert!(!bad.0);
        assert!(parse("SSH-2.0").is_none());
    }

    #[test]
    fn a_missing_socket_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let args = ProbeArgs {
            socket: Some(folder.path().join("none")),
            probe: ProbeName::Livez,
        };
        let error = answer(&args).unwrap_err().to_string();
        assert!(error.contains("--status-socket"), "{error}");
    }
}

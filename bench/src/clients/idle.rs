//! Connections that served one GET each and then do nothing.
//!
//! Prints `ready` when all are open, holds them until a line arrives on standard input, and counts those that
//! the proxy closed meanwhile as errors.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::{ClientConnection, Stream};
use rustls_pki_types::ServerName;

use super::Outcome;
use crate::args::LoadArgs;
use crate::certs::client_config;
use crate::http::{HOST, exchange, get};

/// Opens `connections` one after the other.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let config = args.ca.as_deref().map(|ca| client_config(ca, false)).transpose()?;
    let (request, mut buffer) = (get(&args.path), vec![0; 16 * 1024]);
    let mut held = Vec::new();
    for index in 0..args.connections {
        let mut tcp = TcpStream::connect(args.addr).with_context(|| format!("connection {index}"))?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut tls = config
            .as_ref()
            .map(|config| ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST)?).context("TLS"))
            .transpose()?;
        let status = match &mut tls {
            Some(tls) => exchange(&mut Stream::new(tls, &mut tcp), &request, &mut buffer),
            None => exchange(&mut tcp, &request, &mut buffer),
        };
        match status.with_context(|| format!("connection {index}"))? {
            200 => held.push((tcp, tls)),
            status => bail!("connection {index} got status {status}"),
        }
    }
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let closed = held.iter().filter(|(tcp, _)| !is_open(tcp)).count() as u64;
    Ok(Outcome {
        requests: held.len() as u64 - closed,
        errors: closed,
        ..Outcome::default()
    })
}

fn is_open(mut tcp: &TcpStream) -> bool {
    if tcp.set_nonblocking(true).is_err() {
        return false;
    }
    match tcp.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

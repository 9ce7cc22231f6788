//! Connections that served one GET each and then do nothing.
//!
//! Prints `ready` when all are open, holds them until a line arrives on standard input, and counts those that
//! the proxy closed meanwhile as errors.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection, Stream};
use rustls_pki_types::ServerName;

use super::Outcome;
use crate::args::LoadArgs;
use crate::certs::client_config;
use crate::http::{HOST, exchange, get};

/// A held connection.
type Held = (TcpStream, Option<ClientConnection>);

/// How many threads open connections: some proxies answer a first request over TLS only after a delayed
/// acknowledgement of 40 ms.
const THREADS: usize = 16;

/// Opens `connections`, spread over some threads.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let config = args.ca.as_deref().map(|ca| client_config(ca, false)).transpose()?;
    let mut threads = Vec::new();
    for index in 0..THREADS {
        let share = args.connections / THREADS + usize::from(index < args.connections % THREADS);
        let (args, config) = (args.clone(), config.clone());
        threads.push(std::thread::spawn(move || {
            (0..share)
                .map(|_| open(&args, config.as_ref()))
                .collect::<Result<Vec<Held>>>()
        }));
    }
    let mut held = Vec::new();
    for thread in threads {
        held.extend(thread.join().map_err(|_| anyhow::anyhow!("a client thread ended"))??);
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

fn open(args: &LoadArgs, config: Option<&Arc<ClientConfig>>) -> Result<Held> {
    let mut tcp = TcpStream::connect(args.addr).context("connect")?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut tls = config
        .map(|config| ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST)?).context("TLS"))
        .transpose()?;
    let (request, mut buffer) = (get(&args.path), vec![0; 16 * 1024]);
    let status = match &mut tls {
        Some(tls) => exchange(&mut Stream::new(tls, &mut tcp), &request, &mut buffer),
        None => exchange(&mut tcp, &request, &mut buffer),
    };
    match status.context("the one request of an idle connection")? {
        200 => Ok((tcp, tls)),
        status => bail!("the one request of an idle connection got status {status}"),
    }
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

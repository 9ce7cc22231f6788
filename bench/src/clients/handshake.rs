//! TCP connect, TLS handshake, one GET, close; again until the time is over.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, Stream};
use rustls_pki_types::ServerName;

use super::Outcome;
use crate::args::LoadArgs;
use crate::certs::client_config;
use crate::clock::{now_ns, seconds_ns};
use crate::http::{HOST, exchange, get};

/// Runs `connections` threads for `seconds`, each with its own tickets if `resume`.
pub(super) fn run(args: &LoadArgs, resume: bool) -> Result<Outcome> {
    let ca = args.ca.as_deref().context("--ca is needed")?;
    let end = now_ns() + seconds_ns(args.seconds);
    let mut threads = Vec::new();
    for _ in 0..args.connections {
        let (config, args) = (client_config(ca, resume)?, args.clone());
        threads.push(std::thread::spawn(move || one_after_the_other(&args, &config, end)));
    }
    let mut sum = Outcome::default();
    for thread in threads {
        sum.merge(thread.join().map_err(|_| anyhow::anyhow!("a client thread ended"))?);
    }
    Ok(sum)
}

fn one_after_the_other(args: &LoadArgs, config: &Arc<ClientConfig>, end: u64) -> Outcome {
    let request = get(&args.path);
    let mut buffer = vec![0; 16 * 1024];
    let mut seen = Outcome::default();
    while now_ns() < end {
        match once(args, config, &request, &mut buffer) {
            Ok((200, connection)) => {
                seen.requests += 1;
                seen.resumed += u64::from(connection.handshake_kind() == Some(HandshakeKind::Resumed));
                seen.tls = describe(&connection);
            }
            Ok(_) | Err(_) => seen.errors += 1,
        }
    }
    seen
}

fn once(
    args: &LoadArgs,
    config: &Arc<ClientConfig>,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<(u16, ClientConnection)> {
    let limit = Duration::from_secs(5);
    let mut tcp = TcpStream::connect_timeout(&args.addr, limit)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(limit))?;
    let mut connection = ClientConnection::new(Arc::clone(config), ServerName::try_from(HOST)?)?;
    let status = exchange(&mut Stream::new(&mut connection, &mut tcp), request, buffer)?;
    connection.send_close_notify();
    connection.write_tls(&mut tcp)?;
    Ok((status, connection))
}

fn describe(connection: &ClientConnection) -> String {
    let version = connection.protocol_version();
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    let group = connection
        .negotiated_key_exchange_group()
        .map(rustls::crypto::SupportedKxGroup::name);
    format!("{version:?} {suite:?} {group:?}")
        .replace("Some(", "")
        .replace(')', "")
}

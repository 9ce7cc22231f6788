//! An exact number of GETs over keep-alive connections, one thread per connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::Outcome;
use crate::args::LoadArgs;
use crate::certs::client_config;
use crate::http::{HOST, exchange, get};

/// A plain or TLS connection.
pub(super) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// Splits `requests` over `connections` and sends them; a connection that fails counts its rest as errors.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let mut threads = Vec::new();
    for index in 0..args.connections {
        let share = args.requests / args.connections + usize::from(index < args.requests % args.connections);
        let (mut wire, path) = (connect(args)?, args.path.clone());
        threads.push(std::thread::spawn(move || send(wire.as_mut(), &path, share)));
    }
    let mut sum = Outcome::default();
    for thread in threads {
        sum.merge(thread.join().map_err(|_| anyhow::anyhow!("a client thread ended"))?);
    }
    Ok(sum)
}

/// Opens a connection, with TLS if an authority is given.
pub(super) fn connect(args: &LoadArgs) -> Result<Box<dyn Wire>> {
    let tcp = TcpStream::connect(args.addr)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_mins(1)))?;
    let Some(ca) = &args.ca else { return Ok(Box::new(tcp)) };
    let connection = ClientConnection::new(client_config(ca, false)?, ServerName::try_from(HOST)?)?;
    Ok(Box::new(StreamOwned::new(connection, tcp)))
}

fn send(mut wire: &mut dyn Wire, path: &str, share: usize) -> Outcome {
    let (request, mut buffer) = (get(path), vec![0; 64 * 1024]);
    let mut seen = Outcome::default();
    for sent in 0..share {
        match exchange(&mut wire, &request, &mut buffer) {
            Ok(200) => seen.requests += 1,
            Ok(_) => seen.errors += 1,
            Err(error) => {
                eprintln!("a connection failed: {error:#}");
                seen.errors += (share - sent) as u64;
                break;
            }
        }
    }
    seen
}

//! Clients and servers that speak bytes, for messages that no library would send.

mod client;
mod scripted;

pub use client::{RawClient, RawResponse, accept_any_certificate};
pub use scripted::{ScriptedServer, Step, scripted_server};

use std::{io, net::SocketAddr};

/// Sends `request` on a new connection and gives everything that comes back until the peer closes, or until it is
/// silent for [`crate::wait::PATIENCE`].
///
/// A server that keeps the connection alive makes this wait: ask it to close, or use [`RawClient::response`].
///
/// # Errors
/// When the connection cannot be made, or breaks before anything came back.
pub fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut client = RawClient::connect(address)?;
    client.send(request)?;
    client.rest()
}

#[cfg(test)]
mod tests;

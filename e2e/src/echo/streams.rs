//! The TCP echo.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::introduction;

pub(super) async fn serve(listener: TcpListener, facts: Arc<BTreeMap<String, String>>) {
    let mut connections = JoinSet::new();
    loop {
        // Cancel safe: accept and join_next lose nothing when dropped.
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, peer)) = accepted {
                    connections.spawn(echo(stream, peer, Arc::clone(&facts)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Introduces itself, then gives every byte back until the client has ended its half.
async fn echo(mut stream: TcpStream, peer: SocketAddr, facts: Arc<BTreeMap<String, String>>) {
    let line = format!("{}\n", Value::Object(introduction(&facts, peer)));
    if stream.write_all(line.as_bytes()).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    // An error is the peer's going away.
    drop(tokio::io::copy(&mut reader, &mut writer).await);
    drop(writer.shutdown().await);
}

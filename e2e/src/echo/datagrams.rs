//! The UDP echo.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio::net::UdpSocket;

use super::introduction;

/// Bytes of the largest datagram.
const LARGEST: usize = 65_535;

pub(super) async fn serve(socket: UdpSocket, facts: Arc<BTreeMap<String, String>>) {
    let mut bytes = vec![0; LARGEST];
    loop {
        // An error is that of an earlier answer, which its client did not want any more.
        let Ok((length, peer)) = socket.recv_from(&mut bytes).await else {
            continue;
        };
        let mut report = introduction(&facts, peer);
        let payload = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        report.insert("payload".to_owned(), Value::from(payload));
        drop(socket.send_to(Value::Object(report).to_string().as_bytes(), peer).await);
    }
}

//! WebSocket and other upgrades, from HTTP/1.1 or by extended CONNECT over HTTP/2.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::body::{self, Body, Failure};

/// Whether a request asks to leave HTTP.
pub(super) fn is_wanted(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(header::UPGRADE) || request.method() == Method::CONNECT
}

/// Agrees to the upgrade, and echoes on the connection (or stream) from then on.
pub(super) fn accept(mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let tunnel = request
        .extensions()
        .get::<Protocol>()
        .map(|protocol| protocol.as_str().to_owned());
    let upgraded = hyper::upgrade::on(&mut request);
    let protocol = request.headers().get(header::UPGRADE).cloned();
    let is_websocket = match (&tunnel, &protocol) {
        (Some(tunnel), _) => tunnel == "websocket",
        (None, Some(protocol)) => protocol.as_bytes().eq_ignore_ascii_case(b"websocket"),
        (None, None) => return refuse("a CONNECT without :protocol"),
    };
    let mut response = Response::new(body::full(Bytes::new()));
    if tunnel.is_none() {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response
            .headers_mut()
            .extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
        if is_websocket {
            let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
                return refuse("no sec-websocket-key");
            };
            let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))?;
            response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    let runtime = tokio::runtime::Handle::try_current()?;
    if is_websocket {
        runtime.spawn(echo_messages(upgraded));
    } else {
        runtime.spawn(echo_bytes(upgraded));
    }
    Ok(response)
}

fn refuse(reason: &'static str) -> Result<Response<Body>, Failure> {
    Ok(Response::builder()
        .status(StatusCode::BAD_REQUEST)
        .body(body::full(reason))?)
}

/// Echoes text and binary messages; pings are answered and a close is confirmed by the library as it reads.
async fn echo_messages(upgraded: OnUpgrade) {
    let Ok(upgraded) = upgraded.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn echo_bytes(upgraded: OnUpgrade) {
    let Ok(upgraded) = upgraded.await else { return };
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
    // An error is the peer's going away.
    drop(tokio::io::copy(&mut reader, &mut writer).await);
    drop(tokio::io::AsyncWriteExt::shutdown(&mut writer).await);
}

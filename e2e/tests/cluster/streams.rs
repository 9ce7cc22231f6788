//! `WebSocket`s and gRPC streams that are held open, and how they ended.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use propylon_testkit::wait;
use tokio::{net::TcpStream, runtime::Runtime, sync::watch, task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::Message;

/// Of each kind, at each address.
const EACH: usize = 4;

/// Between two messages; what a stream is silent for longer than four of these has lost its peer.
const BEAT_MS: u64 = 250;
const SILENCE: Duration = Duration::from_secs(10);

/// How streams ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Still open.
    pub(crate) kept: usize,
    /// Ended by a close frame or by trailers.
    pub(crate) drained: usize,
    /// Ended in any other way.
    pub(crate) cut: usize,
}

/// How one stream ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Cut,
    Drained,
    Kept,
}

/// Streams that run until they are closed.
pub(crate) struct Streams {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<End>>,
}

impl Streams {
    /// Opens streams of both kinds at every address, and waits until each has had an answer.
    pub(crate) fn open(addresses: &[SocketAddr], websocket_host: &'static str, grpc_host: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = watch::channel(false);
        let alive = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for address in addresses.iter().copied().cycle().take(EACH * addresses.len()) {
            tasks.push(runtime.spawn(websocket(address, websocket_host, Arc::clone(&alive), stopped.clone())));
            tasks.push(runtime.spawn(grpc(address, grpc_host, Arc::clone(&alive), stopped.clone())));
        }
        let all = wait::until(wait::PATIENCE, || alive.load(SeqCst) == tasks.len());
        assert!(
            all.is_some(),
            "{} of {} streams were opened",
            alive.load(SeqCst),
            tasks.len()
        );
        Self { runtime, stop, tasks }
    }

    /// Ends those that are still open, and counts.
    pub(crate) fn close(self) -> Held {
        self.stop.send_replace(true);
        let mut held = Held::default();
        for task in self.tasks {
            match self.runtime.block_on(task).unwrap() {
                End::Cut => held.cut += 1,
                End::Drained => held.drained += 1,
                End::Kept => held.kept += 1,
            }
        }
        held
    }
}

async fn websocket(
    address: SocketAddr,
    host: &'static str,
    alive: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) -> End {
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{host}/websocket");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut is_first = true;
    loop {
        if socket.send(Message::text("beat")).await.is_err() {
            return End::Cut;
        }
        match timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(Message::Close(_)))) => return End::Drained,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) | Err(_) => return End::Cut,
        }
        if std::mem::take(&mut is_first) {
            alive.fetch_add(1, SeqCst);
        }
        // Cancel safe: neither holds anything.
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return End::Kept,
            () = tokio::time::sleep(Duration::from_millis(BEAT_MS)) => {}
        }
    }
}

async fn grpc(
    address: SocketAddr,
    host: &'static str,
    alive: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) -> End {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::task::JoinSet::from_iter([connection]);
    let request = Request::post(format!("http://{host}/echo.Echo/Repeat"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("echo-count", "1000000")
        .header("echo-interval-ms", BEAT_MS)
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"\0\0\0\0\x04beat"), true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let mut is_first = true;
    let end = loop {
        // Cancel safe: data that was not taken stays.
        let data = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break End::Kept,
            data = timeout(SILENCE, answer.data()) => data,
        };
        match data {
            Ok(Some(Ok(data))) => drop(answer.flow_control().release_capacity(data.len())),
            Ok(None) => {
                let trailers = answer.trailers().await;
                break if matches!(trailers, Ok(Some(_))) {
                    End::Drained
                } else {
                    End::Cut
                };
            }
            Ok(Some(Err(_))) | Err(_) => break End::Cut,
        }
        if std::mem::take(&mut is_first) {
            alive.fetch_add(1, SeqCst);
        }
    };
    drop(connection);
    end
}

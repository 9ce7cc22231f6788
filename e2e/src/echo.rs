//! The echo server of the lab's pods: it says who it is and what it received.
//!
//! What it is: [`propylon_testkit::echo`] on fixed ports, in the clear and with TLS (HTTP/1.1, h2c and HTTP/2,
//! WebSocket, gRPC), and echo servers of TCP and UDP. What it is not: a part of the product.
//!
//! Every answer names the pod, its node and its namespace, from the environment (Kubernetes' downward API) or flags:
//!
//! | port | default | answers |
//! |---|---|---|
//! | HTTP | 8080 | as [`propylon_testkit::echo`] says; reports have the members `pod`, `node`, `namespace` as well |
//! | HTTPS | 8443 | the same, with a certificate of its own or the one given |
//! | TCP | 9000 | a line of JSON (`pod`, `node`, `namespace`, `peer`), then every byte back |
//! | UDP | 9001 | for each datagram, one of JSON with the same members and `payload` |
//!
//! `/health` is the readiness and `/live` the liveness. On SIGTERM or SIGINT `/health` turns 503, everything is served
//! for [`Options::shutdown_delay_ms`] more, then connections are drained for at most [`Options::drain_ms`].
//!
//! Start from [`serve`].

mod datagrams;
mod streams;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer, spawn},
    wait,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value};
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What the server is told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on.
    #[arg(long, env = "ECHO_ADDRESS", default_value_t = IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    pub address: IpAddr,
    /// Port of HTTP in the clear; 0 lets the kernel choose.
    #[arg(long, env = "ECHO_HTTP_PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Port of HTTP with TLS.
    #[arg(long, env = "ECHO_HTTPS_PORT", default_value_t = 8443)]
    pub https_port: u16,
    /// Port of the TCP echo.
    #[arg(long, env = "ECHO_TCP_PORT", default_value_t = 9000)]
    pub tcp_port: u16,
    /// Port of the UDP echo.
    #[arg(long, env = "ECHO_UDP_PORT", default_value_t = 9001)]
    pub udp_port: u16,
    /// File of the certificate chain, PEM; one for `localhost` and the pod's name is made otherwise.
    #[arg(long, env = "ECHO_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// File of its key, PEM.
    #[arg(long, env = "ECHO_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Name of the pod.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod: String,
    /// Name of its node.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    pub node: String,
    /// Its namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pub namespace: String,
    /// Name that stands in every report as `name`.
    #[arg(long, env = "ECHO_NAME", default_value = "echo")]
    pub name: String,
    /// Milliseconds between a signal to end and the end of serving.
    #[arg(long, env = "ECHO_SHUTDOWN_DELAY_MS", default_value_t = 0)]
    pub shutdown_delay_ms: u64,
    /// Milliseconds that exchanges under way get after that.
    #[arg(long, env = "ECHO_DRAIN_MS", default_value_t = 20_000)]
    pub drain_ms: u64,
}

/// A running server; it ends when this is dropped.
pub struct Echo {
    /// Where HTTP in the clear is spoken.
    pub http: SocketAddr,
    /// Where HTTP with TLS is.
    pub https: SocketAddr,
    /// Where TCP is.
    pub tcp: SocketAddr,
    /// Where UDP is.
    pub udp: SocketAddr,
    servers: [EchoServer; 2],
    sockets: JoinSet<()>,
}

/// Serves until a signal to end, and then as long as connections drain.
///
/// # Errors
/// When a port cannot be bound, or the certificate not be read. Retryable where the port is freed.
pub async fn serve(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let echo = Echo::start(&options).await?;
    // Cancel safe: a signal that came is not lost.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    echo.finish(&options).await;
    Ok(())
}

/// Does nothing until a signal to end: the program of a pod's sandbox.
///
/// # Errors
/// When signals cannot be listened for.
pub async fn pause() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut child = signal(SignalKind::child()).context("listening for SIGCHLD")?;
    loop {
        // Cancel safe: a signal that came is not lost.
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // As the first process of a pod it inherits orphans, whose ends someone has to take.
            _ = child.recv() => while matches!(rustix::process::wait(rustix::process::WaitOptions::NOHANG), Ok(Some(_))) {},
        }
    }
}

impl Echo {
    /// Binds all ports and serves them on the runtime of the caller.
    ///
    /// # Errors
    /// As [`serve`].
    pub async fn start(options: &Options) -> Result<Self> {
        let facts = options.facts();
        let runtime = Handle::current();
        let named = |port, tls| EchoOptions {
            name: options.name.clone(),
            address: (options.address, port).into(),
            tls,
            facts: facts.clone(),
        };
        let plain =
            spawn(&runtime, named(options.http_port, None)).with_context(|| bound("HTTP", options.http_port))?;
        let tls = spawn(&runtime, named(options.https_port, Some(options.tls()?)))
            .with_context(|| bound("HTTPS", options.https_port))?;
        let tcp = TcpListener::bind((options.address, options.tcp_port)).await;
        let tcp = tcp.with_context(|| bound("TCP", options.tcp_port))?;
        let udp = UdpSocket::bind((options.address, options.udp_port)).await;
        let udp = udp.with_context(|| bound("UDP", options.udp_port))?;
        let (tcp_address, udp_address) = (tcp.local_addr()?, udp.local_addr()?);
        let mut sockets = JoinSet::new();
        let facts = Arc::new(facts);
        sockets.spawn(streams::serve(tcp, Arc::clone(&facts)));
        sockets.spawn(datagrams::serve(udp, facts));
        Ok(Self {
            http: plain.address,
            https: tls.address,
            tcp: tcp_address,
            udp: udp_address,
            servers: [plain, tls],
            sockets,
        })
    }

    /// Fails the readiness, serves for the delay, drains, and ends.
    pub async fn finish(mut self, options: &Options) {
        for server in &self.servers {
            server.set_health(503);
        }
        sleep_until(Instant::now() + Duration::from_millis(options.shutdown_delay_ms)).await;
        for server in &self.servers {
            server.drain();
        }
        let is_drained = || self.servers.iter().all(|server| server.open_connections() == 0);
        // What is left then is cut.
        wait::until_async(Duration::from_millis(options.drain_ms), is_drained).await;
        self.sockets.shutdown().await;
    }
}

fn bound(protocol: &str, port: u16) -> String {
    format!("port {port} of {protocol} cannot be bound")
}

impl Options {
    fn facts(&self) -> BTreeMap<String, String> {
        let facts = [("pod", &self.pod), ("node", &self.node), ("namespace", &self.namespace)];
        facts
            .into_iter()
            .map(|(name, fact)| (name.to_owned(), fact.clone()))
            .collect()
    }

    fn tls(&self) -> Result<Arc<rustls::ServerConfig>> {
        let (Some(chain), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            let mut hosts = vec!["localhost", "127.0.0.1"];
            hosts.extend(Some(self.pod.as_str()).filter(|pod| !pod.is_empty()));
            return Ok(Authority::new("echo").leaf(&hosts).server_config(&["h2", "http/1.1"]));
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("reading {}", chain.display()))?;
        let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading {}", key.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("the certificate and the key")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What TCP and UDP answer of themselves and of the client.
fn introduction(facts: &BTreeMap<String, String>, peer: SocketAddr) -> Map<String, Value> {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
    let facts = facts
        .iter()
        .map(|(name, fact)| (name.clone(), Value::from(fact.as_str())));
    facts.chain([("peer".to_owned(), Value::from(peer))]).collect()
}

#[cfg(test)]
mod tests;

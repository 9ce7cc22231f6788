//! The workloads of `compare`: which client makes them, and what they may cost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::args::Client;
use crate::clients::Outcome;
use crate::clients::external::{parse_h2load, parse_wrk};
use crate::http::HOST;
use crate::lab::Lab;
use crate::peers::Running;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 1 KiB over HTTP/1.1 keep-alive, 64 connections.
    #[value(name = "h1-1k")]
    H1Small,
    /// 16 KiB over HTTP/1.1 keep-alive, 64 connections.
    #[value(name = "h1-16k")]
    H1Medium,
    /// 1 MiB over HTTP/1.1 keep-alive, 16 connections.
    #[value(name = "h1-1m")]
    H1Large,
    /// 1 KiB over TLS 1.3 keep-alive, 64 connections.
    #[value(name = "tls-1k")]
    TlsSmall,
    /// Connect, full TLS 1.3 handshake, one GET, close; 16 in parallel.
    #[value(name = "tls-handshake-full")]
    HandshakeFull,
    /// The same with resumption by ticket.
    #[value(name = "tls-handshake-resumed")]
    HandshakeResumed,
    /// 1 KiB over HTTP/2 with TLS, 16 connections with 32 streams each, HTTP/1.1 to the backend.
    #[value(name = "h2-h1")]
    H2,
    /// 1 KiB, a new TCP connection for each request, 64 in parallel.
    #[value(name = "conn-per-request")]
    ConnectionPerRequest,
    /// POST of 16 KiB answered with 1 KiB, 64 connections.
    #[value(name = "post-16k")]
    Post,
    /// 1 MiB responses over TCP forwarded as it is, 16 connections.
    #[value(name = "l4-bulk")]
    StreamBulk,
    /// A new TCP connection, forwarded as it is, for each 1 KiB, 64 in parallel.
    #[value(name = "l4-conn")]
    StreamConnections,
    /// Echoed datagrams of 512 bytes, 64 clients with four in flight.
    #[value(name = "l4-udp")]
    StreamUdp,
}

/// The greatest ratio that is accepted, and to whom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// To the better of all peers.
    Best(f64),
    /// To nginx.
    Nginx(f64),
}

impl Workload {
    /// The name on the command line and in tables.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// The greatest ratio (median of the pairs) that is accepted.
    pub(crate) fn target(self) -> Option<Target> {
        match self {
            Self::H1Small => Some(Target::Nginx(1.0)),
            Self::TlsSmall => Some(Target::Nginx(0.80)),
            Self::H2 => Some(Target::Nginx(0.85)),
            Self::HandshakeFull => Some(Target::Nginx(0.6)),
            Self::StreamBulk => Some(Target::Best(0.9)),
            Self::StreamConnections => Some(Target::Best(1.0)),
            Self::StreamUdp => Some(Target::Nginx(0.7)),
            _ => None,
        }
    }

    /// Whether bytes are forwarded without being read.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::StreamBulk | Self::StreamConnections | Self::StreamUdp)
    }

    /// Whether a proxy takes part: Envoy's layer 4 is not configured, and `HAProxy` forwards no UDP.
    pub(crate) fn is_for(self, proxy: &Running) -> bool {
        match self {
            Self::StreamUdp => proxy.stream.is_some() && proxy.name != "haproxy",
            _ => !self.is_stream() || proxy.stream.is_some(),
        }
    }

    /// The program of another project that it needs.
    pub(crate) fn tool(self) -> Option<&'static str> {
        match self {
            Self::H2 => Some("h2load"),
            Self::HandshakeFull | Self::HandshakeResumed | Self::StreamUdp => None,
            _ => Some("wrk"),
        }
    }

    /// Puts the load on `proxy` for `seconds`.
    ///
    /// # Errors
    ///
    /// When the load generator fails; single failed requests are in the outcome.
    pub(crate) fn run(self, lab: &Lab, proxy: &Running, seconds: u32) -> Result<Outcome> {
        match self {
            Self::H1Small => wrk(lab, seconds, 64, url("http", proxy.http, "/1k"), &[]),
            Self::H1Medium => wrk(lab, seconds, 64, url("http", proxy.http, "/16k"), &[]),
            Self::H1Large => wrk(lab, seconds, 16, url("http", proxy.http, "/1m"), &[]),
            Self::TlsSmall => wrk(lab, seconds, 64, url("https", proxy.https, "/1k"), &[]),
            Self::ConnectionPerRequest => wrk(
                lab,
                seconds,
                64,
                url("http", proxy.http, "/1k"),
                &["-H", "Connection: close"],
            ),
            Self::Post => {
                let script = post_script(lab.dir())?.display().to_string();
                wrk(lab, seconds, 64, url("http", proxy.http, "/1k"), &["-s", &script])
            }
            Self::HandshakeFull => handshakes(lab, seconds, proxy.https, Client::HandshakeFull),
            Self::HandshakeResumed => handshakes(lab, seconds, proxy.https, Client::HandshakeResumed),
            Self::H2 => h2load(lab, seconds, proxy.https),
            Self::StreamBulk => wrk(lab, seconds, 16, url("http", stream(proxy)?, "/1m"), &[]),
            Self::StreamConnections => wrk(
                lab,
                seconds,
                64,
                url("http", stream(proxy)?, "/1k"),
                &["-H", "Connection: close"],
            ),
            Self::StreamUdp => datagrams(lab, seconds, stream(proxy)?),
        }
    }
}

fn stream(proxy: &Running) -> Result<SocketAddr> {
    proxy.stream.context("no layer 4 listener")
}

fn datagrams(lab: &Lab, seconds: u32, addr: SocketAddr) -> Result<Outcome> {
    let args = [
        "--addr",
        &addr.to_string(),
        "--seconds",
        &seconds.to_string(),
        "--connections",
        "64",
    ];
    lab.run_client(seconds + 20, Client::Udp, &args.map(str::to_owned))
}

fn url(scheme: &str, addr: SocketAddr, path: &str) -> String {
    format!("{scheme}://{HOST}:{}{path}", addr.port())
}

fn post_script(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("post.lua");
    std::fs::write(&path, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 16384)\n")?;
    Ok(path)
}

fn wrk(lab: &Lab, seconds: u32, connections: u32, url: String, extra: &[&str]) -> Result<Outcome> {
    let mut args = vec!["-t1".to_owned(), format!("-c{connections}"), format!("-d{seconds}s")];
    args.extend(extra.iter().map(|&arg| arg.to_owned()));
    args.push(url);
    parse_wrk(&lab.run_load(seconds + 20, Path::new("wrk"), &args)?)
}

fn h2load(lab: &Lab, seconds: u32, addr: SocketAddr) -> Result<Outcome> {
    let args = [
        "-t1".to_owned(),
        "-c16".to_owned(),
        "-m32".to_owned(),
        format!("-D{seconds}"),
    ];
    let args: Vec<String> = args.into_iter().chain([url("https", addr, "/1k")]).collect();
    parse_h2load(&lab.run_load(seconds + 20, Path::new("h2load"), &args)?)
}

fn handshakes(lab: &Lab, seconds: u32, addr: SocketAddr, client: Client) -> Result<Outcome> {
    let ca = lab.certs.ca.display().to_string();
    let args = [
        "--addr",
        &addr.to_string(),
        "--ca",
        &ca,
        "--seconds",
        &seconds.to_string(),
        "--connections",
        "16",
    ];
    lab.run_client(seconds + 20, client, &args.map(str::to_owned))
}

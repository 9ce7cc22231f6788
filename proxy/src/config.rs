//! Flags of the data plane, shared by `propylon run` and the cluster's proxy, and the validated configuration.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use propylon_model::duration::parse_duration;
use thiserror::Error;

use crate::{
    balance::{affinity::StickyKey, locality::Here},
    sticky::{StickyFileError, read_key},
};

/// Flags of the data plane; each is also an environment variable `PROPYLON_...`.
#[derive(Args, Clone, Debug)]
pub struct DataPlaneArgs {
    /// Address for plain HTTP (repeatable; `off` switches it off)
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_HTTP",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080"
    )]
    pub http: Vec<String>,
    /// Address for HTTPS (repeatable; `off` switches it off)
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_HTTPS",
        value_delimiter = ',',
        default_value = "127.0.0.1:8443"
    )]
    pub https: Vec<String>,
    /// Port in redirects to HTTPS (default: the port of --https; 443 is omitted)
    #[arg(long, value_name = "N", env = "PROPYLON_HTTPS_PUBLIC_PORT")]
    pub https_public_port: Option<u16>,
    /// Address of the admin listener: routes, endpoints, probes, metrics (`off` switches it off)
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PROPYLON_ADMIN",
        default_value = "127.0.0.1:9902"
    )]
    pub admin: String,
    /// Address of probes and metrics (default: the admin address)
    #[arg(long, value_name = "ADDR:PORT", env = "PROPYLON_STATUS")]
    pub status: Option<String>,
    /// Unix socket for probes and metrics, beside the status address
    #[arg(long, value_name = "PATH", env = "PROPYLON_STATUS_SOCKET")]
    pub status_socket: Option<PathBuf>,
    /// DNS servers for Services of type `ExternalName` (default: those of `/etc/resolv.conf`)
    #[arg(
        long,
        value_name = "ADDR:PORT,...",
        env = "PROPYLON_DNS_SERVER",
        value_delimiter = ','
    )]
    pub dns_server: Vec<String>,
    /// Peers whose forwarded headers are believed
    #[arg(
        long,
        value_name = "CIDR,...",
        env = "PROPYLON_TRUSTED_PROXIES",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<String>,
    /// Peers that must send a PROXY header; it is refused from all others
    #[arg(
        long,
        value_name = "CIDR,...",
        env = "PROPYLON_PROXY_PROTOCOL",
        value_delimiter = ','
    )]
    pub proxy_protocol: Vec<String>,
    /// Key of affinity cookies, the same for all replicas: 32 random bytes or more (default: random, with a warning)
    #[arg(long, value_name = "FILE", env = "PROPYLON_STICKY_KEY_FILE")]
    pub sticky_key_file: Option<PathBuf>,
    /// Name of the node that this proxy runs on, for endpoints that prefer clients of their node
    #[arg(long, value_name = "NAME", env = "PROPYLON_NODE")]
    pub node: Option<String>,
    /// Zone of that node, for endpoints that prefer clients of their zone
    #[arg(long, value_name = "NAME", env = "PROPYLON_ZONE")]
    pub zone: Option<String>,
    /// Data-plane threads (default: one per core)
    #[arg(long, value_name = "N", env = "PROPYLON_WORKERS")]
    pub workers: Option<NonZeroUsize>,
    /// Access log: a file, `-` for standard output, `off`
    #[arg(long, value_name = "FILE|-|off", env = "PROPYLON_ACCESS_LOG", default_value = "-")]
    pub access_log: String,
    /// Form of the access log
    #[arg(long, value_enum, env = "PROPYLON_ACCESS_LOG_FORMAT", default_value = "json")]
    pub access_log_format: LogFormat,
    /// Add `Via` to requests (RFC 9110 7.6.3); off because common backends stop compressing when they see it
    #[arg(long, value_enum, env = "PROPYLON_VIA", default_value = "off")]
    pub via: Switch,
    /// Longest request head in bytes (431 above)
    #[arg(long, value_name = "BYTES", env = "PROPYLON_MAX_HEADER_BYTES", default_value_t = 32 * 1024, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    pub max_header_bytes: u32,
    /// Most request header fields (431 above)
    #[arg(long, value_name = "N", env = "PROPYLON_MAX_HEADERS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub max_headers: u32,
    /// Longest request target in bytes (414 above)
    #[arg(long, value_name = "BYTES", env = "PROPYLON_MAX_URI_BYTES", default_value_t = 16 * 1024, value_parser = clap::value_parser!(u32).range(256..=65_000))]
    pub max_uri_bytes: u32,
    /// Time for a request head to arrive, and for a TLS handshake
    #[arg(long, value_name = "DURATION", env = "PROPYLON_HEADER_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub header_timeout: Duration,
    /// Silence allowed within a request body
    #[arg(long, value_name = "DURATION", env = "PROPYLON_REQUEST_BODY_IDLE_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub request_body_idle_timeout: Duration,
    /// How long a connection without a request is kept
    #[arg(long, value_name = "DURATION", env = "PROPYLON_IDLE_TIMEOUT", default_value = "75s", value_parser = parse_duration)]
    pub idle_timeout: Duration,
    /// How long a client may stop reading its response
    #[arg(long, value_name = "DURATION", env = "PROPYLON_WRITE_STALL_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub write_stall_timeout: Duration,
    /// Concurrent streams of an HTTP/2 connection
    #[arg(long, value_name = "N", env = "PROPYLON_H2_MAX_STREAMS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub h2_max_streams: u32,
    /// Client connections in all (default: half of the file descriptor limit less 512)
    #[arg(long, value_name = "N", env = "PROPYLON_MAX_CONNECTIONS")]
    pub max_connections: Option<NonZeroUsize>,
    /// Client connections from one address (default: no limit)
    #[arg(long, value_name = "N", env = "PROPYLON_MAX_CONNECTIONS_PER_CLIENT")]
    pub max_connections_per_client: Option<NonZeroUsize>,
    /// Unix socket over which the next process takes the listening sockets (default: off)
    #[arg(long, value_name = "SOCKET", env = "PROPYLON_TAKEOVER")]
    pub takeover: Option<PathBuf>,
    /// After another process has taken over, how long a process that has nothing left to do waits for SIGTERM before it
    /// ends: for pods, where the end of a container starts it again
    #[arg(long, value_name = "DURATION", env = "PROPYLON_TAKEOVER_LINGER", default_value = "0s", value_parser = parse_grace)]
    pub takeover_linger: Duration,
    /// Where `/proc` and `/sys` are, for the memory limit (tests)
    #[arg(
        long,
        value_name = "DIR",
        env = "PROPYLON_MEMORY_ROOT",
        default_value = "/",
        hide = true
    )]
    pub memory_root: PathBuf,
    /// After SIGTERM, how long new connections are still accepted (SIGINT: not at all)
    #[arg(long, value_name = "DURATION", env = "PROPYLON_DRAIN_ACCEPT_GRACE", default_value = "10s", value_parser = parse_grace)]
    pub drain_accept_grace: Duration,
    /// After the grace, how long requests in flight may take
    #[arg(long, value_name = "DURATION", env = "PROPYLON_DRAIN_TIMEOUT", default_value = "60s", value_parser = parse_grace)]
    pub drain_timeout: Duration,
}

/// Form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, OpenTelemetry attribute names.
    Json,
    /// ingress-nginx's default format.
    Upstreaminfo,
}

/// A feature that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A file, reopened on SIGHUP.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
}

/// From when on connections are accepted, where no other process is taken over from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// From the start; there is nothing to route by before the first tables.
    AtOnce,
    /// From [`crate::ProxyHandle::take_over`]; connections that are made before wait in the kernel's queue.
    WhenTold,
}

/// Limits of request heads and connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request head.
    pub max_header_bytes: u32,
    /// Fields of a request head.
    pub max_headers: u32,
    /// Bytes of a request target.
    pub max_uri_bytes: u32,
    /// Streams of an HTTP/2 connection at once.
    pub h2_max_streams: u32,
    /// Client connections of the process.
    pub max_connections: usize,
    /// Client connections of one address; none: no limit.
    pub max_connections_per_client: Option<usize>,
}

/// Downstream deadlines, in milliseconds of the coarse clock.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Request head, TLS handshake.
    pub header_ms: u64,
    /// Silence in a request body.
    pub body_idle_ms: u64,
    /// Connection without a request.
    pub idle_ms: u64,
    /// Client that does not read.
    pub write_stall_ms: u64,
}

/// The validated configuration of the data plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Plain HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// Port in redirects; none: the port of the first HTTPS listener, once bound.
    pub https_public_port: Option<u16>,
    /// Admin listener.
    pub admin: Option<SocketAddr>,
    /// Status listener, where it is another than the admin listener.
    pub status: Option<SocketAddr>,
    /// Unix socket for probes and metrics.
    pub status_socket: Option<PathBuf>,
    /// DNS servers for external names; empty: those of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// Peers whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers that must send a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// Key of affinity cookies; none: random.
    pub sticky_key: Option<Arc<StickyKey>>,
    /// Where the proxy runs.
    pub here: Here,
    /// Threads.
    pub workers: usize,
    /// Access log target.
    pub access_log: LogTarget,
    /// Access log form.
    pub access_log_format: LogFormat,
    /// Whether requests get a `Via` field.
    pub via: Switch,
    /// Limits.
    pub limits: Limits,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// When the first connection is accepted.
    pub opening: Opening,
    /// Unix socket over which the next process takes over.
    pub takeover: Option<PathBuf>,
    /// Waiting for SIGTERM after another process has taken over, beyond the drain.
    pub takeover_linger: Duration,
    /// Where `/proc` and `/sys` are.
    pub memory_root: PathBuf,
    /// Accepting after SIGTERM.
    pub drain_accept_grace: Duration,
    /// Finishing after the grace.
    pub drain_timeout: Duration,
}

/// Why flags make no configuration; not retryable, the message names the flag.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// An address does not parse.
    #[error("--{flag} '{value}' is no address; write ADDR:PORT, such as 127.0.0.1:8080 or [::]:80, or off")]
    Address {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// A CIDR does not parse.
    #[error("--{flag} '{value}' is no CIDR; write ADDRESS/LENGTH, such as 10.0.0.0/8")]
    Cidr {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// The key of affinity cookies cannot be had.
    #[error(transparent)]
    StickyKey(#[from] StickyFileError),
    /// The file descriptor limit leaves no room.
    #[error(
        "the limit of open files is {0}, too low to serve; raise it (ulimit -n) to at least 1024 or set --max-connections"
    )]
    TooFewFiles(u64),
}

impl DataPlaneArgs {
    /// Validates the flags; `nofile` is the process's limit of open files.
    ///
    /// # Errors
    /// When an address or CIDR does not parse. Not retryable.
    pub fn into_config(self, nofile: u64) -> Result<Config, ConfigError> {
        let max_connections = match self.max_connections {
            Some(limit) => limit.get(),
            None => default_max_connections(nofile)?,
        };
        Ok(Config {
            http: addresses("http", &self.http)?,
            https: addresses("https", &self.https)?,
            https_public_port: self.https_public_port,
            admin: address("admin", &self.admin)?,
            status: self
                .status
                .as_deref()
                .map(|status| address("status", status))
                .transpose()?
                .flatten(),
            status_socket: self.status_socket,
            dns_servers: addresses("dns-server", &self.dns_server)?,
            trusted_proxies: cidrs("trusted-proxies", &self.trusted_proxies)?,
            proxy_protocol: cidrs("proxy-protocol", &self.proxy_protocol)?,
            sticky_key: self.sticky_key_file.as_deref().map(read_key).transpose()?,
            here: Here {
                node: self.node.map(Into::into),
                zone: self.zone.map(Into::into),
            },
            workers: self
                .workers
                .or_else(|| thread::available_parallelism().ok())
                .map_or(1, NonZeroUsize::get),
            access_log: match self.access_log.as_str() {
                "-" => LogTarget::Stdout,
                "off" => LogTarget::Off,
                file => LogTarget::File(file.into()),
            },
            access_log_format: self.access_log_format,
            via: self.via,
            limits: Limits {
                max_header_bytes: self.max_header_bytes,
                max_headers: self.max_headers,
                max_uri_bytes: self.max_uri_bytes,
                h2_max_streams: self.h2_max_streams,
                max_connections,
                max_connections_per_client: self.max_connections_per_client.map(NonZeroUsize::get),
            },
            deadlines: Deadlines {
                header_ms: millis(self.header_timeout),
                body_idle_ms: millis(self.request_body_idle_timeout),
                idle_ms: millis(self.idle_timeout),
                write_stall_ms: millis(self.write_stall_timeout),
            },
            memory_root: self.memory_root,
            opening: Opening::AtOnce,
            takeover: self.takeover,
            takeover_linger: self.takeover_linger,
            drain_accept_grace: self.drain_accept_grace,
            drain_timeout: self.drain_timeout,
        })
    }
}

/// A duration in whole milliseconds of the coarse clock.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn default_max_connections(nofile: u64) -> Result<usize, ConfigError> {
    match nofile.checked_sub(512).map(|rest| rest / 2) {
        Some(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        _ => Err(ConfigError::TooFewFiles(nofile)),
    }
}

fn parse_grace(text: &str) -> Result<Duration, propylon_model::duration::DurationError> {
    if text == "0s" || text == "0" {
        Ok(Duration::ZERO)
    } else {
        parse_duration(text)
    }
}

fn addresses(flag: &'static str, values: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
    values
        .iter()
        .filter_map(|value| address(flag, value).transpose())
        .collect()
}

fn address(flag: &'static str, value: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if value == "off" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| ConfigError::Address {
        flag,
        value: value.to_owned(),
    })
}

fn cidrs(flag: &'static str, values: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |value: &String| {
        let text = value.trim();
        text.parse::<IpNet>()
            .or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error))
            .map_err(|_| ConfigError::Cidr {
                flag,
                value: value.clone(),
            })
    };
    values
        .iter()
        .filter(|value| !value.trim().is_empty())
        .map(parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: DataPlaneArgs,
    }

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        Command::parse_from(["test"].iter().chain(flags))
            .args
            .into_config(20_000)
    }

    #[test]
    fn defaults_are_those_of_the_interfaces_page() {
        let config = config(&[]).unwrap();
        assert_eq!(config.http, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.https, ["127.0.0.1:8443".parse().unwrap()]);
        assert_eq!(config.limits.max_connections, 9_744);
        assert_eq!(config.deadlines.idle_ms, 75_000);
        assert_eq!(config.drain_timeout, Duration::from_mins(1));
    }

    #[test]
    fn off_switches_a_listener_off() {
        assert!(config(&["--http", "off"]).unwrap().http.is_empty());
    }

    #[test]
    fn a_bad_address_names_the_flag() {
        let error = config(&["--https", "localhost"]).unwrap_err().to_string();
        assert!(error.contains("--https 'localhost'"), "{error}");
    }

    #[test]
    fn a_bare_address_is_a_cidr_of_one() {
        assert_eq!(
            config(&["--trusted-proxies", "10.0.0.1,fd00::/8"])
                .unwrap()
                .trusted_proxies
                .len(),
            2
        );
    }
}

//! Asking the DNS.

use std::{
    cell::RefCell,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use tokio::time::timeout;

use super::course::Answer;

/// Asks the servers that were given, or those of the system.
///
/// Nothing is kept from one question to the next: the caller asks when it needs to know.
pub(super) struct Client {
    servers: Vec<SocketAddr>,
    made: RefCell<Option<(Stamp, TokioResolver)>>,
}

/// What the system's settings looked like when they were read.
type Stamp = Vec<Option<(u64, i64, i64)>>;

impl Client {
    /// A client of these servers; without any, of those in `/etc/resolv.conf`, with `/etc/hosts` before them.
    pub(super) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            made: RefCell::new(None),
        }
    }

    /// The addresses of a name, IPv4 and IPv6. The name is absolute: no search domain is tried.
    ///
    /// When one family is there, the other gets [`SECOND_FAMILY`] more.
    pub(super) async fn addresses(&self, host: &str) -> (Answer, Answer) {
        let asked = self.resolver().and_then(|resolver| Ok((resolver, absolute(host)?)));
        let (resolver, name) = match asked {
            Ok(asked) => asked,
            Err(why) => return (Answer::Failed(why.clone()), Answer::Failed(why)),
        };
        let mut v4 = Box::pin(ask(&resolver, &name, RecordType::A));
        let mut v6 = Box::pin(ask(&resolver, &name, RecordType::AAAA));
        tokio::select! {
            first = &mut v4 => {
                let second = second(&first, v6).await;
                (first, second)
            }
            first = &mut v6 => {
                let second = second(&first, v4).await;
                (second, first)
            }
        }
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let stamp = self.stamp();
        let mut made = self.made.borrow_mut();
        if let Some((seen, resolver)) = made.as_ref()
            && *seen == stamp
        {
            return Ok(resolver.clone());
        }
        let resolver = self.make()?;
        *made = Some((stamp, resolver.clone()));
        Ok(resolver)
    }

    /// The system's settings may change while we run: laptops move, pods do not.
    fn stamp(&self) -> Stamp {
        if !self.servers.is_empty() {
            return Stamp::new();
        }
        let look = |path: &&str| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec()))
        };
        [RESOLV_CONF, HOSTS].iter().map(look).collect()
    }

    fn make(&self) -> Result<TokioResolver, String> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder(provider).map_err(|error| format!("{RESOLV_CONF}: {error}"))?
        } else {
            let servers = self.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let mut builder = TokioResolver::builder_with_config(config, provider);
            *builder.options_mut() = own_options();
            builder
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.preserve_intermediates = true;
        builder.build().map_err(|error| error.to_string())
    }
}

fn own_options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(2);
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn absolute(host: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(host).map_err(|error| format!("'{host}' is no DNS name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// The other family: in its own time where the first did not help.
async fn second(first: &Answer, other: impl Future<Output = Answer>) -> Answer {
    if !matches!(first, Answer::Found(..)) {
        return other.await;
    }
    let other = timeout(SECOND_FAMILY, other).await;
    other.unwrap_or_else(|_| Answer::Failed("no answer in time".to_owned()))
}

async fn ask(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Answer {
    let lookup = match resolver.lookup(name.clone(), kind).await {
        Ok(lookup) => lookup,
        Err(error) => return explain(name, &error),
    };
    let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
    for record in lookup.answers() {
        match &record.data {
            RData::A(address) if kind == RecordType::A => addresses.push(IpAddr::V4(address.0)),
            RData::AAAA(address) if kind == RecordType::AAAA => addresses.push(IpAddr::V6(address.0)),
            RData::CNAME(_) => {}
            _ => continue,
        }
        ttl = ttl.min(record.ttl);
    }
    addresses.truncate(MOST_ADDRESSES);
    if addresses.is_empty() {
        return Answer::Nothing(None, format!("'{name}' has no address"));
    }
    Answer::Found(addresses, Duration::from_secs(ttl.into()))
}

fn explain(name: &Name, error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => {
            let ttl = nothing.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
            let why = format!("'{name}' has no address: the DNS answers {}", nothing.response_code);
            Answer::Nothing(ttl, why)
        }
        error => Answer::Failed(format!("'{name}' cannot be resolved: {error}")),
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How long an answer of one family waits for that of the other.
const SECOND_FAMILY: Duration = Duration::from_secs(1);
/// Addresses of one name and family beyond this are left out.
const MOST_ADDRESSES: usize = 256;

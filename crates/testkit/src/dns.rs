//! A DNS server that answers what the test says (RFC 1035, over UDP).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What the server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// These addresses; of the other kind there are none. Time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// As [`DnsAnswer::Addresses`], under an alias (CNAME) whose time to live comes last.
    Alias(Vec<IpAddr>, u32, u32),
    /// SERVFAIL.
    Failure,
    /// NXDOMAIN; how long that may be believed in seconds.
    NoSuchName(u32),
    /// None at all.
    Silence,
}

/// A running server. It stops when this is dropped.
pub struct DnsServer {
    /// Where it listens: 127.0.0.1, a port that the kernel chose.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Zone {
    answers: HashMap<String, DnsAnswer>,
    queries: HashMap<(String, u16), u64>,
    /// Queries with an option of EDNS client subnet (RFC 7871).
    subnets: u64,
}

impl DnsServer {
    /// Starts a server that knows no name: it answers NXDOMAIN.
    ///
    /// # Errors
    /// When it cannot listen, or no thread started.
    pub fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let server = Self {
            address: socket.local_addr()?,
            zone: Arc::default(),
            stopped: Arc::default(),
        };
        let (zone, stopped) = (Arc::clone(&server.zone), Arc::clone(&server.stopped));
        thread::Builder::new().name("dns".to_owned()).spawn(move || {
            let mut query = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut query) else {
                    continue;
                };
                let query = query.get(..length).unwrap_or_default();
                if let Some(answer) = answer(query, &zone) {
                    // A client that is gone is none of our business.
                    drop(socket.send_to(&answer, peer));
                }
            }
        })?;
        Ok(server)
    }

    /// From now on, the answer for a name (lower case, without the last dot).
    pub fn set(&self, name: &str, answer: DnsAnswer) {
        lock(&self.zone).answers.insert(name.to_owned(), answer);
    }

    /// The same with addresses of text; what is no address is left out.
    pub fn set_addresses(&self, name: &str, addresses: &[&str], ttl_s: u32) {
        let addresses = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
        self.set(name, DnsAnswer::Addresses(addresses, ttl_s));
    }

    /// Queries for the IPv4 addresses of a name so far.
    pub fn queries(&self, name: &str) -> u64 {
        let zone = lock(&self.zone);
        zone.queries.get(&(name.to_owned(), A)).copied().unwrap_or_default()
    }

    /// Queries so far that told of the client's network (RFC 7871).
    pub fn client_subnets(&self) -> u64 {
        lock(&self.zone).subnets
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a message; none where there is nothing to say.
fn answer(query: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let (name, kind, end) = question(query)?;
    let answer = {
        let mut zone = lock(zone);
        *zone.queries.entry((name.clone(), kind)).or_default() += 1;
        zone.subnets += u64::from(has_client_subnet(query.get(end..)?));
        zone.answers.get(&name).cloned()
    };
    let (code, addresses, ttl, alias) = match answer.unwrap_or(DnsAnswer::NoSuchName(1)) {
        DnsAnswer::Addresses(addresses, ttl) => (0, addresses, ttl, None),
        DnsAnswer::Alias(addresses, ttl, alias) => (0, addresses, ttl, Some(alias)),
        DnsAnswer::Failure => (2, Vec::new(), 0, None),
        DnsAnswer::NoSuchName(ttl) => (3, Vec::new(), ttl, None),
        DnsAnswer::Silence => return None,
    };
    let records: Vec<Vec<u8>> = addresses.iter().filter_map(|ip| rdata(*ip, kind)).collect();
    let aliases = u16::from(alias.is_some());
    let negative = u16::from(records.is_empty() && code != 2);
    let mut out = query.get(..2)?.to_vec();
    // A response, recursion desired and available.
    out.extend([0x81, 0x80 | code]);
    for count in [1, u16::try_from(records.len()).ok()? + aliases, negative, 0] {
        out.extend(count.to_be_bytes());
    }
    out.extend(query.get(HEAD..end)?);
    // The name of the question, or the alias "a" before it.
    let mut owner = vec![0xc0, 12];
    if let Some(alias_ttl) = alias {
        let target = [1, b'a', 0xc0, 12];
        put(&mut out, &owner, CNAME, alias_ttl, &target);
        owner = target.to_vec();
    }
    for record in &records {
        put(&mut out, &owner, kind, ttl, record);
    }
    if negative == 1 {
        put(&mut out, &[0xc0, 12], SOA, ttl, &soa(ttl));
    }
    Some(out)
}

/// Name, type and end of the one question.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = HEAD;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 4))
}

/// Whether the OPT record that follows the question has option 8.
fn has_client_subnet(additional: &[u8]) -> bool {
    let mut options = additional.get(11..).unwrap_or_default();
    while let Some((head, rest)) = options.split_first_chunk::<4>() {
        if head[..2] == [0, 8] {
            return true;
        }
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        options = rest.get(length..).unwrap_or_default();
    }
    false
}

fn rdata(ip: IpAddr, kind: u16) -> Option<Vec<u8>> {
    match (ip, kind) {
        (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
        (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) {
    out.extend(owner);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl_s.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(data);
}

/// Two root names and five numbers, of which the last is how long "nothing" may be believed.
fn soa(minimum_s: u32) -> Vec<u8> {
    let mut data = vec![0, 0];
    for number in [1, 3600, 600, 86_400, minimum_s] {
        data.extend(number.to_be_bytes());
    }
    data
}

const HEAD: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &DnsServer, kind: u16) -> Vec<u8> {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(crate::wait::PATIENCE)).unwrap();
        let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
        query.extend(b"Web\x07example\0");
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        client.send_to(&query, server.address).unwrap();
        let mut answer = [0; 512];
        let length = client.recv(&mut answer).unwrap();
        answer[..length].to_vec()
    }

    #[test]
    fn a_name_has_the_addresses_that_it_was_given() {
        let server = DnsServer::start().unwrap();
        server.set_addresses("web.example", &["192.0.2.7", "2001:db8::7"], 5);
        let answer = ask(&server, A);
        assert_eq!(answer[..8], [7, 9, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(answer.ends_with(&[0, 0, 0, 5, 0, 4, 192, 0, 2, 7]));
        assert!(ask(&server, AAAA).ends_with(&[0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]));
        assert_eq!(server.queries("web.example"), 1);
    }

    #[test]
    fn an_unknown_name_is_not_there() {
        let server = DnsServer::start().unwrap();
        let answer = ask(&server, A);
        assert_eq!(answer[2..10], [0x81, 0x83, 0, 1, 0, 0, 0, 1]);
    }
}

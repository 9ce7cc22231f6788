//! What the tests of layer 4 share: Services by hand, addresses that nobody else has, raw backends.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use propylon_model::{
    Delta, Endpoint, Endpoints, EndpointsName, Kind, L4Protocol, L4Service, L4ServiceName, ObjectRef, PoolPolicy,
    Resources, TrafficPolicy,
};
use propylon_proxy::ProxyHandle;
use propylon_testkit::wait;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A loopback address and port that no other test of any process uses.
pub(crate) fn free(protocol: L4Protocol) -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // The whole of 127.0.0.0/8 is this machine; a process has 250 addresses to itself.
    let process = std::process::id().to_be_bytes();
    let own = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1).unwrap();
    let ip = Ipv4Addr::new(127, process[2] | 64, process[3], own);
    match protocol {
        L4Protocol::Tcp => TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap(),
        L4Protocol::Udp => UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap(),
    }
}

/// A Service port with defaults.
pub(crate) fn service(name: &str, protocol: L4Protocol, address: SocketAddr) -> L4Service {
    L4Service {
        source: ObjectRef::new(Kind::Service, "default", name),
        service: ObjectRef::new(Kind::Service, "default", name),
        created_unix_s: None,
        addresses: vec![address.ip()],
        port: address.port(),
        protocol,
        endpoints: EndpointsName::new(format!("default/{name}:1")),
        policy: PoolPolicy::default(),
        source_ranges: None,
        traffic_policy: TrafficPolicy::Cluster,
        send_proxy: None,
        accept_proxy: false,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_mins(1),
    }
}

/// A proxy and what it was given.
pub(crate) struct Served {
    pub(crate) proxy: ProxyHandle,
    pub(crate) resources: Resources,
}

impl Served {
    pub(crate) fn new(proxy: ProxyHandle) -> Self {
        Self {
            proxy,
            resources: Resources::default(),
        }
    }

    /// Changes the resources and makes them live.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Resources)) {
        let mut next = self.resources.clone();
        change(&mut next);
        self.proxy.apply(&Delta::between(&self.resources, &next));
        self.resources = next;
    }

    /// Adds or replaces a Service port.
    pub(crate) fn put(&mut self, service: L4Service) {
        self.change(|resources| insert(resources, service));
    }

    /// Sets the endpoints of a Service.
    pub(crate) fn endpoints(&mut self, name: &str, endpoints: &[SocketAddr]) {
        let list = endpoints.iter().map(|address| Endpoint::new(*address)).collect();
        let name = EndpointsName::new(format!("default/{name}:1"));
        self.change(|resources| {
            resources.endpoints.insert(name, Arc::new(Endpoints::new(list)));
        });
    }

    /// Removes a Service's port.
    pub(crate) fn remove(&mut self, name: &str) {
        let prefix = format!("default/{name}:");
        self.change(|resources| resources.l4.retain(|name, _| !name.as_str().starts_with(&prefix)));
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        self.proxy.registry().render()
    }

    /// Waits until a series has a value.
    pub(crate) fn expect_metric(&self, line: &str) {
        let found = wait::until(PATIENCE, || self.metrics().lines().any(|candidate| candidate == line));
        let metrics = self.metrics();
        let l4: Vec<&str> = metrics.lines().filter(|line| line.contains("_l4_")).collect();
        assert!(found.is_some(), "no {line} in {l4:#?}");
    }
}

fn insert(resources: &mut Resources, service: L4Service) {
    let name = format!(
        "default/{}:{}/{}",
        service.source.name,
        service.port,
        service.protocol.as_str()
    );
    resources.l4.insert(L4ServiceName::new(name), Arc::new(service));
}

/// A client socket with deadlines.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener accepts");
    with_deadlines(stream)
}

pub(crate) fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends, ends its side, and reads to the end.
pub(crate) fn ask(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A backend that runs a function per connection, on a thread of its own, and remembers who came.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Backend {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let peers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let seen = Arc::clone(&peers);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                seen.lock().unwrap().push(peer);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(with_deadlines(stream)));
            }
        });
        Self { address, peers }
    }

    /// Sends back everything, behind its name.
    pub(crate) fn echo(name: &'static str) -> Self {
        Self::start(move |mut stream| {
            let mut reader = stream.try_clone().unwrap();
            if stream.write_all(name.as_bytes()).is_ok() && io::copy(&mut reader, &mut stream).is_ok() {
                drop(stream.shutdown(Shutdown::Write));
            }
        })
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.peers.lock().unwrap().len()
    }
}

/// An address on which nothing listens.
pub(crate) fn refusing() -> SocketAddr {
    free(L4Protocol::Tcp)
}

/// A client socket from a loopback address of its own.
pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&address.into())?;
    Ok(with_deadlines(socket.into()))
}

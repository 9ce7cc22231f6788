//! Prints what the stream costs at 5,000 Ingresses and 50,000 endpoints: bytes, times, memory, over a loopback socket.
//!
//! `cargo run --release -p propylon-wire --example stream_scale [INGRESSES]`
#![expect(clippy::print_stdout, reason = "it prints its result")]
#![expect(clippy::expect_used, reason = "an example that cannot go on ends")]

use std::{sync::Arc, time::Duration};

use propylon_kit::clock::{self, Monotonic};
use propylon_model::{
    Action, BackendProtocol, BackendTls, Delta, Endpoint, Endpoints, EndpointsName, GroupName, HostPattern, Kind,
    NormalPath, ObjectRef, PathMatch, Pool, PoolName, PoolPolicy, RouteGroup, RoutePolicy, Rule, RulePosition,
};
use propylon_wire::{Apply, Client, ClientConfig, Mirror, ProxyIdentity, Publisher, Rejection, snapshot};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Endpoints of each Service.
const ENDPOINTS: usize = 10;

/// Single changes that are timed.
const CHANGES: usize = 500;

/// Tells when something was applied.
struct Tell(mpsc::Sender<Monotonic>);

impl Apply for Tell {
    fn apply(&mut self, _delta: &Delta) -> Vec<Rejection> {
        if self.0.try_send(clock::now()).is_err() {
            println!("an apply that nobody waits for");
        }
        Vec::new()
    }
}

fn main() {
    let ingresses = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(5_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(ingresses));
}

async fn measure(ingresses: usize) {
    report_memory("start");
    let world = world(ingresses);
    report_memory("the world, decoded");
    let publisher = Publisher::new();
    let began = clock::now();
    publisher.publish(&world);
    let (count, bytes) = publisher.size();
    println!("publish: {:?}, {count} resources, {bytes} bytes", began.elapsed());
    report_memory("and encoded, with versions");
    drop(world);
    report_memory("encoded only");

    let (sender, mut applied) = mpsc::channel(16);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = async {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let peer = ProxyIdentity::from_uri("propylon://a/b/c/d").expect("an identity");
            drop(propylon_wire::serve(stream, peer, &publisher).await);
        }
    };
    let mut client = Client::new(Mirror::new(), ClientConfig::default());
    let scenario = async {
        let began = clock::now();
        let at = applied.recv().await.expect("applied");
        println!("full state, connected to applied: {:?}", at - began);
        report_memory("and mirrored");
        single_changes(&publisher, &mut applied).await;
    };
    let mut connector = || async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut apply = Tell(sender);
    tokio::select! {
        never = client.run(&mut connector, &mut apply) => match never {},
        () = server => {}
        () = scenario => {}
    }
    let began = clock::now();
    let encoded = snapshot::encode(client.mirror().resources()).expect("it can be encoded");
    println!("snapshot: {} bytes, encoded in {:?}", encoded.len(), began.elapsed());
    let began = clock::now();
    let resources = snapshot::decode(encoded.into()).expect("it can be decoded");
    let mirror = Mirror::of(resources);
    println!("snapshot read, with versions: {:?}", began.elapsed());
    assert_eq!(mirror.state(), publisher.version());
}

/// Spaced changes of one list of endpoints, from `publish` to `apply`.
async fn single_changes(publisher: &Publisher, applied: &mut mpsc::Receiver<Monotonic>) {
    let mut times = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let mut delta = Delta::default();
        let name = EndpointsName::new(format!("shop/web-{}:80", change % 100));
        delta.endpoints.insert(name, Some(Arc::new(endpoints(change, 3))));
        let began = clock::now();
        publisher.publish(&delta);
        times.push(applied.recv().await.expect("applied") - began);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "one change of endpoints, publish to apply: median {:?}, p99 {:?}",
        at(50),
        at(99)
    );
}

fn endpoints(seed: usize, count: usize) -> Endpoints {
    let list = (0..count).map(|index| {
        let number = u32::try_from(seed * 16 + index).expect("a small number");
        let [_, a, b, c] = number.to_be_bytes();
        let mut endpoint = Endpoint::new(([10, a, b, c], 8080).into());
        endpoint.pod = Some(format!("web-{seed}-7c5ddbdf54-{index:05}").into());
        endpoint.node = Some(format!("node-{}", index % 20).into());
        endpoint.zone = Some(format!("zone-{}", index % 3).into());
        endpoint
    });
    Endpoints::new(list.collect())
}

fn world(ingresses: usize) -> Delta {
    let mut delta = Delta::default();
    for number in 0..ingresses {
        let service = format!("shop/web-{number}:80");
        let list = Arc::new(endpoints(number, ENDPOINTS));
        delta.endpoints.insert(EndpointsName::new(service.as_str()), Some(list));
        let pool = Pool {
            service: ObjectRef::new(Kind::Service, "shop", format!("web-{number}")),
            port: 80,
            endpoints: EndpointsName::new(service.as_str()),
            protocol: BackendProtocol::Http1,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        delta
            .pools
            .insert(PoolName::new(service.as_str()), Some(Arc::new(pool)));
        let host = format!("shop-{number}.example.com");
        let name = GroupName::new(format!("shop/web-{number}/{host}"));
        delta
            .groups
            .insert(name, Some(Arc::new(group(number, &host, &service))));
    }
    delta
}

fn group(number: usize, host: &str, service: &str) -> RouteGroup {
    let rule = |(index, path): (usize, &str)| Rule {
        path: PathMatch::Prefix(NormalPath::parse_rule(path).expect("a path")),
        action: Action::Forward(PoolName::new(service)),
        policy: RoutePolicy::default(),
        position: RulePosition::new(0, index),
    };
    RouteGroup {
        source: ObjectRef::new(Kind::Ingress, "shop", format!("web-{number}")),
        created_unix_s: Some(1_700_000_000),
        host: HostPattern::parse(host).expect("a host"),
        rules: ["/", "/api", "/static"].into_iter().enumerate().map(rule).collect(),
        default_backend: None,
        redirect_https: true,
    }
}

/// Resident memory of this process, both ends in it.
fn report_memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    println!("{what}: {}, {}", line("VmRSS"), line("VmHWM"));
}

//! The transport: what is published arrives, over a pipe that may be cut.

use std::{
    future::{Ready, ready},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use propylon_model::{Delta, EndpointsName, Resources};
use propylon_wire::{
    Apply, Client, ClientConfig, ClientStatus, Generation, IssueError, IssueRequest, IssueResponse, Issuer, Mirror,
    Peer, Publisher, Rejection, ResourceKey, ResourceKind, Server, identity::IssueFuture,
};
use tokio::{io::DuplexStream, sync::watch, time::timeout};

use crate::build;

/// Applies to plain resources, and counts.
#[derive(Clone, Default)]
struct Proxy {
    live: Arc<Mutex<Resources>>,
    deltas: Arc<Mutex<Vec<Delta>>>,
    refuses: Arc<Mutex<Option<ResourceKey>>>,
}

impl Apply for Proxy {
    fn apply(&mut self, delta: &Delta) -> Vec<Rejection> {
        let mut delta = delta.clone();
        let mut rejections = Vec::new();
        if let Some(key) = self.refuses.lock().unwrap().clone()
            && key.kind == ResourceKind::Endpoints
            && delta.endpoints.remove(&*key.name).is_some()
        {
            rejections.push(Rejection {
                key,
                message: "on purpose".into(),
            });
        }
        self.live.lock().unwrap().apply(&delta);
        self.deltas.lock().unwrap().push(delta);
        rejections
    }
}

/// A pipe to a server of the publisher.
fn pipe(publisher: Publisher) -> Ready<io::Result<DuplexStream>> {
    let (near, far) = tokio::io::duplex(64 << 10);
    #[expect(clippy::disallowed_methods, reason = "a test has no tasks of its own to drain")]
    tokio::spawn(async move { propylon_wire::serve(far, build::proxy("proxy-a"), &publisher).await });
    ready(Ok(near))
}

/// Lets the client follow the publisher until the scenario is over.
async fn follow(client: &mut Client, publisher: &Publisher, proxy: &Proxy, scenario: impl Future<Output = ()>) {
    let mut connector = || pipe(publisher.clone());
    let mut apply = proxy.clone();
    tokio::select! {
        never = client.run(&mut connector, &mut apply) => match never {},
        () = scenario => {}
    }
}

async fn until(status: &mut watch::Receiver<ClientStatus>, holds: impl FnMut(&ClientStatus) -> bool) {
    let reached = timeout(Duration::from_secs(30), status.wait_for(holds)).await;
    reached.expect("in time").expect("the client lives");
}

#[tokio::test]
async fn what_is_published_is_applied_and_acknowledged() {
    let publisher = Publisher::new();
    let proxy = Proxy::default();
    let mut client = Client::new(Mirror::new(), ClientConfig::default());
    let mut status = client.status();
    let seen = proxy.clone();
    let scenario = async {
        until(&mut status, |status| status.is_connected).await;
        assert!(
            seen.deltas.lock().unwrap().is_empty(),
            "nothing is sent before the first publication"
        );
        let mut acknowledged = publisher.acknowledged();
        let generation = publisher.publish(&build::world(50, 10));
        assert_eq!(generation, Generation(1));
        let all = || publisher.proxies().iter().any(|proxy| proxy.acknowledged == generation);
        while !all() {
            timeout(Duration::from_secs(30), acknowledged.changed())
                .await
                .expect("in time")
                .expect("lives");
        }
        let [proxy] = &publisher.proxies()[..] else {
            panic!("one proxy")
        };
        assert_eq!(proxy.version, publisher.version());
        assert_eq!(proxy.rejected, []);
        assert_eq!(seen.live.lock().unwrap().groups.len(), 50);
    };
    follow(&mut client, &publisher, &proxy, scenario).await;
    let mut expected = Resources::default();
    expected.apply(&build::world(50, 10));
    assert_eq!(*client.mirror().resources(), expected);
}

#[tokio::test]
async fn a_restarted_controller_sends_nothing_to_a_proxy_that_is_up_to_date() {
    let publisher = Publisher::new();
    publisher.publish(&build::world(20, 3));
    let mut client = Client::new(Mirror::new(), ClientConfig::default());
    let mut status = client.status();
    let current = until(&mut status, |status| status.is_current);
    follow(&mut client, &publisher, &Proxy::default(), current).await;
    let restarted = Publisher::new();
    restarted.publish(&Delta::default());
    restarted.publish(&build::world(20, 3));
    assert_eq!(restarted.version(), publisher.version());
    let proxy = Proxy::default();
    let current = until(&mut status, |status| {
        status.generation == Generation(2) && status.is_current
    });
    follow(&mut client, &restarted, &proxy, current).await;
    assert!(proxy.deltas.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_rejected_resource_is_told_and_not_sent_again() {
    let publisher = Publisher::new();
    publisher.publish(&build::world(3, 1));
    let name = "shop/web-1:80";
    let key = ResourceKey::new(ResourceKind::Endpoints, name);
    let mut client = Client::new(Mirror::new(), ClientConfig::default());
    let mut status = client.status();
    let proxy = Proxy::default();
    let scenario = async {
        until(&mut status, |status| status.is_current).await;
        *proxy.refuses.lock().unwrap() = Some(key.clone());
        let mut delta = Delta::default();
        delta
            .endpoints
            .insert(EndpointsName::new(name), Some(Arc::new(build::endpoints(9))));
        let generation = publisher.publish(&delta);
        let mut acknowledged = publisher.acknowledged();
        while publisher.proxies()[0].acknowledged != generation {
            let changed = timeout(Duration::from_secs(30), acknowledged.changed()).await;
            changed.expect("in time").expect("lives");
        }
        assert_eq!(proxy.live.lock().unwrap().endpoints[name].endpoints.len(), 1);
        *proxy.refuses.lock().unwrap() = None;
        let rejected = publisher.proxies()[0].rejected.clone();
        assert_eq!(
            rejected.iter().map(|rejection| &rejection.key).collect::<Vec<_>>(),
            [&key]
        );
    };
    follow(&mut client, &publisher, &proxy, scenario).await;
    let deltas = proxy.deltas.lock().unwrap().len();
    // On a new stream it is not sent again, and the new publisher hears of it.
    let other = Publisher::new();
    other.publish(&build::world(3, 1));
    let mut delta = Delta::default();
    delta
        .endpoints
        .insert(EndpointsName::new(name), Some(Arc::new(build::endpoints(9))));
    other.publish(&delta);
    let told = async {
        let mut acknowledged = other.acknowledged();
        while other
            .proxies()
            .first()
            .is_none_or(|proxy| proxy.acknowledged != other.generation())
        {
            timeout(Duration::from_secs(30), acknowledged.changed())
                .await
                .expect("in time")
                .expect("lives");
        }
        assert_eq!(other.proxies()[0].rejected.len(), 1);
    };
    follow(&mut client, &other, &proxy, told).await;
    assert_eq!(proxy.deltas.lock().unwrap().len(), deltas);
}

struct Authority;

impl Issuer for Authority {
    fn issue<'a>(&'a self, _: &'a Peer, request: IssueRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            match request.token.as_str() {
                "good" => Ok(IssueResponse {
                    chain_der: vec![request.csr_der],
                    not_after_unix_s: 7,
                    ..IssueResponse::default()
                }),
                _ => Err(IssueError::Denied("the token is not good".into())),
            }
        })
    }
}

async fn ask(server: Server, token: &str) -> Result<IssueResponse, IssueError> {
    let (near, far) = tokio::io::duplex(4096);
    let request = IssueRequest {
        token: token.into(),
        csr_der: vec![1, 2, 3].into(),
        node: String::new(),
    };
    assert!(!format!("{request:?}").contains(token));
    tokio::select! {
        answer = propylon_wire::identity::issue(near, request) => answer,
        ended = server.serve(far, Peer::Anonymous) => panic!("the server ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_certificate_is_bought_on_the_same_port() {
    let server = Server::new(Publisher::new());
    let refused = ask(server.clone(), "good").await.unwrap_err();
    assert!(matches!(refused, IssueError::Unavailable(_)), "{refused}");
    let server = server.with_issuer(Arc::new(Authority));
    let answer = ask(server.clone(), "good").await.expect("a certificate");
    assert_eq!(answer.chain_der, [vec![1, 2, 3]]);
    let denied = ask(server, "bad").await.unwrap_err();
    assert_eq!(denied, IssueError::Denied("the token is not good".into()));
}

#[tokio::test]
async fn the_stream_is_refused_without_a_certificate() {
    let server = Server::new(Publisher::new());
    let mut client = Client::new(Mirror::new(), ClientConfig::default());
    let mut status = client.status();
    let mut connector = || {
        let server = server.clone();
        async move {
            let (near, far) = tokio::io::duplex(4096);
            #[expect(clippy::disallowed_methods, reason = "a test has no tasks of its own to drain")]
            tokio::spawn(async move { server.serve(far, Peer::Anonymous).await });
            Ok(near)
        }
    };
    let mut apply = Proxy::default();
    tokio::select! {
        never = client.run(&mut connector, &mut apply) => match never {},
        () = until(&mut status, |status| {
            status.last_error.as_deref().is_some_and(|error| error.contains("client certificate"))
        }) => {}
    }
}

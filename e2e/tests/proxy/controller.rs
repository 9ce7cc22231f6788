//! The controller that is none: an authority, a port with mutual TLS, and whatever manifests say.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use propylon_controller::identity::{
    authority::{Authority, ProxyKey},
    server_name,
};
use propylon_translate::{Compiler, Options, manifest};
use propylon_wire::{
    IssueError, IssueRequest, IssueResponse, Issuer, Peer, ProxyIdentity, Publisher, Server, identity::IssueFuture,
};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier, version::TLS13};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

/// The token that buys a certificate.
pub(crate) const TOKEN: &str = "good";
/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "propylon";

/// What outlives a controller: its authority, its address, and what it has published.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    pub(crate) publisher: Publisher,
    pub(crate) issuing: Arc<Issuing>,
    compiler: Compiler,
    runtime: Option<Runtime>,
}

/// What becomes of requests for certificates.
pub(crate) struct Issuing {
    authority: Arc<Authority>,
    /// How long certificates last.
    lifetime: Duration,
    /// Whether all are refused.
    pub(crate) refuses: AtomicBool,
    /// How many were issued.
    pub(crate) issued: AtomicU64,
    /// How many of them to somebody with a certificate.
    pub(crate) renewed: AtomicU64,
}

impl World {
    /// A controller that runs and has published nothing.
    pub(crate) fn new(lifetime: Duration) -> Self {
        let authority = Arc::new(Authority::create(now_unix_s(), Duration::from_hours(24)).unwrap());
        let issuing = Issuing {
            authority: Arc::clone(&authority),
            lifetime,
            refuses: AtomicBool::new(false),
            issued: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
        };
        let options = Options {
            allow_local_endpoints: true,
            ..Options::default()
        };
        let mut world = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            authority,
            publisher: Publisher::new(),
            issuing: Arc::new(issuing),
            compiler: Compiler::new(options),
            runtime: None,
        };
        world.start();
        world
    }

    /// Starts the controller, at the address that it had before.
    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let server = Server::new(self.publisher.clone()).with_issuer(Arc::clone(&self.issuing) as Arc<dyn Issuer>);
        let acceptor = TlsAcceptor::from(Arc::new(self.tls()));
        runtime.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let peer = match stream.get_ref().1.peer_certificates() {
                        Some(_) => Peer::Proxy(proxy()),
                        None => Peer::Anonymous,
                    };
                    drop(server.serve(stream, peer).await);
                });
            }
        });
        self.runtime = Some(runtime);
    }

    /// Ends it, and every connection with it.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Publishes these manifests beside what is published.
    pub(crate) fn publish(&mut self, manifests: &str) {
        for object in manifest::parse(manifests) {
            self.compiler.insert(object.unwrap());
        }
        let step = self.compiler.compile(now_unix_s());
        self.publisher.publish(&step.delta);
    }

    fn tls(&self) -> ServerConfig {
        let leaf = self
            .authority
            .sign_server(&[server_name(NAMESPACE)], &[], now_unix_s(), Duration::from_hours(1))
            .unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.leaf.der], leaf.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Issuer for Issuing {
    fn issue<'a>(&'a self, peer: &'a Peer, request: IssueRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            if self.refuses.load(Relaxed) || request.token != TOKEN {
                return Err(IssueError::Denied("the token is not good".to_owned()));
            }
            let key = ProxyKey::of_request(&request.csr_der).map_err(IssueError::Invalid)?;
            let now_unix_s = now_unix_s();
            let leaf = self.authority.sign_proxy(&proxy(), &key, now_unix_s, self.lifetime);
            let leaf = leaf.map_err(|error| IssueError::Unavailable(error.to_string()))?;
            self.issued.fetch_add(1, Relaxed);
            if *peer != Peer::Anonymous {
                self.renewed.fetch_add(1, Relaxed);
            }
            Ok(IssueResponse {
                chain_der: vec![leaf.der.to_vec().into()],
                not_after_unix_s: leaf.not_after_unix_s,
                not_before_unix_s: leaf.not_before_unix_s,
                now_unix_s,
            })
        })
    }
}

fn proxy() -> ProxyIdentity {
    ProxyIdentity::from_uri("propylon://propylon/propylon-proxy-a/node-1/0b8f").unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the tests have no clock of their own")]
pub(crate) fn now_unix_s() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

//! The controller's identity in this process, on a namespace of its own, and what a proxy asks of it.

use std::{net::SocketAddr, sync::Arc};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Node, Pod, ServiceAccount},
};
use kube::{Api, api::PostParams};
use propylon_controller::identity::{Identity, Settings, plan::Times, server_name};
use propylon_e2e::lab::ApiServer;
use propylon_testkit::wait;
use propylon_wire::{
    Apply, Client, ClientConfig, IssueError, IssueRequest, Mirror, ProxyIdentity, Publisher, Rejection, Server,
    identity,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::PATIENCE;

/// A controller's identity that runs.
pub(super) struct Desk<'a> {
    pub(super) server: &'a ApiServer,
    pub(super) namespace: String,
    publisher: Publisher,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// A certificate with its key.
pub(super) struct Bought {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl<'a> Desk<'a> {
    /// Opens one in a namespace of its own, and waits until it has an authority and has published it.
    pub(super) async fn open(server: &'a ApiServer) -> Self {
        let namespace = server.namespace("identity").await.unwrap();
        for name in ["propylon-proxy", "default"] {
            let account = json!({"metadata": {"name": name}});
            let account: ServiceAccount = serde_json::from_value(account).unwrap();
            let accounts = Api::namespaced(server.client(), &namespace);
            let created = accounts.create(&PostParams::default(), &account).await;
            // A controller manager makes the one that is called default.
            assert!(created.is_ok() || name == "default", "{created:?}");
        }
        let identity = Identity::new(Settings {
            namespace: namespace.clone(),
            proxy_service_account: "propylon-proxy".to_owned(),
            times: Times::default(),
            addresses: Vec::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let publisher = Publisher::new();
        publisher.publish(&propylon_model::Delta::default());
        let mut tasks = JoinSet::new();
        let client = server.client();
        let (follow, keep) = (identity.clone(), identity.clone());
        let (to_follow, to_keep) = (client.clone(), client.clone());
        tasks.spawn(async move { follow.follow(to_follow).await });
        tasks.spawn(async move { keep.keep(to_keep).await });
        let stream = Server::new(publisher.clone()).with_issuer(identity.issuer(client));
        let serve = identity.clone();
        tasks.spawn(async move { serve.serve(listener, stream, std::future::pending()).await });
        let desk = Self {
            server,
            namespace,
            publisher,
            address,
            _tasks: tasks,
        };
        let ready = async || desk.trust().await.filter(|_| identity.is_ready());
        assert!(wait::some_async(PATIENCE, ready).await.is_some(), "no authority");
        desk
    }

    /// Makes a pod of an account on a node of its own.
    pub(super) async fn pod(&self, name: &str, account: &str) {
        let node = json!({"metadata": {"name": format!("node-{name}")}});
        let node: Node = serde_json::from_value(node).unwrap();
        let nodes = Api::<Node>::all(self.server.client());
        // Another test may have made it.
        drop(nodes.create(&PostParams::default(), &node).await);
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                "nodeName": format!("node-{name}"),
                "containers": [{"name": "proxy", "image": "propylon"}],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods = Api::<Pod>::namespaced(self.server.client(), &self.namespace);
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }

    /// A token of a pod, as the kubelet projects it.
    pub(super) async fn token(&self, pod: &str, account: &str, audience: &str) -> String {
        let client = self.server.client();
        let uid = Api::<Pod>::namespaced(client.clone(), &self.namespace)
            .get(pod)
            .await
            .unwrap();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.to_owned()),
                    uid: uid.metadata.uid,
                }),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(client, &self.namespace);
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        answer.unwrap().status.unwrap().token
    }

    /// Asks for a certificate, with the token and, where there is one, with the present certificate.
    pub(super) async fn buy(&self, token: &str, present: Option<&Bought>) -> Result<Bought, IssueError> {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let request = IssueRequest {
            token: token.to_owned(),
            csr_der: request.der().to_vec().into(),
            node: String::new(),
        };
        let response = identity::issue(self.dial(present).await, request).await?;
        let chain = response.chain_der.iter().map(|der| CertificateDer::from(der.to_vec()));
        Ok(Bought {
            chain: chain.collect(),
            key: key.serialize_der(),
        })
    }

    /// Opens the stream with a certificate, and says who the controller takes it for.
    pub(super) async fn connect_as(&self, bought: &Bought) -> ProxyIdentity {
        struct Taken;

        impl Apply for Taken {
            fn apply(&mut self, _: &propylon_model::Delta) -> Vec<Rejection> {
                Vec::new()
            }
        }

        let mut client = Client::new(Mirror::new(), ClientConfig::default());
        let mut connected = client.status();
        let mut stream = Some(self.dial(Some(bought)).await);
        let mut connector = || std::future::ready(stream.take().ok_or_else(|| std::io::Error::other("only once")));
        let mut taken = Taken;
        let found = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                never = client.run(&mut connector, &mut taken) => match never {},
                current = connected.wait_for(|status| status.is_current) => {
                    current.unwrap();
                    self.publisher.proxies().remove(0).identity
                }
            }
        });
        found.await.unwrap()
    }

    async fn trust(&self) -> Option<String> {
        use k8s_openapi::api::core::v1::ConfigMap;

        let maps = Api::<ConfigMap>::namespaced(self.server.client(), &self.namespace);
        maps.get_opt("propylon-trust").await.unwrap()?.data?.remove("ca.crt")
    }

    /// A connection that believes what the `ConfigMap` said at first: it cannot be read while the API server is away.
    async fn dial(&self, present: Option<&Bought>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let trusted = TRUST.lock().unwrap().get(&self.namespace).cloned();
        let trusted = if let Some(pem) = trusted {
            pem
        } else {
            let pem = self.trust().await.unwrap();
            TRUST.lock().unwrap().insert(self.namespace.clone(), pem.clone());
            pem
        };
        let found = CertificateDer::pem_slice_iter(trusted.as_bytes()).map(Result::unwrap);
        roots.add_parsable_certificates(found);
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match present {
            Some(bought) => builder
                .with_client_auth_cert(
                    bought.chain.clone(),
                    PrivatePkcs8KeyDer::from(bought.key.clone()).into(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(server_name(&self.namespace)).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }
}

/// What each namespace trusts, as a kubelet would have mounted it.
static TRUST: std::sync::Mutex<std::collections::BTreeMap<String, String>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

//! The objects of a cluster, read as a folder of manifests is.

use std::collections::BTreeMap;

use kube::Client;
use propylon_model::Kind;
use propylon_translate::{
    Key, World,
    admit::admit,
    cluster::{Node, Pod},
    manifest::{Object, parse},
};
use serde::Deserialize;

/// Objects of one answer.
const PAGE: u32 = 500;

/// What is compiled, and where it lies.
const PATHS: &[(&str, &str)] = &[
    ("Ingresses", "/apis/networking.k8s.io/v1/ingresses"),
    ("IngressClasses", "/apis/networking.k8s.io/v1/ingressclasses"),
    ("Services", "/api/v1/services"),
    ("EndpointSlices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("Secrets", "/api/v1/secrets"),
    ("ConfigMaps", "/api/v1/configmaps"),
    (
        "ReferenceGrants",
        "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
    ),
];

/// What was read of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The objects.
    pub(crate) world: World,
    /// What could not be read, and why: what is said of the world may be wrong there.
    pub(crate) missing: Vec<String>,
    /// The addresses in the status of each Ingress.
    pub(crate) addresses: BTreeMap<Key, Vec<String>>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    token: Option<String>,
}

/// Reads everything that is compiled, as far as the rights go.
pub(crate) async fn read(client: &Client) -> Reading {
    let mut reading = Reading::default();
    for (name, path) in PATHS {
        match pages(client, path).await {
            Ok(pages) => pages.iter().for_each(|page| take(&mut reading, page)),
            // The definition may be absent: then there are no grants.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => reading.missing.push(format!("{name} cannot be read: {error}")),
        }
    }
    read_nodes(client, &mut reading).await;
    let addresses = reading.world.ingresses.iter().map(|(key, ingress)| {
        let status = ingress.status.iter().filter_map(|status| status.load_balancer.as_ref());
        let entries = status.flat_map(|status| status.ingress.iter().flatten());
        let addresses = entries.filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()));
        (key.clone(), addresses.collect())
    });
    reading.addresses = addresses.collect();
    reading
}

/// The texts of a list, page by page.
async fn pages(client: &Client, path: &str) -> kube::Result<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let uri = format!("{path}?limit={PAGE}{token}");
        let request = http::Request::get(uri)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let text = client.request_text(request).await?;
        let next = serde_json::from_str::<Page>(&text)
            .ok()
            .and_then(|page| page.metadata.token);
        pages.push(text);
        match next.filter(|next| !next.is_empty()) {
            Some(next) => token = format!("&continue={next}"),
            None => return Ok(pages),
        }
    }
}

/// Admits the objects of a page, as those of a folder are.
fn take(reading: &mut Reading, page: &str) {
    for object in parse(page) {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                reading.missing.push(error.to_string());
                continue;
            }
        };
        let name = object.key().map(|key| key.to_string()).unwrap_or_default();
        match admit(object) {
            Ok(object) => reading.world.insert(object),
            Err(errors) => reading
                .missing
                .extend(errors.iter().map(|error| format!("{name}: {error}"))),
        }
    }
}

/// Nodes, and the pods that endpoints with an address of a node name.
async fn read_nodes(client: &Client, reading: &mut Reading) {
    use k8s_openapi::api::core::v1 as core;
    let nodes: kube::Api<core::Node> = kube::Api::all(client.clone());
    match nodes.list(&kube::api::ListParams::default()).await {
        Ok(nodes) => {
            for node in nodes {
                reading.world.insert(Object::Node(Box::new(Node::from(&node))));
            }
        }
        Err(error) => reading.missing.push(format!("Nodes cannot be read: {error}")),
    }
    let mut compiler = propylon_translate::Compiler::default();
    compiler.follow(&reading.world);
    compiler.compile(0);
    for key in compiler.referenced(Kind::Pod) {
        let pods: kube::Api<core::Pod> = kube::Api::namespaced(client.clone(), &key.namespace);
        match pods.get_opt(&key.name).await {
            Ok(Some(pod)) => reading.world.insert(Object::Pod(Box::new(Pod::from(&pod)))),
            Ok(None) => {}
            Err(error) => reading.missing.push(format!("Pod {key} cannot be read: {error}")),
        }
    }
}

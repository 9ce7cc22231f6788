//! Reading the facts from the API server.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod, Secret},
        networking::v1::IngressClass,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, version::Info},
    jiff::fmt::rfc2822,
};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use propylon_controller::{identity, leader, replica};
use propylon_crds::IPAddressPool;
use propylon_kit::clock;
use x509_parser::pem::Pem;

use super::{
    CheckArgs, CheckError,
    facts::{Class, Facts, Leader, PodFact, Replica, Workload},
    permissions::{PERMISSIONS, Permission},
};

/// A client with the rights that the flags say.
pub(super) async fn connect(args: &CheckArgs) -> Result<Client, CheckError> {
    let unknown = |error: &dyn std::fmt::Display| CheckError::Config(error.to_string());
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &args.kubeconfig {
        _ if args.in_cluster => Config::incluster().map_err(|error| unknown(&error))?,
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| unknown(&error))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| unknown(&error))?
        }
        None => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| unknown(&error))?,
    };
    Ok(Client::try_from(config)?)
}

/// Reads everything; what is forbidden or missing is noted, and only an API server that does not answer is an error.
pub(super) async fn read(client: &Client, namespace: &str) -> Result<Facts, kube::Error> {
    let mut facts = Facts {
        namespace: namespace.to_owned(),
        ..Facts::default()
    };
    let local = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
    let (version, server) = server(client).await?;
    facts.kubernetes = version;
    facts.ahead_s = server.map(|server| local - server);
    facts.now_unix_s = server.unwrap_or(local);
    workloads(client, &mut facts).await?;
    let leases = Api::<Lease>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await;
    for lease in items(leases, "Leases", &mut facts)? {
        take_lease(lease, &mut facts);
    }
    let classes = Api::<IngressClass>::all(client.clone())
        .list(&ListParams::default())
        .await;
    facts.classes = items(classes, "IngressClasses", &mut facts)?
        .iter()
        .map(class)
        .collect();
    facts.pools = pools(client, &mut facts).await?;
    facts.denied = denied(client, &mut facts).await?;
    let trust = Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .get_opt(identity::CONFIG_MAP)
        .await;
    let trust = noted(trust, "the ConfigMap propylon-trust", &mut facts)?.flatten();
    let certificates = trust.and_then(|map| map.data?.remove(identity::TRUST_KEY));
    // The newest authority counts: an older one stays for the overlap only.
    facts.authority_end_unix_s = certificates.and_then(|text| ends(text.as_bytes()).into_iter().max());
    let secrets = ListParams::default().fields("type=kubernetes.io/tls");
    let secrets = Api::<Secret>::all(client.clone()).list(&secrets).await;
    facts.certificates = items(secrets, "certificates in Secrets", &mut facts)?
        .iter()
        .filter_map(certificate)
        .collect();
    Ok(facts)
}

/// The version and the time of the API server.
async fn server(client: &Client) -> Result<(String, Option<i64>), kube::Error> {
    let request = http::Request::get("/version")
        .body(Body::empty())
        .map_err(kube::Error::HttpError)?;
    let response = client.send(request).await?;
    let date = response
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    let time = date
        .and_then(|date| rfc2822::parse(date).ok())
        .map(|date| date.timestamp().as_second());
    let info: Info = client.apiserver_version().await?;
    Ok((info.git_version, time))
}

async fn workloads(client: &Client, facts: &mut Facts) -> Result<(), kube::Error> {
    let ours = ListParams::default().labels("app.kubernetes.io/part-of=propylon");
    let namespace = facts.namespace.clone();
    let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace)
        .list(&ours)
        .await;
    for deployment in items(deployments, "Deployments", facts)? {
        let (spec, status) = (
            deployment.spec.unwrap_or_default(),
            deployment.status.unwrap_or_default(),
        );
        let mut workload = workload("Deployment", &deployment.metadata);
        workload.desired = spec.replicas.unwrap_or(1);
        workload.ready = status.ready_replicas.unwrap_or(0);
        workload.updated = status.updated_replicas.unwrap_or(0);
        facts.workloads.push(workload);
    }
    let sets = Api::<DaemonSet>::namespaced(client.clone(), &namespace)
        .list(&ours)
        .await;
    for set in items(sets, "DaemonSets", facts)? {
        let status = set.status.unwrap_or_default();
        let mut workload = workload("DaemonSet", &set.metadata);
        workload.desired = status.desired_number_scheduled;
        workload.ready = status.number_ready;
        workload.updated = status.updated_number_scheduled.unwrap_or(0);
        facts.workloads.push(workload);
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace).list(&ours).await;
    facts.pods = items(pods, "Pods", facts)?.iter().filter_map(pod).collect();
    Ok(())
}

fn workload(kind: &str, metadata: &ObjectMeta) -> Workload {
    Workload {
        component: label(metadata, "app.kubernetes.io/component"),
        title: format!("{kind} {}", metadata.name.as_deref().unwrap_or_default()),
        desired: 0,
        ready: 0,
        updated: 0,
        version: label(metadata, "app.kubernetes.io/version"),
    }
}

fn label(metadata: &ObjectMeta, name: &str) -> String {
    let labels = metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
}

/// A pod of the controller or of the proxies.
fn pod(pod: &Pod) -> Option<PodFact> {
    let component = label(&pod.metadata, "app.kubernetes.io/component");
    if !matches!(component.as_str(), "controller" | "proxy") {
        return None;
    }
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let is_ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let containers = status
        .init_container_statuses
        .into_iter()
        .chain(status.container_statuses)
        .flatten();
    let mut restarts = 0;
    let mut trouble = None;
    for container in containers {
        restarts += container.restart_count;
        let waiting = container.state.and_then(|state| state.waiting);
        if let Some(waiting) = waiting.filter(|waiting| waiting.reason.as_deref() != Some("PodInitializing")) {
            let (reason, message) = (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default());
            trouble.get_or_insert_with(|| format!("{} {reason} {message}", container.name).trim().to_owned());
        }
    }
    let unscheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unscheduled = unscheduled.and_then(|condition| condition.message.clone());
    Some(PodFact {
        name: pod.metadata.name.clone().unwrap_or_default(),
        component,
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        is_ready,
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        trouble: trouble.or(unscheduled),
        restarts,
    })
}

fn take_lease(lease: Lease, facts: &mut Facts) {
    let name = lease.metadata.name.unwrap_or_default();
    if name == leader::LEASE {
        let spec = lease.spec.unwrap_or_default();
        facts.leader = Some(Leader {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed_unix_s: spec.renew_time.map_or(0, |time| time.0.as_second()),
            duration_s: spec.lease_duration_seconds.map_or(0, i64::from),
        });
    } else if let Some(pod) = name.strip_prefix(replica::LEASE_PREFIX) {
        let told = lease
            .metadata
            .annotations
            .and_then(|mut all| all.remove(replica::ACKNOWLEDGED));
        facts.replicas.push(Replica {
            pod: pod.to_owned(),
            told: told.map_or_else(
                || Ok(std::collections::BTreeMap::default()),
                |text| serde_json::from_str(&text).map_err(|error| error.to_string()),
            ),
        });
    }
}

fn class(class: &IngressClass) -> Class {
    let annotations = class.metadata.annotations.as_ref();
    let default = annotations.and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"));
    Class {
        name: class.metadata.name.clone().unwrap_or_default(),
        controller: class
            .spec
            .as_ref()
            .and_then(|spec| spec.controller.clone())
            .unwrap_or_default(),
        is_default: default.is_some_and(|value| value == "true"),
    }
}

/// How many pools there are; none where their kind is not defined.
async fn pools(client: &Client, facts: &mut Facts) -> Result<Option<usize>, kube::Error> {
    match Api::<IPAddressPool>::all(client.clone())
        .list(&ListParams::default())
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        listed => Ok(Some(items(listed, "pools", facts)?.len())),
    }
}

/// The rights that the controller does not have.
async fn denied(client: &Client, facts: &mut Facts) -> Result<Vec<String>, kube::Error> {
    let controller = facts.pods.iter().any(|pod| pod.component == "controller");
    let mut denied = Vec::new();
    if !controller {
        return Ok(denied);
    }
    let user = format!("system:serviceaccount:{}:propylon-controller", facts.namespace);
    for permission in PERMISSIONS {
        let review = review(&user, permission, &facts.namespace);
        let answer = Api::<SubjectAccessReview>::all(client.clone())
            .create(&PostParams::default(), &review)
            .await;
        let Some(answer) = noted(answer, "rights of the controller", facts)? else {
            return Ok(denied);
        };
        if !answer.status.is_some_and(|status| status.allowed) {
            denied.push(permission.title());
        }
    }
    Ok(denied)
}

fn review(user: &str, permission: &Permission, namespace: &str) -> SubjectAccessReview {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: some(permission.group),
                resource: some(permission.resource),
                subresource: some(permission.subresource),
                verb: some(permission.verb),
                namespace: permission.in_release.then(|| namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// The end of the certificate of a Secret.
fn certificate(secret: &Secret) -> Option<(String, i64)> {
    let metadata = &secret.metadata;
    let name = format!("{}/{}", metadata.namespace.as_deref()?, metadata.name.as_deref()?);
    let chain = &secret.data.as_ref()?.get("tls.crt")?.0;
    Some((name, *ends(chain).first()?))
}

/// The ends of the certificates of a PEM text, in their order.
fn ends(pem: &[u8]) -> Vec<i64> {
    let blocks = Pem::iter_from_buffer(pem).flatten();
    let ends = blocks.filter_map(|block| Some(block.parse_x509().ok()?.validity().not_after.timestamp()));
    ends.collect()
}

fn items<K: Clone>(
    listed: Result<kube::core::ObjectList<K>, kube::Error>,
    what: &'static str,
    facts: &mut Facts,
) -> Result<Vec<K>, kube::Error> {
    Ok(noted(listed, what, facts)?.map(|list| list.items).unwrap_or_default())
}

/// What was read; what the API server refuses is noted, and anything else is an error.
fn noted<T>(read: Result<T, kube::Error>, what: &'static str, facts: &mut Facts) -> Result<Option<T>, kube::Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) => {
            facts.unread.push((what, status.message.clone()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//! `propylon-controller uninstall`: stops the controller, and takes back what it wrote into other objects. The chart's
//! pre-delete hook; safe to run again.

mod plan;

use std::{fmt::Debug, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod, Secret, Service},
        networking::v1::Ingress,
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use propylon_crds::IPAddressPool;
use propylon_kit::telemetry;

use crate::{leader, replica, run};

/// How long the pods of the controller get to end.
const ENDED: Duration = Duration::from_mins(2);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(500);
/// Attempts for one object that somebody else writes at the same time.
const ATTEMPTS: u32 = 5;
/// Objects of one page.
const PAGE: u32 = 500;
/// What was made by us and goes with us.
const TRUST: &str = "propylon-trust";
const AUTHORITY: &str = "propylon-ca";

/// Flags of `propylon-controller uninstall`.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    /// Namespace that Propylon is installed in
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "propylon")]
    pub namespace: String,
    /// The controller's Deployment, which is scaled to zero first
    #[arg(
        long,
        value_name = "NAME",
        env = "PROPYLON_DEPLOYMENT",
        default_value = "propylon-controller"
    )]
    pub deployment: String,
    /// How to reach the API server from outside of a cluster (default: the pod's own account, else the usual files)
    #[arg(long, value_name = "FILE", env = "PROPYLON_KUBECONFIG")]
    pub kubeconfig: Option<std::path::PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the controller does not end in two minutes, or a request fails; retryable.
pub fn main(args: &UninstallArgs) -> Result<()> {
    telemetry::init("info").context("starting the log")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let client = run::connect(args.kubeconfig.as_deref()).await?;
        Box::pin(uninstall(&client, args)).await
    })
}

/// Stops the controller, then takes back, object by object, what it wrote.
///
/// # Errors
/// As [`main`].
pub async fn uninstall(client: &Client, args: &UninstallArgs) -> Result<()> {
    stop(client, args).await?;
    let services = services(client).await?;
    let ingresses = ingresses(client).await?;
    let pools = pools(client).await?;
    leases(client, &args.namespace).await?;
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &args.namespace);
    gone(config_maps.delete(TRUST, &DeleteParams::default()).await)?;
    let secrets = Api::<Secret>::namespaced(client.clone(), &args.namespace);
    gone(secrets.delete(AUTHORITY, &DeleteParams::default()).await)?;
    tracing::info!(
        services,
        ingresses,
        pools,
        "taken back; nothing of the controller's is left in other objects"
    );
    Ok(())
}

/// Scales the Deployment to zero and waits until its pods have ended: a controller that runs would write again.
async fn stop(client: &Client, args: &UninstallArgs) -> Result<()> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), &args.namespace);
    let Some(deployment) = deployments
        .get_opt(&args.deployment)
        .await
        .context("reading the Deployment")?
    else {
        tracing::info!(deployment = args.deployment, "there is no such Deployment");
        return Ok(());
    };
    let scale = Patch::Merge(serde_json::json!({"spec": {"replicas": 0}}));
    deployments
        .patch_scale(&args.deployment, &PatchParams::default(), &scale)
        .await
        .with_context(|| format!("scaling the Deployment {} to zero", args.deployment))?;
    let selector = deployment
        .spec
        .and_then(|spec| spec.selector.match_labels)
        .unwrap_or_default();
    let selector: Vec<String> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), &args.namespace);
    let list = ListParams::default().labels(&selector.join(","));
    let ended = async {
        loop {
            match pods.list(&list).await {
                Ok(pods) if pods.items.is_empty() => return,
                Ok(pods) => tracing::info!(pods = pods.items.len(), "waiting for the pods of the controller to end"),
                Err(error) => tracing::warn!(%error, "the pods of the controller cannot be listed"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(ENDED, ended).await.is_err() {
        bail!(
            "the pods of the Deployment {} have not ended after {ENDED:?}; see `kubectl get pods -n {} -l {}`, then run \
             `helm uninstall` again",
            args.deployment,
            args.namespace,
            selector.join(",")
        );
    }
    Ok(())
}

/// Takes our finalizer, our notes and our addresses from Services.
async fn services(client: &Client) -> Result<usize> {
    let mut count = 0;
    for service in all(&Api::<Service>::all(client.clone()))
        .await
        .context("listing Services")?
    {
        let namespace = service.namespace().unwrap_or_default();
        let api = Api::<Service>::namespaced(client.clone(), &namespace);
        let mut is_ours = false;
        if plan::wrote_addresses(service.meta()) {
            is_ours = true;
            let name = service.name_any();
            let patch = Patch::Merge(plan::no_addresses());
            let cleared = api.patch_status(&name, &PatchParams::default(), &patch).await;
            gone(cleared).with_context(|| format!("clearing the status of Service {namespace}/{name}"))?;
        }
        is_ours |= release(&api, service).await?;
        count += usize::from(is_ours);
    }
    Ok(count)
}

/// Takes our finalizer and our notes from a Service; whether it had any.
async fn release(api: &Api<Service>, service: Service) -> Result<bool> {
    let name = service.name_any();
    let is_ours = plan::without_marks(service.meta()).is_some();
    let mut service = Some(service);
    for _ in 0..ATTEMPTS {
        // What is read again after a conflict needs the right to get; the hook lists instead.
        let current = match service.take() {
            Some(service) => service,
            None => match one(api, &name).await? {
                Some(service) => service,
                None => return Ok(is_ours),
            },
        };
        let Some(patch) = plan::without_marks(current.meta()) else {
            return Ok(is_ours);
        };
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => {
                gone(other).with_context(|| format!("taking our marks from Service {name}"))?;
                return Ok(is_ours);
            }
        }
    }
    bail!("Service {name} is written by somebody else all the time; run `helm uninstall` again")
}

async fn one(api: &Api<Service>, name: &str) -> Result<Option<Service>> {
    let list = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = api.list(&list).await.context("reading a Service again")?;
    Ok(found.items.pop())
}

/// Takes our addresses from Ingresses.
async fn ingresses(client: &Client) -> Result<usize> {
    let mut count = 0;
    for ingress in all(&Api::<Ingress>::all(client.clone()))
        .await
        .context("listing Ingresses")?
    {
        if !plan::wrote_addresses(ingress.meta()) {
            continue;
        }
        let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
        let api = Api::<Ingress>::namespaced(client.clone(), &namespace);
        let patch = Patch::Merge(plan::no_addresses());
        let cleared = api.patch_status(&name, &PatchParams::default(), &patch).await;
        gone(cleared).with_context(|| format!("clearing the status of Ingress {namespace}/{name}"))?;
        count += 1;
    }
    Ok(count)
}

/// Deletes the pools that the leader made of the release's values; those that people made stay.
async fn pools(client: &Client) -> Result<usize> {
    let api = Api::<IPAddressPool>::all(client.clone());
    let pools = match all(&api).await {
        Ok(pools) => pools,
        // Without its definition there is no pool.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(0),
        Err(error) => return Err(error).context("listing pools"),
    };
    let mut count = 0;
    for pool in pools.iter().filter(|pool| plan::is_made_by_us(pool.meta())) {
        gone(api.delete(&pool.name_any(), &DeleteParams::default()).await).context("deleting a pool")?;
        count += 1;
    }
    Ok(count)
}

async fn leases(client: &Client, namespace: &str) -> Result<()> {
    let api = Api::<Lease>::namespaced(client.clone(), namespace);
    for lease in all(&api).await.context("listing Leases")? {
        let name = lease.name_any();
        if name == leader::LEASE || name.starts_with(replica::LEASE_PREFIX) {
            gone(api.delete(&name, &DeleteParams::default()).await)
                .with_context(|| format!("deleting Lease {name}"))?;
        }
    }
    Ok(())
}

/// Every object, page by page.
async fn all<K>(api: &Api<K>) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut objects = Vec::new();
    let mut list = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&list).await?;
        objects.extend(page.items);
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        let Some(next) = next else { return Ok(objects) };
        list = list.continue_token(&next);
    }
}

/// What is gone already needs no more.
fn gone<T>(result: kube::Result<T>) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

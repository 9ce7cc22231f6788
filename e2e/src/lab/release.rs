//! Propylon beside an API server without nodes: the controller and the proxies as processes on loopback, each with
//! exactly the identity and the rights that the chart gives it.

use std::{
    cell::Cell,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use propylon_testkit::wait;
use rustix::process::Signal;
use serde_json as json;

use super::{
    ApiServer, Identity,
    daemon::{Daemon, Scratch},
};
use crate::{ports, programs};

/// How long a process may take until it is ready: far above what it takes, for a busy machine.
const READY: Duration = Duration::from_mins(2);

/// Audience of the tokens that buy client certificates.
const AUDIENCE: &str = "propylon-controller";

/// Kinds of the chart that need no node.
const KINDS: &[&str] = &[
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CustomResourceDefinition",
    "IngressClass",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
];

/// A rendered chart on an API server, without its workloads: those are started with [`Release::controller`] and
/// [`Release::proxy`].
pub struct Release<'a> {
    server: &'a ApiServer,
    /// Namespace, and name of the release.
    name: String,
    /// Folder of `propylon-controller` and `propylon-proxy`.
    binaries: PathBuf,
    next: Cell<u32>,
    scratch: Scratch,
}

/// A process of Propylon that is ready; it is killed when this is dropped.
pub struct Running {
    daemon: Daemon,
    /// Name of its pod.
    pub pod: String,
    /// Where `/readyz` and `/metrics` are.
    pub status: SocketAddr,
    /// Where the stream is served (controller), or HTTP (proxy).
    pub address: SocketAddr,
    /// Where HTTPS is served; the same as `address` for a controller.
    pub https: SocketAddr,
    /// Time from its start until `/readyz` said so.
    pub start: Duration,
}

impl<'a> Release<'a> {
    /// Renders the chart with `values` (`key=value` of `helm --set`) and applies all of it that needs no node: service
    /// accounts, rights, classes, custom resources. The release and its namespace are called `propylon`.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub async fn install(server: &'a ApiServer, binaries: &Path, values: &[&str]) -> Result<Self> {
        let name = "propylon".to_owned();
        let rendered = render(server, &name, values)?;
        let scratch = Scratch::new("propylon-release-")?;
        let file = scratch.path().join("chart.yaml");
        fs::write(&file, parts(&rendered)).with_context(|| format!("writing {}", file.display()))?;
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces = Api::<Namespace>::all(server.client());
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            created => drop(created.context("making the namespace")?),
        }
        let path = file.display().to_string();
        let applied = server.kubectl(&["apply", "--server-side", "--namespace", &name, "--filename", &path]);
        ensure!(applied.succeeded(), "applying the chart: {}", applied.text());
        Ok(Self {
            server,
            name,
            binaries: binaries.to_owned(),
            next: Cell::new(0),
            scratch,
        })
    }

    /// The namespace of the release.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// Folder of logs and files of the processes.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts a controller with the rights of the chart's service account, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within two minutes; the message has the end of its log.
    pub async fn controller(&self, flags: &[&str]) -> Result<Running> {
        let account = format!("{}-controller", self.name);
        let identity = self.server.service_account(&self.name, &account).await?;
        self.controller_as(&identity, flags)
    }

    /// Starts a controller with the rights of `identity`.
    ///
    /// # Errors
    /// As [`Release::controller`].
    pub fn controller_as(&self, identity: &Identity, flags: &[&str]) -> Result<Running> {
        let (pod, stream, status) = (self.pod("controller"), ports::free(), ports::free());
        let mut arguments = vec![
            format!("--namespace={}", self.name),
            format!("--pod-name={pod}"),
            format!("--kubeconfig={}", identity.kubeconfig.display()),
            format!("--stream={stream}"),
            format!("--status={status}"),
            format!("--admin={}", ports::free()),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let daemon = self.start("propylon-controller", &pod, &arguments)?;
        Running::new(daemon, pod, (status, stream, stream)).ready()
    }

    /// Starts a proxy with a token as the kubelet would give it, and waits until it is ready. Its pod and node exist as
    /// objects.
    ///
    /// # Errors
    /// As [`Release::controller`].
    pub async fn proxy(&self, controllers: &[&Running], flags: &[&str]) -> Result<Running> {
        let pod = self.pod("proxy");
        let node = format!("node-{pod}");
        self.pod_objects(&pod, &node).await?;
        let folder = self.scratch.path().join(&pod);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let token = folder.join("token");
        fs::write(&token, self.token(&pod).await?).context("writing the token")?;
        let trust = folder.join("ca.crt");
        fs::write(&trust, self.trust().await?).context("writing the trust")?;
        let (http, https, status) = (ports::free(), ports::free(), ports::free());
        let mut arguments = vec![
            format!("--controller-name={}-controller.{}.svc", self.name, self.name),
            format!("--token-file={}", token.display()),
            format!("--trust-file={}", trust.display()),
            format!("--pod-name={pod}"),
            format!("--pod-namespace={}", self.name),
            format!("--node={node}"),
            format!("--snapshot={}", folder.join("snapshot").display()),
            format!("--http={http}"),
            format!("--https={https}"),
            format!("--admin={}", ports::free()),
            format!("--status={status}"),
            "--access-log=off".to_owned(),
            "--drain-accept-grace=0s".to_owned(),
        ];
        let addresses = controllers.iter().map(|controller| controller.address);
        arguments.extend(addresses.map(|address| format!("--controller={address}")));
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let daemon = self.start("propylon-proxy", &pod, &arguments)?;
        Running::new(daemon, pod, (status, http, https)).ready()
    }

    fn pod(&self, component: &str) -> String {
        let number = self.next.get();
        self.next.set(number + 1);
        format!("{}-{component}-{number}", self.name)
    }

    fn start(&self, program: &str, pod: &str, arguments: &[String]) -> Result<Daemon> {
        let log = self.scratch.path().join(format!("{pod}.log"));
        Daemon::start(pod, &self.binaries.join(program), arguments, &log)
    }

    /// What a scheduler and a kubelet would have made: a node, and a pod of the proxies' account on it.
    async fn pod_objects(&self, pod: &str, node: &str) -> Result<()> {
        let client = self.server.client();
        let object = json::from_value(json::json!({
            "metadata": {"name": node},
            "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]},
        }));
        let nodes = Api::<Node>::all(client.clone());
        nodes
            .create(&PostParams::default(), &object.context("a node")?)
            .await
            .context("making a node")?;
        let account = format!("{}-proxy", self.name);
        let object = json::from_value(json::json!({
            "metadata": {"name": pod, "labels": {
                "app.kubernetes.io/name": "propylon",
                "app.kubernetes.io/instance": self.name,
                "app.kubernetes.io/component": "proxy",
            }},
            "spec": {
                "serviceAccountName": account,
                "nodeName": node,
                "hostNetwork": true,
                "containers": [{"name": "proxy", "image": "propylon"}],
            },
        }));
        let pods = Api::<Pod>::namespaced(client, &self.name);
        pods.create(&PostParams::default(), &object.context("a pod")?)
            .await
            .context("making a pod")?;
        Ok(())
    }

    /// The token of a pod, bound to it.
    async fn token(&self, pod: &str) -> Result<String> {
        let client = self.server.client();
        let uid = Api::<Pod>::namespaced(client.clone(), &self.name)
            .get(pod)
            .await?
            .metadata
            .uid;
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![AUDIENCE.to_owned()],
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.to_owned()),
                    uid,
                }),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(client, &self.name);
        let account = format!("{}-proxy", self.name);
        let answer = accounts
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("asking for a token of {pod}"))?;
        Ok(answer.status.context("the API server gave no token")?.token)
    }

    /// What the trust `ConfigMap` holds, as soon as the leader has made it.
    async fn trust(&self) -> Result<String> {
        let maps = Api::<ConfigMap>::namespaced(self.server.client(), &self.name);
        let look = async || {
            let map = maps.get_opt("propylon-trust").await.transpose()?;
            map.map(|mut map| map.data.as_mut()?.remove("ca.crt")).transpose()
        };
        let found = wait::some_async(READY, look).await;
        let (text, _) = found.with_context(|| format!("no ConfigMap propylon-trust after {READY:?}"))?;
        Ok(text?)
    }
}

impl Running {
    fn new(daemon: Daemon, pod: String, (status, address, https): (SocketAddr, SocketAddr, SocketAddr)) -> Self {
        Self {
            daemon,
            pod,
            status,
            address,
            https,
            start: Duration::ZERO,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The greatest memory it ever had resident, bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).context("reading its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: u64 = number.context("no VmHWM")?.parse().context("VmHWM")?;
        Ok(kibibytes * 1024)
    }

    /// Asks it to end and waits until it has.
    pub fn stop(self) {
        self.daemon.stop();
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.signal(signal)
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        programs::curl(&[&format!("http://{}/metrics", self.status)]).stdout()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.daemon.tail()
    }

    fn ready(mut self) -> Result<Self> {
        let url = format!("http://{}/readyz", self.status);
        let looked = wait::some(READY, || {
            if let Some(status) = self.daemon.ended() {
                return Some(Err(anyhow::anyhow!("it ended with {status}; {}", self.daemon.tail())));
            }
            let answer = programs::run(
                "curl",
                &["--silent", "--fail", "--max-time", "2", "--noproxy", "*", &url],
            );
            answer.succeeded().then_some(Ok(()))
        });
        match looked {
            Some((Ok(()), waited)) => self.start = waited,
            Some((Err(error), _)) => return Err(error),
            None => {
                let verbose = programs::curl(&[&format!("{url}?verbose")]).text();
                bail!(
                    "{} is not ready after {READY:?}: {verbose}\n{}",
                    self.pod,
                    self.daemon.tail()
                )
            }
        }
        Ok(self)
    }
}

fn render(server: &ApiServer, name: &str, values: &[&str]) -> Result<String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/propylon");
    let chart = chart.display().to_string();
    let helm = server.programs().path("helm").display().to_string();
    let mut arguments = vec!["template", name, &chart, "--namespace", name];
    for value in values {
        arguments.extend(["--set", value]);
    }
    let finished = programs::run(&helm, &arguments);
    ensure!(finished.succeeded(), "rendering the chart: {}", finished.text());
    Ok(finished.stdout())
}

/// The documents of the kinds that need no node; hooks are left out.
fn parts(rendered: &str) -> String {
    let kind = |document: &str| {
        let line = document.lines().find_map(|line| line.strip_prefix("kind:"));
        line.map(|kind| kind.trim().to_owned()).unwrap_or_default()
    };
    let documents = rendered
        .split("\n---")
        .filter(|document| KINDS.contains(&kind(document).as_str()) && !document.contains("helm.sh/hook"));
    documents.collect::<Vec<_>>().join("\n---")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_and_hooks_are_left_out() {
        let rendered = "---\nkind: ServiceAccount\nname: a\n---\nkind: Deployment\nname: b\n---\nkind: Role\nmetadata: \
                        {annotations: {helm.sh/hook: test}}\n---\nkind: Role\nname: c";
        let parts = parts(rendered);
        assert!(parts.contains("name: a") && parts.contains("name: c"), "{parts}");
        assert!(!parts.contains("Deployment") && !parts.contains("hook"), "{parts}");
    }
}

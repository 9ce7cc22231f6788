//! A node: containerd and the kubelet, in namespaces of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Cluster, Node, control_plane::DNS_SERVICE, namespace_name, parts::Part, preflight, run, sweep};
use crate::{
    image::{Image, catalog},
    lab::{kubernetes_version, programs::cache_folder},
};

/// The first process of a node.
const SCRIPT: &str = include_str!("node.sh");

impl Cluster {
    /// The images that every node has from its start: the sandbox of Pods, the cluster's DNS, agnhost.
    pub(super) fn make_images(&self) -> Result<()> {
        let folder = self.images()?;
        pause()?.store(&folder, "pause")?;
        catalog::coredns(&self.programs.path("coredns"))?.store(&folder, "coredns")?;
        let keys = cache_folder()?.join("agnhost");
        fs::create_dir_all(&keys).with_context(|| format!("making {}", keys.display()))?;
        catalog::agnhost(&self.programs.path("agnhost"), &keys)?.store(&folder, "agnhost")?;
        Ok(())
    }

    /// Starts a node; it waits by itself for the API server.
    pub(super) fn start_node(&self, node: &Node) -> Result<()> {
        let folder = self.node_folder(node);
        for name in ["cni", "log", "run", "state", "var-lib", "var-lib.work", "plugins"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let cgroup = self.make_cgroup(node)?;
        fs::copy(
            self.key(&format!("{}.kubeconfig", node.name)),
            folder.join("kubeconfig"),
        )
        .context("copying the kubeconfig of a node")?;
        fs::write(folder.join("containerd.toml"), containerd(&folder)).context("writing containerd.toml")?;
        fs::write(
            folder.join("kubelet.json"),
            self.kubelet(node, &folder, &cgroup).to_string(),
        )
        .context("writing kubelet.json")?;
        // Each node has its own: a shell reads on while it runs, and must not see the file being written for the next.
        let script = folder.join("node.sh");
        fs::write(&script, SCRIPT).context("writing node.sh")?;
        let flags = "--mount --propagation private --pid --fork --kill-child --mount-proc sh";
        let mut arguments: Vec<String> = flags.split(' ').map(str::to_owned).collect();
        let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        arguments.extend([
            script.display().to_string(),
            folder.display().to_string(),
            self.programs.folder().display().to_string(),
            self.images()?.display().to_string(),
            node.name.clone(),
            addresses.join(","),
        ]);
        self.launch(&Part {
            name: node.name.clone(),
            place: node.place.clone(),
            program: PathBuf::from("unshare"),
            arguments,
        })
    }

    /// The folder of a node: `kubelet.log`, `containerd.log`, `kube-proxy.log`.
    pub(super) fn node_folder(&self, node: &Node) -> PathBuf {
        self.folder.join("nodes").join(&node.place)
    }

    /// Imports an image into one node.
    pub(super) fn import(&self, node: &Node, archive: &Path) -> Result<()> {
        let socket = self.node_folder(node).join("run/containerd.sock");
        let mut command = Command::new("ctr");
        command
            .arg("-a")
            .arg(socket)
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive);
        run(&mut command).with_context(|| format!("importing into {}", node.name))?;
        Ok(())
    }

    fn images(&self) -> Result<PathBuf> {
        // They go with the programs that they are made of.
        let home = self
            .programs
            .folder()
            .parent()
            .context("the programs lie in a folder")?;
        Ok(home.join("images"))
    }

    /// Makes the node's cgroup in every hierarchy, and says what the kubelet calls it.
    fn make_cgroup(&self, node: &Node) -> Result<String> {
        let name = namespace_name(&self.plan.name, &node.place);
        for hierarchy in sweep::hierarchies() {
            let folder = hierarchy.join(&name);
            fs::create_dir_all(&folder).with_context(|| format!("making the cgroup {}", folder.display()))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // Version 1 starts with none, and no process can be put into such a group.
                if let Ok(value) = fs::read(hierarchy.join(file)) {
                    fs::write(folder.join(file), value).with_context(|| format!("writing {file} of {name}"))?;
                }
            }
        }
        Ok(format!("/{name}"))
    }

    fn kubelet(&self, node: &Node, folder: &Path, cgroup: &str) -> serde_json::Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.ipv4.to_string(),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": false},
                "x509": {"clientCAFile": self.key("ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": format!("unix://{}", folder.join("run/containerd.sock").display()),
            "evictionHard": {"memory.available": "100Mi"},
            "failCgroupV1": false,
            "failSwapOn": false,
            "healthzPort": 0,
            "imageMinimumGCAge": "24h",
            "makeIPTablesUtilChains": false,
            "maxPods": 110,
            "nodeStatusUpdateFrequency": "5s",
            "podLogsDir": folder.join("log/pods"),
            "readOnlyPort": 0,
            "registerNode": true,
            "syncFrequency": "10s",
            "tlsCertFile": self.key(&format!("{}.crt", node.name)),
            "tlsPrivateKeyFile": self.key(&format!("{}.key", node.name)),
            "volumePluginDir": folder.join("plugins"),
        })
    }

    /// The version that every part of the cluster has, as `1.36.3`.
    ///
    /// # Errors
    /// When the module of the programs cannot be read.
    pub fn version(&self) -> Result<String> {
        kubernetes_version()
    }
}

/// A program that waits. containerd ends a sandbox by killing it, so that it needs to know no signal.
fn pause() -> Result<Image> {
    let image = Image::new(&[catalog::PAUSE, "registry.k8s.io/pause:3.10.2"]);
    image
        .entrypoint(&["/busybox", "sleep", "2147483647"])
        .program("/busybox", Path::new("/usr/bin/busybox"))
}

/// `restrict_oom_score_adj`: without `CAP_SYS_RESOURCE` nothing may be made less likely to be killed, and runc fails.
/// `netns_mounts_under_state_dir`: the namespaces of Pods go with the node.
fn containerd(folder: &Path) -> String {
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
    let (folder, sandbox, cni) = (folder.display(), catalog::PAUSE, preflight::CNI_PLUGINS);
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
  address = "{folder}/run/containerd.sock"
[debug]
  level = "warn"
[{plugin}]
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  sandbox_image = "{sandbox}"
  stream_server_address = "127.0.0.1"
[{plugin}.cni]
  bin_dir = "{cni}"
  conf_dir = "{folder}/cni"
[{plugin}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[{plugin}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{plugin}.containerd.runtimes.runc.options]
  SystemdCgroup = false
"#
    )
}

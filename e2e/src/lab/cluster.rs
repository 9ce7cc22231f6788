//! A cluster of several nodes on this machine: real kubelets, each in namespaces of its own.

mod control_plane;
mod dns;
mod fabric;
mod network;
mod node;
mod parts;
mod preflight;
mod progress;
mod status;
mod sweep;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

pub use progress::Progress;

use super::{Programs, api_server::client, kubeconfig::client_config, programs::cache_folder};
use crate::programs::Finished;

/// The name of a cluster that is not given another.
pub const DEFAULT_NAME: &str = "lab";

/// Longer names do not leave room in the paths of sockets.
const LONGEST_NAME: usize = 10;

/// Each node's address ends with its number after these.
const MOST_NODES: u8 = 80;

/// What forwards traffic to Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dataplane {
    /// kube-proxy of the same Kubernetes, in its nftables mode, on every node.
    #[default]
    KubeProxy,
    /// Nothing: Pods reach Pods, and no Service answers.
    None,
}

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What tells it from others on this machine: 1 to 10 lower-case letters and digits. Default `lab`.
    pub name: String,
    /// 1 to 80. Default 3.
    pub nodes: u8,
    /// Default kube-proxy.
    pub dataplane: Dataplane,
    /// Whether nodes, Pods and Services have IPv6 addresses as well. Default false.
    pub dual_stack: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            nodes: 3,
            dataplane: Dataplane::default(),
            dual_stack: false,
        }
    }
}

/// A running cluster.
///
/// The control plane is at 10.99.0.1, node N at 10.99.0.(10+N), a client that is no node at 10.99.0.100, each in a
/// network namespace; only from inside of those can anything be reached ([`Cluster::exec`]). It runs on when this value
/// and the process are gone, until [`Cluster::down`].
pub struct Cluster {
    plan: Plan,
    programs: Programs,
    folder: PathBuf,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// As Kubernetes calls it: `node1`.
    pub name: String,
    /// As [`Cluster::exec`] calls its network: `n1`.
    pub place: String,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address; in a dual-stack cluster.
    pub ipv6: Option<Ipv6Addr>,
}

impl Node {
    fn new(number: u8, dual_stack: bool) -> Self {
        Self {
            name: format!("node{number}"),
            place: format!("n{number}"),
            ipv4: Ipv4Addr::new(10, 99, 0, 10 + number),
            ipv6: dual_stack.then(|| fabric::ipv6(10 + number)),
        }
    }

    /// One address, or one of each family.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv4 = std::iter::once(IpAddr::V4(self.ipv4));
        ipv4.chain(self.ipv6.map(IpAddr::V6)).collect()
    }
}

impl Cluster {
    /// Brings a cluster up, after removing what an earlier one of that name left. A cluster that is up already by the
    /// same plan, and whose nodes are ready, is left as it is. `report` is told of each step.
    ///
    /// # Errors
    /// When the machine lacks something (all of it is named at once), another process works on the same cluster, or a
    /// step is not done in time; the message has the end of the log. Calling again is safe, and `down` cleans up.
    pub fn up(plan: Plan, report: &mut dyn FnMut(&str)) -> Result<Self> {
        plan.check()?;
        let programs = Programs::find()?;
        preflight::check()?;
        let _lock = lock(&plan.name)?;
        if let Ok(running) = Self::attach(&plan.name)
            && running.plan == plan
            && running.is_ready()
        {
            report("it is up already");
            return Ok(running);
        }
        sweep::sweep(&plan.name)?;
        let cluster = Self {
            folder: state_folder(&plan.name)?,
            programs,
            plan,
        };
        let mut progress = Progress::new(report);
        cluster.bring_up(&mut progress)?;
        cluster.write(
            "plan.json",
            &serde_json::to_string(&cluster.plan).context("writing the plan")?,
        )?;
        Ok(cluster)
    }

    fn bring_up(&self, progress: &mut Progress<'_>) -> Result<()> {
        fs::create_dir_all(self.folder.join("log")).context("making the folder of the cluster")?;
        self.make_images()?;
        progress.step("images");
        self.make_keys()?;
        progress.step("keys");
        self.make_fabric()?;
        progress.step("network");
        for node in self.nodes() {
            self.start_node(&node)?;
        }
        self.start_control_plane()?;
        progress.step("control plane");
        self.connect_nodes()?;
        progress.step("nodes registered, with networks for Pods");
        self.wait_for_nodes()?;
        progress.step("nodes ready");
        self.start_dns()?;
        progress.step("cluster DNS");
        Ok(())
    }

    /// A cluster that was brought up before, by this process or another.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn attach(name: &str) -> Result<Self> {
        let folder = state_folder(name)?;
        let plan = fs::read(folder.join("plan.json"));
        let plan = plan.with_context(|| format!("there is no cluster '{name}': `lab up --name {name}`"))?;
        Ok(Self {
            plan: serde_json::from_slice(&plan).context("reading the plan of the cluster")?,
            programs: Programs::find()?,
            folder,
        })
    }

    /// The cluster in whose client's network this process runs (`lab exec cl -- ...` says which in `PROPYLON_LAB_NAME`).
    ///
    /// # Errors
    /// When it was not started that way.
    pub fn around() -> Result<Self> {
        let name = env::var_os("PROPYLON_LAB_NAME");
        let name = name.context("this runs inside of a cluster's network only: `lab exec cl -- ...`")?;
        Self::attach(&name.to_string_lossy())
    }

    /// Ends a cluster and removes all that it left: processes, namespaces, cgroups, files. Nothing to do is fine.
    ///
    /// # Errors
    /// When something cannot be removed, or another process works on the same cluster.
    pub fn down(name: &str) -> Result<()> {
        check_name(name)?;
        let _lock = lock(name)?;
        sweep::sweep(name)
    }

    /// Everything on this machine that belongs to a cluster of that name, running or left over, one line each.
    ///
    /// # Errors
    /// When the name is none.
    pub fn traces(name: &str) -> Result<Vec<String>> {
        check_name(name)?;
        sweep::traces(name)
    }

    /// What it was brought up by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its nodes.
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.plan.nodes)
            .map(|number| Node::new(number, self.plan.dual_stack))
            .collect()
    }

    /// A command that runs in a network namespace of the cluster: `cp` (the control plane's), `cl` (a client's that is
    /// no node), `n1` and so on (a node's).
    pub fn exec(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace(place).display()))
            .args(["--", program])
            .env("PROPYLON_LAB_NAME", &self.plan.name)
            .env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs kubectl as administrator.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.tool("kubectl", arguments)
    }

    /// Runs Helm as administrator.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn helm(&self, arguments: &[&str]) -> Finished {
        self.tool("helm", arguments)
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Finished {
        let mut command = self.exec("cl", &self.programs.path(name).display().to_string());
        let output = command.args(arguments).stdin(std::process::Stdio::null()).output();
        Finished(output.expect("nsenter is in util-linux"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.kubeconfig")
    }

    /// The configuration of a client that may do everything. It works inside of the cluster's networks only.
    ///
    /// # Errors
    /// When the cluster is gone.
    pub fn config(&self) -> Result<kube::Config> {
        let text = fs::read(self.kubeconfig()).context("reading the administrator's kubeconfig")?;
        client_config(&serde_json::from_slice(&text).context("reading the administrator's kubeconfig")?)
    }

    /// A client that may do everything, on the runtime that calls. It works inside of the cluster's networks only.
    ///
    /// # Errors
    /// When the cluster is gone.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn client(&self) -> Result<kube::Client> {
        Ok(client(self.config()?))
    }

    /// Imports an image (a docker-archive tar) into every node.
    ///
    /// # Errors
    /// When a node's containerd refuses it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        for node in self.nodes() {
            self.import(&node, archive)?;
        }
        Ok(())
    }

    /// The folder of logs: `NAME.log` of each part, `node1.log` for a node's own, `nodes/n1/` for what runs on it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The built programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    fn namespace(&self, place: &str) -> PathBuf {
        Path::new("/run/netns").join(namespace_name(&self.plan.name, place))
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Plan {
    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        ensure!(
            (1..=MOST_NODES).contains(&self.nodes),
            "{} nodes: a cluster has 1 to {MOST_NODES}",
            self.nodes
        );
        Ok(())
    }
}

/// No hyphen: a cluster `a` would take what belongs to one called `a-n1` for its own.
fn check_name(name: &str) -> Result<()> {
    let is_short = (1..=LONGEST_NAME).contains(&name.len());
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ensure!(
        is_short && is_plain,
        "'{name}' is no name of a cluster: 1 to {LONGEST_NAME} lower-case letters and digits"
    );
    Ok(())
}

fn namespace_name(cluster: &str, place: &str) -> String {
    format!("propylon-{cluster}-{place}")
}

fn state_folder(name: &str) -> Result<PathBuf> {
    Ok(cache_folder()?.join("state").join(name))
}

/// Held while a cluster is brought up or down; released when the process ends in any way.
fn lock(name: &str) -> Result<fs::File> {
    let folder = cache_folder()?.join("state");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = fs::File::create(folder.join(format!("{name}.lock"))).context("making the lock of the cluster")?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!("another process brings the cluster '{name}' up or down"),
        Err(error) => Err(error).context("locking the cluster"),
    }
}

/// Runs a command to its end and gives its output.
///
/// # Errors
/// When it cannot be run or fails; the message has what it said.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_overlap_are_refused() {
        for name in ["", "lab-n1", "Lab", "elevencharsx", "../x"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name(DEFAULT_NAME).unwrap();
    }

    #[test]
    fn nodes_have_addresses_of_their_own() {
        let node = Node::new(3, true);
        assert_eq!(node.addresses().len(), 2);
        assert_eq!(node.ipv4, Ipv4Addr::new(10, 99, 0, 13));
        assert_eq!(node.ipv6.unwrap().to_string(), "fd00:99::13");
    }
}

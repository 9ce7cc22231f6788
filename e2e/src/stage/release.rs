//! Propylon as a Helm release.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};

use super::{PATIENCE, Stage, is_ready};
use crate::image::catalog;

/// The name of the release.
pub const RELEASE: &str = "propylon";
/// The namespace that it is installed in.
pub const NAMESPACE: &str = "propylon-system";

/// The image that the chart asks for where no value says otherwise, as containerd names it.
const REPOSITORY: &str = "docker.io/propylon/propylon";

impl Stage {
    /// The version in the chart: the tag of the image.
    ///
    /// # Errors
    /// When the chart cannot be read.
    pub fn chart_version(&self) -> Result<String> {
        let path = chart().join("Chart.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let version = text.lines().find_map(|line| line.strip_prefix("appVersion:"));
        let version = version.context("the chart has no appVersion")?;
        Ok(version.trim().trim_matches('"').to_owned())
    }

    /// Imports Propylon's image under a tag into every node: the programs of this build, with a label that makes it
    /// another image than one of another tag.
    ///
    /// # Errors
    /// When the programs are not built, or a node refuses the image.
    pub fn import_propylon(&self, tag: &str) -> Result<()> {
        let folder = self.cluster.folder().join("images");
        let stripped = folder.join("stripped");
        for (path, _) in catalog::PROPYLON_PROGRAMS {
            let built = propylon_testkit::process::binary(path.trim_start_matches('/'))?;
            let lean = catalog::stripped(&built, &stripped)?;
            ensure!(lean != built, "`strip` is missing: install binutils");
        }
        let image = catalog::propylon(&stripped, &[&format!("{REPOSITORY}:{tag}")], tag)?;
        let archive = image.store(&folder, &format!("propylon-{tag}"))?;
        self.cluster.load_image(&archive)
    }

    /// Installs the chart as shipped, or leaves a release as it is that is there, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; with its state.
    pub fn install(&self) {
        let version = self.chart_version().expect("the chart can be read");
        self.import_propylon(&version)
            .expect("Propylon's image can be imported");
        let status = self.cluster.helm(&["status", RELEASE, "--namespace", NAMESPACE]);
        if status.succeeded() && status.stdout().contains("STATUS: deployed") {
            self.until_release_ready();
            return;
        }
        if status.succeeded() {
            // Half installed, by a test that failed.
            self.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--no-hooks", "--wait"]);
        }
        let chart = chart().display().to_string();
        let arguments = [
            "install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
        ];
        self.helm(&[&arguments[..], &["--wait", "--timeout", "2m"]].concat());
        self.until_release_ready();
    }

    /// Upgrades the release to the image of this tag, which must be imported, and waits until it is rolled out.
    ///
    /// # Panics
    /// When it does not become ready; with its state.
    pub fn upgrade(&self, tag: &str) {
        let chart = chart().display().to_string();
        let tag = format!("image.tag={tag}");
        let arguments = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--set", &tag];
        self.helm(&[&arguments[..], &["--wait", "--timeout", "6m"]].concat());
        self.until_release_ready();
    }

    /// Uninstalls the release.
    ///
    /// # Panics
    /// When Helm fails.
    pub fn uninstall(&self) {
        self.helm(&[
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "3m",
        ]);
    }

    fn helm(&self, arguments: &[&str]) {
        let finished = self.cluster.helm(arguments);
        assert!(
            finished.succeeded(),
            "helm {arguments:?}: {}\n{}",
            finished.text(),
            self.diagnosis()
        );
    }

    /// Waits until every controller and every proxy is ready, one proxy on each node.
    fn until_release_ready(&self) {
        let nodes = self.cluster.nodes().len();
        self.until("controllers and proxies are ready", PATIENCE, || {
            let (controllers, proxies) = (self.pods_of("controller"), self.pods_of("proxy"));
            !controllers.is_empty()
                && controllers.iter().all(is_ready)
                && proxies.len() == nodes
                && proxies.iter().all(is_ready)
        });
    }

    /// The pods of a component (`controller` or `proxy`) that are not being deleted.
    pub fn pods_of(&self, component: &str) -> Vec<Pod> {
        let labels = format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}");
        let mut pods: Vec<Pod> = self.objects.list(NAMESPACE, &labels);
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// The pod of the controller that leads, if one does.
    pub fn leader(&self) -> Option<Pod> {
        let lease: Lease = self.objects.get(NAMESPACE, "propylon-controller")?;
        let holder = lease.spec?.holder_identity?;
        let pods = self.pods_of("controller").into_iter();
        pods.into_iter().find(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            !name.is_empty() && holder.contains(name)
        })
    }

    /// The state of the release, for the message of a failed test: pods, Events, and the ends of logs.
    pub fn diagnosis(&self) -> String {
        let kubectl = |arguments: &[&str]| {
            self.cluster
                .kubectl(&[&["--namespace", NAMESPACE], arguments].concat())
                .text()
        };
        let mut text = kubectl(&["get", "pods", "--output", "wide"]);
        text += &kubectl(&["get", "events", "--sort-by=.lastTimestamp"]);
        for component in ["controller", "proxy"] {
            let selector = format!("--selector=app.kubernetes.io/component={component}");
            text += &kubectl(&["logs", &selector, "--all-containers", "--prefix", "--tail=15"]);
        }
        text
    }
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/propylon")
}

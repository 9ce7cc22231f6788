//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, in a namespace of their own.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use propylon_testkit::wait;

use super::{Cluster, fabric, parts::Part};
use crate::lab::{Pki, kubeconfig::kubeconfig};

/// How long each step of the start may take: far above what it takes alone on two cores.
pub(super) const STEP: Duration = Duration::from_mins(2);

/// Between two questions that cost a process each.
const PAUSE: Duration = Duration::from_millis(200);

/// Addresses of Services; those of the API server and of DNS are the first and the tenth.
const SERVICES: &str = "10.96.0.0/16";
const SERVICES_V6: &str = "fd00:96::/112";
pub(super) const FIRST_SERVICE: &str = "10.96.0.1";
pub(super) const DNS_SERVICE: &str = "10.96.0.10";

/// Addresses of Pods.
const PODS: &str = "10.244.0.0/16";
const PODS_V6: &str = "fd00:244::/48";

const PARTS: &[&str] = &["etcd", "kube-apiserver"];

impl Cluster {
    /// The authority, and everybody's certificates and kubeconfigs.
    pub(super) fn make_keys(&self) -> Result<()> {
        let pki = Pki::create(&self.folder.join("pki"))?;
        let address = fabric::ipv4(fabric::CONTROL_PLANE).to_string();
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            &address,
            FIRST_SERVICE,
            "127.0.0.1",
        ];
        pki.server("apiserver", &names.map(str::to_owned), "kube-apiserver", None)?;
        let masters = Some("system:masters");
        pki.client_files("apiserver-kubelet", "apiserver-kubelet-client", masters)?;
        for (file, user, group) in [
            ("admin", "admin", masters),
            ("controllers", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("proxy", "system:kube-proxy", None),
        ] {
            self.make_kubeconfig(&pki, file, user, group)?;
        }
        for node in self.nodes() {
            let user = format!("system:node:{}", node.name);
            let mut hosts = vec![node.name.clone()];
            hosts.extend(node.addresses().iter().map(ToString::to_string));
            pki.server(&node.name, &hosts, &user, Some("system:nodes"))?;
            self.make_kubeconfig(&pki, &node.name, &user, Some("system:nodes"))?;
        }
        Ok(())
    }

    fn make_kubeconfig(&self, pki: &Pki, file: &str, user: &str, group: Option<&str>) -> Result<()> {
        let url = format!("https://{}:6443", fabric::ipv4(fabric::CONTROL_PLANE));
        let value = kubeconfig(&url, &pki.authority_pem(), &pki.client(user, group)?);
        self.write(&format!("pki/{file}.kubeconfig"), &value.to_string())?;
        Ok(())
    }

    /// Starts the four programs and waits until Pods could be made.
    pub(super) fn start_control_plane(&self) -> Result<()> {
        let flags = [format!("--data-dir={}", self.folder.join("etcd").display())];
        self.launch_control("etcd", flags.into())?;
        self.launch_control("kube-apiserver", self.api_server())?;
        self.wait_for_api()?;
        self.launch_control("kube-controller-manager", self.controller_manager())?;
        let file = self.key("scheduler.kubeconfig");
        let flags = with_kubeconfig(&file, &["--leader-elect=false", "--bind-address=127.0.0.1"]);
        self.launch_control("kube-scheduler", flags)?;
        self.wait_for("the default service account", || {
            self.ask(&["get", "serviceaccount", "default", "-o", "name"]).map(drop)
        })
    }

    /// Waits until the API server says that it is ready, after [`Cluster::start`] of it or of etcd.
    ///
    /// # Errors
    /// When it ends, or is not ready within two minutes.
    pub fn wait_for_api(&self) -> Result<()> {
        self.wait_for("the API server", || {
            self.expect_running(PARTS).map_err(Stop::Now)?;
            self.ask(&["get", "--raw=/readyz"]).map(drop)
        })
    }

    /// What kubectl answers; an error that may be another one next time.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String, Stop> {
        let answer = self.kubectl(&[&["--request-timeout=5s"], arguments].concat());
        if answer.succeeded() {
            return Ok(answer.stdout());
        }
        Err(Stop::NotYet(answer.text()))
    }

    /// Tries until it succeeds, or cannot any more.
    pub(super) fn wait_for(&self, what: &str, mut attempt: impl FnMut() -> Result<(), Stop>) -> Result<()> {
        let mut last = String::new();
        let done = wait::some(STEP, || match attempt() {
            Ok(()) => Some(Ok(())),
            Err(Stop::Now(error)) => Some(Err(error)),
            Err(Stop::NotYet(reason)) => {
                last = reason;
                std::thread::sleep(PAUSE);
                None
            }
        });
        match done {
            Some((result, _)) => result.with_context(|| format!("waiting for {what}")),
            None => bail!(
                "{what} did not come within {} s: {}\n{}",
                STEP.as_secs(),
                last.trim(),
                self.tail("kube-apiserver")
            ),
        }
    }

    pub(super) fn key(&self, name: &str) -> String {
        self.folder.join("pki").join(name).display().to_string()
    }

    fn launch_control(&self, name: &str, arguments: Vec<String>) -> Result<()> {
        self.launch(&Part {
            name: name.to_owned(),
            place: "cp".to_owned(),
            program: self.programs.path(name),
            arguments,
        })
    }

    fn services(&self) -> String {
        both(SERVICES, SERVICES_V6, self.plan.dual_stack)
    }

    pub(super) fn pods(&self) -> String {
        both(PODS, PODS_V6, self.plan.dual_stack)
    }

    fn api_server(&self) -> Vec<String> {
        let address = fabric::ipv4(fabric::CONTROL_PLANE);
        vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            "--secure-port=6443".to_owned(),
            format!("--tls-cert-file={}", self.key("apiserver.crt")),
            format!("--tls-private-key-file={}", self.key("apiserver.key")),
            format!("--client-ca-file={}", self.key("ca.crt")),
            format!("--kubelet-client-certificate={}", self.key("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", self.key("apiserver-kubelet.key")),
            format!("--kubelet-certificate-authority={}", self.key("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--service-account-key-file={}", self.key("sa.pub")),
            format!("--service-account-signing-key-file={}", self.key("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-cluster-ip-range={}", self.services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        let file = self.key("controllers.kubeconfig");
        let mut flags = with_kubeconfig(&file, &["--leader-elect=false", "--bind-address=127.0.0.1"]);
        flags.extend([
            format!("--root-ca-file={}", self.key("ca.crt")),
            format!("--service-account-private-key-file={}", self.key("sa.key")),
            "--use-service-account-credentials".to_owned(),
            "--allocate-node-cidrs".to_owned(),
            format!("--cluster-cidr={}", self.pods()),
            format!("--service-cluster-ip-range={}", self.services()),
            format!("--cluster-signing-cert-file={}", self.key("ca.crt")),
            format!("--cluster-signing-key-file={}", self.key("ca.key")),
        ]);
        if self.plan.dual_stack {
            flags.push("--node-cidr-mask-size-ipv4=24".to_owned());
            flags.push("--node-cidr-mask-size-ipv6=64".to_owned());
        } else {
            flags.push("--node-cidr-mask-size=24".to_owned());
        }
        flags
    }
}

/// Why an attempt did not succeed.
pub(super) enum Stop {
    /// The next one may.
    NotYet(String),
    /// None will.
    Now(anyhow::Error),
}

fn with_kubeconfig(file: &str, flags: &[&str]) -> Vec<String> {
    let names = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
    let files = names.iter().map(|name| format!("--{name}={file}"));
    files.chain(flags.iter().map(|flag| (*flag).to_owned())).collect()
}

fn both(first: &str, second: &str, dual_stack: bool) -> String {
    if dual_stack {
        format!("{first},{second}")
    } else {
        first.to_owned()
    }
}

//! How the programs are called.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{ApiServer, Part, Store};
use crate::lab::kubeconfig::kubeconfig;

/// Nothing listens there: it is what the Service `kubernetes` would name, and loopback is not allowed for it.
const ADVERTISED: &str = "192.0.2.1";

/// The addresses of Services.
const SERVICES: &str = "10.96.0.0/16";

impl ApiServer {
    /// The server's certificate, and the kubeconfigs of the administrator and the controller manager.
    pub(super) fn write_keys(&self) -> Result<()> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
        ];
        self.pki
            .server("apiserver", &names.map(str::to_owned), "kube-apiserver", None)?;
        let users = [
            ("admin", "admin", Some("system:masters")),
            ("controllers", "system:kube-controller-manager", None),
        ];
        for (file, user, group) in users {
            let value = kubeconfig(&self.url(), &self.pki.authority_pem(), &self.pki.client(user, group)?);
            let path = self.pki.path(&format!("{file}.kubeconfig"));
            fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// The program of a part and its arguments.
    pub(super) fn command(&self, part: Part) -> (PathBuf, Vec<String>) {
        match part {
            Part::ApiServer => (self.programs.path("kube-apiserver"), self.api_server()),
            Part::ControllerManager => (self.programs.path("kube-controller-manager"), self.controller_manager()),
            Part::Etcd => match self.options.store {
                Store::Etcd34 => (PathBuf::from("/usr/bin/etcd"), self.old_etcd()),
                Store::Etcd36 => (self.programs.path("etcd"), self.etcd()),
            },
        }
    }

    fn file(&self, name: &str) -> String {
        self.pki.path(name).display().to_string()
    }

    fn etcd(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.scratch.path().join("etcd").display()),
            format!("--client-url=http://127.0.0.1:{}", self.ports.etcd),
            format!("--peer-url=http://127.0.0.1:{}", self.ports.etcd_peer),
        ]
    }

    fn old_etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        vec![
            "--name=lab".to_owned(),
            format!("--data-dir={}", self.scratch.path().join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=lab={peer}"),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.api),
            format!("--advertise-address={ADVERTISED}"),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--tls-cert-file={}", self.file("apiserver.crt")),
            format!("--tls-private-key-file={}", self.file("apiserver.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            format!("--service-account-key-file={}", self.file("sa.pub")),
            format!("--service-account-signing-key-file={}", self.file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
        ];
        if !self.options.controller_manager {
            flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
        flags.extend(self.options.api_flags.iter().cloned());
        flags
    }

    fn controller_manager(&self) -> Vec<String> {
        let kubeconfig = self.file("controllers.kubeconfig");
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--service-account-private-key-file={}", self.file("sa.key")),
            "--use-service-account-credentials".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ]
    }
}

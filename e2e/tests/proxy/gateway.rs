//! Proxies that are started, asked, and followed by others.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use propylon_e2e::ports;
use propylon_testkit::{
    process::{Output, Process, binary},
    raw::RawClient,
    wait::{self, PATIENCE},
};
use tempfile::TempDir;

use crate::controller::{NAMESPACE, TOKEN, World};

/// A node: addresses, a folder that outlives processes, and what the kubelet mounts.
pub(crate) struct Node {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) folder: TempDir,
    controller: SocketAddr,
}

/// A proxy of a node, with a folder of its own.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
}

impl Node {
    pub(crate) fn new(world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        fs::write(folder.path().join("ca.crt"), world.authority.certificate_pem()).unwrap();
        Self {
            http: ports::free(),
            https: ports::free(),
            status: ports::free(),
            folder,
            controller: world.address,
        }
    }

    /// Starts a proxy whose own files are in the folder `pod`.
    pub(crate) fn start(&self, pod: &str, more: &[&str]) -> Proxy {
        let own = self.folder.path().join(pod);
        fs::create_dir_all(&own).unwrap();
        let socket = own.join("status.sock");
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let flags = [
            ("--controller", self.controller.to_string()),
            ("--pod-namespace", NAMESPACE.to_owned()),
            ("--pod-name", pod.to_owned()),
            ("--node", "node-1".to_owned()),
            ("--token-file", path("token")),
            ("--trust-file", path("ca.crt")),
            ("--snapshot", own.join("snapshot").display().to_string()),
            ("--status-socket", socket.display().to_string()),
            ("--status", self.status.to_string()),
            ("--http", self.http.to_string()),
            ("--https", self.https.to_string()),
            ("--admin", "off".to_owned()),
            ("--access-log", "off".to_owned()),
            ("--workers", "2".to_owned()),
        ];
        let mut arguments = Vec::new();
        for (flag, value) in flags {
            if !more.contains(&flag) {
                arguments.extend([flag.to_owned(), value]);
            }
        }
        arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(&binary("propylon-proxy").unwrap(), &arguments).unwrap();
        Proxy { process, socket }
    }

    /// The status of a request to the site of the tests.
    pub(crate) fn get(&self) -> u16 {
        let mut client = RawClient::connect(self.http).unwrap();
        client.get("web.example", "/").unwrap().status
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let mut client = RawClient::connect(self.status).ok()?;
        let body = client.get("localhost", "/metrics").ok()?.body;
        let text = String::from_utf8_lossy(&body).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line?.parse().ok()
    }
}

impl Proxy {
    /// What `propylon-proxy probe` says: whether the probe holds, and the answer.
    pub(crate) fn probe(&self, name: &str) -> (bool, String) {
        let mut command = Command::new(binary("propylon-proxy").unwrap());
        command.arg("probe").arg("--socket").arg(&self.socket).arg(name);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// Waits until a probe holds.
    pub(crate) fn becomes(&self, name: &str) {
        let held = wait::until(PATIENCE, || self.probe(name).0);
        assert!(
            held.is_some(),
            "{name}: {}\n{}",
            self.probe(name).1,
            self.process.transcript()
        );
    }

    /// Waits until its log says so, and gives the line.
    pub(crate) fn says(&self, words: &str) -> String {
        match self.process.line(Output::Stderr, PATIENCE, |line| line.contains(words)) {
            Ok(line) => line,
            Err(missing) => panic!("{words}: {missing}"),
        }
    }

    /// Waits for its end, which must be exit code 0.
    pub(crate) fn ends_well(&mut self) {
        let status = self.process.wait(PATIENCE).unwrap();
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}\n{}",
            self.process.transcript()
        );
    }
}

//! A real API server without nodes: etcd and kube-apiserver, on loopback.

mod flags;
mod identity;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use propylon_testkit::wait;
use rustix::process::Signal;

pub use identity::Identity;

use crate::{
    lab::{
        Pki, Programs,
        daemon::{Daemon, Scratch},
        kubeconfig,
    },
    ports,
};

/// How long the servers may take until they answer: far above the six seconds that it takes alone on two cores.
const START: Duration = Duration::from_mins(2);

/// How often other ports are tried: what was free can be taken before the server binds it.
const ATTEMPTS: u32 = 3;

/// What keeps the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// etcd 3.4 of Debian (package `etcd-server`): streaming lists (`sendInitialEvents`) are answered with an error 500,
    /// since it lacks `RequestWatchProgress`.
    Etcd34,
    /// The version that this Kubernetes is made for, built into the same binary.
    #[default]
    Etcd36,
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which etcd.
    pub store: Store,
    /// Whether kube-controller-manager runs too: then namespaces can be deleted, owners' garbage is collected, and
    /// `EndpointSlice`s follow Pods. Without it the admission of Pods asks for no service account.
    pub controller_manager: bool,
    /// Further flags of kube-apiserver.
    pub api_flags: Vec<String>,
}

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// etcd.
    Etcd,
}

/// A running API server with its etcd. RBAC is on, tokens of service accounts are signed and checked.
///
/// Each has ports, keys and data of its own. Everything ends, and the data goes, when this is dropped or the process
/// ends in any other way. Nothing runs in it that schedules or starts Pods; without a controller manager nothing deletes
/// namespaces either, so give each test one of its own ([`ApiServer::namespace`]).
pub struct ApiServer {
    options: Options,
    programs: Programs,
    pki: Pki,
    ports: Ports,
    parts: Mutex<BTreeMap<Part, Daemon>>,
    // The last field: the folder goes after the programs that write into it.
    scratch: Scratch,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    api: u16,
    etcd: u16,
    etcd_peer: u16,
}

impl ApiServer {
    /// The one server that the tests of a process share, with default options; the first call starts it (six seconds).
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ApiServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()).expect("a Kubernetes API server can be started"))
    }

    /// Starts a server and waits until it is ready. Blocks the thread.
    ///
    /// # Errors
    /// When the programs are not built (`lab deps`), or do not answer within two minutes; the message has their logs.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the options where they call")]
    pub fn start(options: Options) -> Result<Self> {
        let programs = Programs::find()?;
        let mut attempt = 1;
        loop {
            let server = Self::with_ports(options.clone(), programs.clone())?;
            match server.start_all() {
                Ok(()) => return Ok(server),
                Err(error) if attempt >= ATTEMPTS || !server.port_was_taken() => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn with_ports(options: Options, programs: Programs) -> Result<Self> {
        let scratch = Scratch::new("propylon-api-")?;
        let pki = Pki::create(&scratch.path().join("pki"))?;
        let ports = Ports {
            api: ports::free().port(),
            etcd: ports::free().port(),
            etcd_peer: ports::free().port(),
        };
        let server = Self {
            options,
            programs,
            pki,
            ports,
            parts: Mutex::default(),
            scratch,
        };
        server.write_keys()?;
        Ok(server)
    }

    fn start_all(&self) -> Result<()> {
        self.start_part(Part::Etcd)?;
        self.start_part(Part::ApiServer)?;
        self.wait_ready()?;
        if self.options.controller_manager {
            self.start_part(Part::ControllerManager)?;
        }
        Ok(())
    }

    /// Where it listens, as `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api)
    }

    /// The administrator's kubeconfig, for programs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.path("admin.kubeconfig")
    }

    /// The configuration of a client that may do everything (`system:masters`).
    ///
    /// # Panics
    /// When the kubeconfig cannot be read, which only a broken machine makes happen.
    pub fn config(&self) -> kube::Config {
        let text = fs::read(self.kubeconfig()).expect("the administrator's kubeconfig is there");
        let value = serde_json::from_slice(&text).expect("kubeconfigs of ours are JSON");
        kubeconfig::client_config(&value).expect("kubeconfigs of ours are complete")
    }

    /// A client that may do everything. It belongs to the runtime that calls: each test makes its own.
    ///
    /// # Panics
    /// As [`ApiServer::config`]; outside of a runtime.
    pub fn client(&self) -> kube::Client {
        client(self.config())
    }

    /// Runs kubectl as administrator.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn kubectl(&self, arguments: &[&str]) -> crate::programs::Finished {
        let kubectl = self.programs.path("kubectl").display().to_string();
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        crate::programs::run(&kubectl, &[&[kubeconfig.as_str()], arguments].concat())
    }

    /// The built programs (helm, kubectl and so on).
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The folder of logs, for a failed test: `etcd.log`, `kube-apiserver.log`, `kube-controller-manager.log`.
    pub fn logs(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts a part that was stopped or killed. For the API server [`ApiServer::wait_ready`] follows.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start_part(&self, part: Part) -> Result<()> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!parts.contains_key(&part), "{} runs already", part.name());
        let (program, arguments) = self.command(part);
        let log = self.log(part);
        parts.insert(part, Daemon::start(part.name(), &program, &arguments, &log)?);
        Ok(())
    }

    /// Asks a part to end (SIGTERM) and waits until it has; after 10 s it is killed. Nothing when it does not run.
    pub fn stop(&self, part: Part) {
        if let Some(daemon) = self.take(part) {
            daemon.stop();
        }
    }

    /// Kills a part (SIGKILL). Nothing when it does not run.
    pub fn kill(&self, part: Part) {
        drop(self.take(part));
    }

    /// Holds a part (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::STOP)
    }

    /// Lets a held part go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::CONT)
    }

    /// Stops a part, starts it, and waits until the server is ready again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart(&self, part: Part) -> Result<()> {
        self.stop(part);
        self.start_part(part)?;
        self.wait_ready()
    }

    /// Makes etcd forget all but the newest revision: a watch from an older one ends with `410 Gone`, once the API
    /// server's own cache of changes does not reach back so far either (restart it to make sure).
    ///
    /// # Panics
    /// When the program cannot be run.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn compact(&self) -> Result<()> {
        let program = self.programs.path("etcd-compact").display().to_string();
        let url = format!("--client-url=http://127.0.0.1:{}", self.ports.etcd);
        let finished = crate::programs::run(&program, &[&url]);
        ensure!(finished.succeeded(), "compacting etcd: {}", finished.text());
        Ok(())
    }

    /// Waits until the server says that it is ready (`/readyz`). Blocks the thread.
    ///
    /// # Errors
    /// When it ends or is not ready within two minutes; the message has the logs.
    pub fn wait_ready(&self) -> Result<()> {
        let config = self.config();
        let check = || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut last = String::new();
            wait::some(START, || {
                if let Some(ended) = self.ended() {
                    return Some(Err(ended));
                }
                match runtime.block_on(readiness(config.clone())) {
                    Ok(()) => Some(Ok(())),
                    Err(error) => {
                        last = format!("{error:#}");
                        None
                    }
                }
            })
            .map_or_else(
                || bail!("not ready after {START:?}: {last}\n{}", self.tails()),
                |(result, _)| result,
            )
        };
        // A thread of its own: the caller may be inside of a runtime.
        std::thread::scope(|scope| scope.spawn(check).join())
            .map_err(|_| anyhow::anyhow!("waiting for the API server panicked"))?
    }

    fn take(&self, part: Part) -> Option<Daemon> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&part)
    }

    fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .get(&part)
            .with_context(|| format!("{} does not run", part.name()))?
            .signal(signal)
    }

    fn log(&self, part: Part) -> PathBuf {
        self.scratch.path().join(format!("{}.log", part.name()))
    }

    /// An error when a program has ended by itself.
    fn ended(&self) -> Option<anyhow::Error> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.values_mut().find_map(|daemon| {
            let status = daemon.ended()?;
            Some(anyhow::anyhow!("it ended with {status}; {}", daemon.tail()))
        })
    }

    fn tails(&self) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.values().map(Daemon::tail).collect::<Vec<_>>().join("\n")
    }

    fn port_was_taken(&self) -> bool {
        self.tails().contains("address already in use")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // In this order: the API server waits for etcd when it is asked to end, and so is killed first.
        for part in [Part::ControllerManager, Part::ApiServer, Part::Etcd] {
            self.kill(part);
        }
    }
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Etcd => "etcd",
        }
    }
}

/// A client for a configuration, on the runtime that calls.
///
/// # Panics
/// When the configuration is not one of ours.
pub(super) fn client(config: kube::Config) -> kube::Client {
    kube::Client::try_from(config).expect("configurations of ours make a client")
}

/// Asks once, with a short deadline: a server that is held accepts and never answers.
async fn readiness(config: kube::Config) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new()).context("a request")?;
    let client = client(config);
    let answer = client.request_text(request);
    let text = tokio::time::timeout(Duration::from_secs(5), answer)
        .await
        .context("no answer from /readyz")??;
    ensure!(text == "ok", "/readyz says {text}");
    Ok(())
}

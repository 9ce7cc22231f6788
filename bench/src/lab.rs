//! What a measurement needs besides the proxies: a temporary folder, the certificate, the backend, the CPUs.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::args::{Client, LabArgs};
use crate::certs::CertFiles;
use crate::clients::Outcome;
use crate::http::HOST;
use crate::procs::Placement;
use crate::tools;

/// A running backend and the files that every proxy configuration refers to. Removed and ended when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: TempDir,
    backend: Child,
    /// Address of the backend.
    pub(crate) backend_addr: SocketAddr,
    /// The certificate of all proxies.
    pub(crate) certs: CertFiles,
    /// Host names every proxy routes, [`HOST`] among them.
    pub(crate) hosts: Vec<String>,
    /// Where the proxies run.
    pub(crate) proxy: Placement,
    /// Where backend and load run.
    pub(crate) load: Placement,
    /// Whether the proxies write access logs.
    pub(crate) access_log: bool,
    /// Upper bound of open files per process.
    pub(crate) open_files: u64,
}

impl Lab {
    /// Prepares the files and starts the backend.
    ///
    /// # Errors
    ///
    /// When a tool is missing or the backend does not start.
    pub(crate) fn new(args: &LabArgs) -> Result<Self> {
        tools::require(&["setpriv", "taskset", "timeout"])?;
        let open_files = tools::raise_open_files();
        let dir = tempfile::Builder::new().prefix("propylon-bench-").tempdir()?;
        let certs = CertFiles::generate(dir.path())?;
        let place = |cpu| Placement {
            cpu: Some(cpu),
            realtime: args.realtime,
        };
        let load = place(args.load_cpu);
        let (backend, backend_addr) = start_backend(load)?;
        let others = (1..args.hosts.max(1)).map(|index| format!("host-{index:04}.bench.test"));
        let hosts = std::iter::once(HOST.to_owned()).chain(others).collect();
        let access_log = args.access_log;
        Ok(Self {
            dir,
            backend,
            backend_addr,
            certs,
            hosts,
            proxy: place(args.proxy_cpu),
            load,
            access_log,
            open_files,
        })
    }

    /// The temporary folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new folder under the temporary one.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Runs a program on the load generators' CPU, ended after `limit` seconds, and gives its standard output.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long.
    pub(crate) fn run_load(&self, limit: u32, program: &Path, args: &[String]) -> Result<String> {
        let output = self
            .load
            .command(Path::new("timeout"))
            .args(["--kill-after", "2", &limit.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{} ended with {}: {}{}",
                program.display(),
                output.status,
                text,
                errors.trim()
            );
        }
        Ok(text)
    }

    /// Runs one of the own clients to its end.
    ///
    /// # Errors
    ///
    /// When it fails or takes too long.
    pub(crate) fn run_client(&self, limit: u32, client: Client, args: &[String]) -> Result<Outcome> {
        let text = self.run_load(limit, &own_program()?, &client_args(client, args))?;
        serde_json::from_str(text.trim()).context("the client printed no outcome")
    }

    /// Starts one of the own clients; the caller talks to it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start_client(&self, client: Client, args: &[String]) -> Result<Child> {
        let mut command = self.load.command(&own_program()?);
        command
            .args(client_args(client, args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn().context("start a client")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.backend.kill().is_err() || self.backend.wait().is_err() {
            eprintln!("the backend could not be ended");
        }
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("path of this program")
}

fn client_args(client: Client, args: &[String]) -> Vec<String> {
    let name = clap::ValueEnum::to_possible_value(&client).map(|value| value.get_name().to_owned());
    ["load".to_owned(), "--client".to_owned()]
        .into_iter()
        .chain(name)
        .chain(args.iter().cloned())
        .collect()
}

fn start_backend(place: Placement) -> Result<(Child, SocketAddr)> {
    let mut command: Command = place.command(&own_program()?);
    let mut child = command
        .args(["backend", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the backend")?;
    let mut line = String::new();
    let output = child.stdout.take().context("the backend's output")?;
    BufReader::new(output).read_line(&mut line)?;
    let addr = line
        .trim()
        .strip_prefix("listening on ")
        .and_then(|addr| addr.parse().ok());
    Ok((child, addr.context("the backend did not start")?))
}

/// A loopback address with a port that was free a moment ago.
///
/// # Errors
///
/// When no port is free.
pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

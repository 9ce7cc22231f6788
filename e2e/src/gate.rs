//! A running `propylon run` with a folder of manifests of its own.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output as ProgramOutput},
    sync::OnceLock,
    time::Duration,
};

use propylon_testkit::{
    process::{Output, Process, binary},
    raw::{RawClient, RawResponse},
    wait::{self, PATIENCE},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// What the harness asks for; the kernel chooses the ports, and the process prints them.
const OWN_FLAGS: &[(&str, &str)] = &[
    ("--http", "127.0.0.1:0"),
    ("--https", "127.0.0.1:0"),
    ("--admin", "127.0.0.1:0"),
    ("--access-log", "off"),
    ("--workers", "2"),
];

/// A running proxy. It is killed, and its folder removed, when this is dropped.
pub struct Gate {
    /// The process.
    pub process: Process,
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
    /// Probes, metrics, routes.
    pub admin: SocketAddr,
    folder: TempDir,
}

impl Gate {
    /// Starts with one file of manifests and waits until it is ready. The access log is off.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(manifests: &str) -> Self {
        Self::start_with(manifests, &[])
    }

    /// The same, with more flags; a flag given here replaces the harness's own.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_with(manifests: &str, flags: &[&str]) -> Self {
        Self::start_files(&[("manifests.yaml", manifests)], flags)
    }

    /// The same, with several files.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_files(files: &[(&str, &str)], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("the folder is writable");
        }
        let gate = Self::spawn(folder, flags).unwrap_or_else(|output| panic!("it did not start:\n{output}"));
        gate.until("it is ready", || gate.is_ready());
        gate
    }

    fn spawn(folder: TempDir, flags: &[&str]) -> Result<Self, String> {
        let mut arguments = vec!["run", "--manifests", folder.path().to_str().expect("a path of ASCII")];
        for (flag, value) in OWN_FLAGS {
            if !flags.contains(flag) {
                arguments.extend([*flag, *value]);
            }
        }
        arguments.extend(flags);
        let mut process = Process::start(propylon(), &arguments).map_err(|error| error.to_string())?;
        let addresses = wait::some(PATIENCE, || {
            let ended = process.wait(Duration::ZERO).ok().flatten().is_some();
            let found = ["http", "https", "admin"].map(|scheme| listening(&process, scheme));
            (ended || found.iter().all(Option::is_some)).then_some(found)
        });
        match addresses {
            Some(([Some(http), Some(https), Some(admin)], _)) => Ok(Self {
                process,
                http,
                https,
                admin,
                folder,
            }),
            _ => Err(process.transcript()),
        }
    }

    /// Whether it is ready.
    fn is_ready(&self) -> bool {
        self.try_admin("/readyz").is_ok_and(|response| response.status == 200)
    }

    /// The folder of manifests.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the folder as editors do: beside it, then renamed into place.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn write(&self, name: &str, text: &str) {
        let (target, beside) = (self.folder().join(name), self.folder().join(format!(".{name}.new")));
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &target))
            .expect("the folder is writable");
    }

    /// Replaces the file that [`Self::start`] wrote.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn replace(&self, manifests: &str) {
        self.write("manifests.yaml", manifests);
    }

    /// Removes a file of the folder.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.folder().join(name)).expect("the file exists");
    }

    /// A new plain connection.
    ///
    /// # Panics
    /// When it is refused.
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.http).expect("the proxy accepts")
    }

    /// A new TLS connection; any certificate is accepted.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn connect_tls(&self, sni: Option<&str>, alpn: &[&str]) -> RawClient {
        RawClient::connect_tls(self.https, sni, alpn).expect("the handshake succeeds")
    }

    /// GET on a new plain connection.
    ///
    /// # Panics
    /// When no response comes.
    pub fn get(&self, host: &str, path: &str) -> RawResponse {
        self.connect()
            .get(host, path)
            .unwrap_or_else(|error| panic!("GET {host}{path}: {error}\n{}", self.transcript()))
    }

    /// GET on a new TLS connection with the host as SNI.
    ///
    /// # Panics
    /// When no response comes.
    pub fn get_tls(&self, host: &str, path: &str) -> RawResponse {
        self.connect_tls(Some(host), &["http/1.1"])
            .get(host, path)
            .expect("a response comes")
    }

    /// Sends bytes on a new plain connection and reads one response.
    ///
    /// # Panics
    /// When no response comes.
    pub fn send(&self, request: &str) -> RawResponse {
        let mut client = self.connect();
        client.send(request.as_bytes()).expect("the request is sent");
        client
            .response()
            .unwrap_or_else(|error| panic!("no response to {request:?}: {error}\n{}", self.transcript()))
    }

    /// GET on the admin listener.
    ///
    /// # Panics
    /// When no response comes.
    pub fn admin(&self, path: &str) -> RawResponse {
        self.try_admin(path).expect("the admin listener answers")
    }

    /// GET on the admin listener.
    ///
    /// # Errors
    /// When no response comes.
    pub fn try_admin(&self, path: &str) -> io::Result<RawResponse> {
        let mut client = RawClient::connect(self.admin)?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        client.response()
    }

    /// The sum of all samples of a metric whose labels contain every text of `labels`; none where there is no sample.
    ///
    /// # Panics
    /// When the admin listener does not answer.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.admin("/metrics").text();
        let samples = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            (series_name == name && labels.iter().all(|label| series_labels.contains(label)))
                .then(|| value.parse::<f64>().ok())?
        });
        samples.reduce(|sum, value| sum + value)
    }

    /// Waits until `condition` holds, and gives the time that it took.
    ///
    /// # Panics
    /// When it does not come to hold.
    pub fn until(&self, what: &str, condition: impl FnMut() -> bool) -> Duration {
        self.until_within(PATIENCE, what, condition)
    }

    /// The same, with a patience of its own.
    ///
    /// # Panics
    /// When it does not come to hold.
    pub fn until_within(&self, patience: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
        wait::until(patience, condition).unwrap_or_else(|| panic!("waited in vain until {what}\n{}", self.transcript()))
    }

    /// Waits until a GET of `path` at `host` is answered with `status`, and gives the time that it took.
    ///
    /// # Panics
    /// When it is not.
    pub fn until_status(&self, host: &str, path: &str, status: u16) -> Duration {
        self.until(&format!("GET {host}{path} gives {status}"), || {
            self.get(host, path).status == status
        })
    }

    /// Waits for a printed line that contains every one of `parts`.
    ///
    /// # Panics
    /// When none comes.
    pub fn line(&self, parts: &[&str]) -> String {
        let found = wait::some(PATIENCE, || {
            let lines = self.process.transcript();
            lines
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(ToOwned::to_owned)
        });
        found.map_or_else(
            || panic!("no line with {parts:?} in:\n{}", self.transcript()),
            |(line, _)| line,
        )
    }

    /// The printed lines of standard output.
    pub fn output(&self) -> Vec<String> {
        self.process.lines(Output::Stdout)
    }

    /// Everything printed so far.
    pub fn transcript(&self) -> String {
        self.process.transcript()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the process runs");
    }

    /// Resident memory, bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the kernel says VmRSS");
        let kibibytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("VmRSS is a number of kB");
        kibibytes * 1024
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report(&self.process.transcript());
        }
    }
}

/// The address that the process printed for a scheme.
fn listening(process: &Process, scheme: &str) -> Option<SocketAddr> {
    let lines = process.transcript();
    let mut found = lines
        .lines()
        .filter_map(|line| line.split_once(&format!("listening {scheme} ")));
    found.next().and_then(|(_, address)| address.trim().parse().ok())
}

/// Runs `propylon` to its end with these arguments.
///
/// # Panics
/// When it cannot be started.
pub fn run_to_end(arguments: &[&str]) -> ProgramOutput {
    Command::new(propylon())
        .args(arguments)
        .output()
        .expect("the binary can be started")
}

/// The built binary. Unless `PROPYLON_BIN_DIR` names a folder, cargo is asked to build it first: cargo builds the binaries
/// of a package for its own tests only, and an old one would be tested unseen.
///
/// # Panics
/// When it cannot be built.
pub fn propylon() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if std::env::var_os("PROPYLON_BIN_DIR").is_none() {
            let mut build = Command::new(env!("CARGO"));
            build
                .args(["build", "--quiet", "--package", "propylon-cli"])
                .current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(
                build.status().is_ok_and(|status| status.success()),
                "propylon-cli does not build"
            );
        }
        binary("propylon").expect("it was built")
    })
}

#[expect(clippy::print_stderr, reason = "the output of the process explains a failed test")]
fn report(transcript: &str) {
    eprintln!("the output of propylon was:\n{transcript}");
}

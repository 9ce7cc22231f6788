//! A program in the background that ends with its starter, its output in a file.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use propylon_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to end when asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How many bytes of a log an error message shows.
const TAIL: usize = 2000;

/// A running program. It is killed when this is dropped, and when the process that started it ends in any way.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` with `arguments`; what it prints is appended to `log`.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("one file for both outputs")?)
            .stderr(output)
            .process_group(0);
        let child = spawn(command).with_context(|| format!("starting {name} (setpriv is in util-linux)"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The process id: that of the program itself, since `setpriv` becomes it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.context("a process id is a positive number")?;
        kill_process(id, signal).with_context(|| format!("sending a signal to {}", self.name))
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, and kills it when it does not within 10 s.
    pub(crate) fn stop(mut self) {
        // Both fail only where it has ended already; one that is held (SIGSTOP) must go on to end.
        drop(self.signal(Signal::CONT));
        drop(self.signal(Signal::TERM));
        wait::until(GRACE, || self.ended().is_some());
    }

    /// The end of its log, for an error message.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(TAIL);
        let tail = String::from_utf8_lossy(text.get(start..).unwrap_or_default());
        format!("the end of the log of {}:\n{tail}", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only where it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Spawns from a thread that lives as long as the process: the death signal of a child comes when the thread ends that
/// started it, and tests run on threads that end before the others do.
fn spawn(command: Command) -> io::Result<Child> {
    type Answer = mpsc::SyncSender<io::Result<Child>>;
    static SPAWNER: OnceLock<mpsc::SyncSender<(Command, Answer)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::sync_channel::<(Command, Answer)>(0);
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Nobody waits for an answer any more only where the process is ending.
                drop(answer.send(command.spawn()));
            }
        });
        sender
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts programs is gone");
    spawner
        .send((command, answer))
        .map_err(|_| io::Error::other("the thread that starts programs is gone"))?;
    spawned.recv().map_err(gone)?
}

/// Removes a folder when this is dropped, and when the process ends in any other way (a killed test, or a value in a
/// static, which is never dropped).
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Waits for the end of its standard input, which this process holds.
    broom: Child,
}

impl Scratch {
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .context("making a temporary folder")?
            .keep();
        let script = r#"cat >/dev/null; for try in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 0.2; done"#;
        let broom = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the process that removes the temporary folder")?;
        Ok(Self { folder, broom })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.broom.stdin.take());
        // It removes the folder and ends; what it cannot remove stays in the folder of temporary files.
        drop(self.broom.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_goes_with_its_owner() {
        let scratch = Scratch::new("propylon-scratch-").unwrap();
        let folder = scratch.path().to_owned();
        fs::write(folder.join("file"), "content").unwrap();
        drop(scratch);
        assert!(!folder.exists());
    }

    #[test]
    fn a_program_outlives_the_thread_that_asked_for_it() {
        let scratch = Scratch::new("propylon-scratch-").unwrap();
        let log = scratch.path().join("log");
        let start = || Daemon::start("sleep", Path::new("sleep"), &["1000".to_owned()], &log).unwrap();
        let mut daemon = thread::scope(|scope| scope.spawn(start).join().unwrap());
        assert!(daemon.ended().is_none());
        assert!(wait::until(Duration::from_millis(50), || daemon.ended().is_some()).is_none());
        daemon.stop();
    }
}

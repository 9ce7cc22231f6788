//! A built binary as a child process, with its output collected.

use std::{
    env, fmt,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// The binary `name` of this workspace, as the build that made the running test placed it.
///
/// The environment variable `PROPYLON_BIN_DIR` names another directory, such as one with release binaries. Cargo builds
/// a package's own binaries for its integration tests, and no others: build the workspace first.
///
/// # Errors
/// When there is no such file.
pub fn binary(name: &str) -> io::Result<PathBuf> {
    // The test stands at TARGET/PROFILE/deps/TEST-HASH.
    let test = env::current_exe()?;
    let built = test.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    let directory = env::var_os("PROPYLON_BIN_DIR").map_or_else(|| built.to_path_buf(), PathBuf::from);
    let path = directory.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} is not built", path.display()),
    ))
}

/// Which output a line came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

type Lines = Arc<Mutex<Vec<(Output, String)>>>;

/// A child process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    lines: Lines,
}

impl Process {
    /// Starts `binary` with `arguments`, without the environment variables `PROPYLON_*` of the test.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(binary: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(binary);
        command.args(arguments);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROPYLON_")) {
            command.env_remove(name);
        }
        Self::spawn(command)
    }

    /// Starts a command, its outputs collected.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = Lines::default();
        collect(child.stdout.take(), Output::Stdout, &lines);
        collect(child.stderr.take(), Output::Stderr, &lines);
        Ok(Self { child, lines })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of one output so far.
    pub fn lines(&self, output: Output) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter(|(from, _)| *from == output)
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// All lines so far, for the message of a failed test.
    pub fn transcript(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = lines
            .iter()
            .map(|(output, line)| format!("{output:?}: {line}"))
            .collect();
        lines.join("\n")
    }

    /// Waits for the first line of an output that `wanted` accepts.
    ///
    /// # Errors
    /// With the transcript, when none came within `patience`.
    pub fn line(&self, output: Output, patience: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, Missing> {
        wait::some(patience, || self.lines(output).into_iter().find(|line| wanted(line)))
            .map(|(line, _)| line)
            .ok_or_else(|| Missing {
                transcript: self.transcript(),
            })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(id, signal)?)
    }

    /// Waits for the end of the process; `None` when it still runs after `patience`.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        wait::some(patience, || self.child.try_wait().transpose())
            .map(|(status, _)| status)
            .transpose()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the process has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A line that was waited for did not come.
#[derive(Debug)]
pub struct Missing {
    transcript: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the line did not come; the output was:\n{}", self.transcript)
    }
}

impl std::error::Error for Missing {}

fn collect(pipe: Option<impl Read + Send + 'static>, output: Output, lines: &Lines) {
    let Some(pipe) = pipe else { return };
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((output, text));
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_outputs_are_collected() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::spawn(command).unwrap();
        process
            .line(Output::Stdout, wait::PATIENCE, |line| line == "out")
            .unwrap();
        process
            .line(Output::Stderr, wait::PATIENCE, |line| line == "err")
            .unwrap();
        assert_eq!(process.wait(wait::PATIENCE).unwrap().unwrap().code(), Some(3));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::spawn(command).unwrap();
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(id).is_err());
    }
}

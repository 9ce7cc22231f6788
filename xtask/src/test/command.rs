//! Running a program with a deadline, and what it came to.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How many lines of output wait to be printed before the program that writes them has to.
const LINES_IN_FLIGHT: usize = 1024;

/// What a stage came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Checks and tests that passed.
    pub(crate) passed: u64,
    /// Checks and tests that failed or could not run.
    pub(crate) failed: u64,
    /// Tests that are marked as not to be run.
    pub(crate) ignored: u64,
    /// What the reader of the summary should know.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// One failed check, and why.
    pub(crate) fn failure(reason: impl Into<String>) -> Self {
        Self {
            failed: 1,
            notes: vec![reason.into()],
            ..Self::default()
        }
    }

    /// Adds what another stage came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.notes.extend(other.notes);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} passed, {} failed, {} ignored",
            self.passed, self.failed, self.ignored
        )
    }
}

/// A program to be run.
pub(crate) struct Run {
    command: Command,
    title: String,
}

/// How a program ended and what it printed.
pub(crate) struct Output {
    /// Whether it ended by itself with exit code 0.
    pub(crate) succeeded: bool,
    /// Standard output and standard error, line by line as they came.
    pub(crate) text: String,
    title: String,
}

impl Output {
    /// One check: passed when the program succeeded.
    pub(crate) fn as_check(&self) -> Outcome {
        if self.succeeded {
            Outcome {
                passed: 1,
                ..Outcome::default()
            }
        } else {
            Outcome::failure(format!("`{}` failed", self.title))
        }
    }
}

impl Run {
    /// A run of `program` with `arguments`.
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let name = Path::new(program)
            .file_name()
            .map_or_else(|| program.into(), |name| name.to_string_lossy());
        let title = format!("{name} {}", arguments.join(" "));
        Self { command, title }
    }

    /// The same, in a folder.
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The same, with an environment variable.
    pub(crate) fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as one check.
    pub(crate) fn check(self, budget: Duration) -> Outcome {
        self.output(budget).as_check()
    }

    /// Runs it and adds up its `test result:` lines; a run that fails without a failed test is one failure.
    pub(crate) fn count_tests(self, budget: Duration) -> Outcome {
        let output = self.output(budget);
        let mut total = Outcome::default();
        for line in output.text.lines().filter(|line| line.starts_with("test result:")) {
            total.passed += count_before(line, " passed");
            total.failed += count_before(line, " failed");
            total.ignored += count_before(line, " ignored");
        }
        if !output.succeeded && total.failed == 0 {
            total.add(output.as_check());
        } else if total.failed > 0 {
            total.notes.push(format!("`{}` has failed tests", output.title));
        }
        total
    }

    /// Runs it to its end, printing what it prints; when `budget` is over it is killed with all that it started.
    #[expect(clippy::print_stdout, reason = "what a stage says is part of this command's output")]
    pub(crate) fn output(mut self, budget: Duration) -> Output {
        println!("-- {}", self.title);
        let (status, text) = match self.command.spawn() {
            Ok(child) => follow(child, budget),
            Err(error) => (None, format!("cannot start: {error}")),
        };
        if status.is_none() {
            println!("{}", text.lines().last().unwrap_or_default());
        }
        Output {
            succeeded: status.is_some_and(|status| status.success()),
            text,
            title: self.title,
        }
    }
}

/// Runs `action` and says how many seconds it took.
#[expect(
    clippy::disallowed_types,
    reason = "the time a stage took; nothing is tested with this clock"
)]
pub(crate) fn timed<T>(action: impl FnOnce() -> T) -> (T, u64) {
    let start = std::time::Instant::now();
    let value = action();
    (value, start.elapsed().as_secs())
}

/// Prints and collects the output of `child` until it ends; no status when it had to be killed.
#[expect(
    clippy::disallowed_types,
    reason = "the deadline of a stage; nothing is tested with this clock"
)]
#[expect(clippy::print_stdout, reason = "what a stage says is part of this command's output")]
fn follow(mut child: Child, budget: Duration) -> (Option<ExitStatus>, String) {
    let deadline = std::time::Instant::now() + budget;
    let (sender, lines) = mpsc::sync_channel(LINES_IN_FLIGHT);
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, sender);
    }
    let mut text = String::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {
            Ok(line) => {
                println!("{line}");
                text.push_str(&line);
                text.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                kill_group(&mut child);
                text.push_str("its time is over: killed\n");
                return (None, text);
            }
        }
    }
    (child.wait().ok(), text)
}

/// Sends every line of `stream` to `lines`, on a thread of its own, until either side ends.
fn read_lines(stream: impl Read + Send + 'static, lines: mpsc::SyncSender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&buffer).trim_end().to_owned();
            buffer.clear();
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}

/// Kills a child and all of its process group (each run has a group of its own).
#[expect(clippy::print_stdout, reason = "what a stage says is part of this command's output")]
fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let killed = Command::new("kill")
        .args(["-KILL", "--", &group])
        .status()
        .is_ok_and(|status| status.success());
    if !killed && let Err(error) = child.kill() {
        println!("cannot kill process {}: {error}", child.id());
    }
    if let Err(error) = child.wait() {
        println!("process {} did not end: {error}", child.id());
    }
}

/// The number that stands before `word` in a line such as `test result: ok. 12 passed; 0 failed; 1 ignored`.
fn count_before(line: &str, word: &str) -> u64 {
    let Some((before, _)) = line.split_once(word) else {
        return 0;
    };
    let number = before
        .rsplit(|character: char| !character.is_ascii_digit())
        .next()
        .unwrap_or_default();
    number.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn result_lines_are_added_up() {
        let script = "echo 'test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured'; \
                      echo 'test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured' >&2; exit 101";
        let outcome = Run::new("sh", &["-c", script]).count_tests(PATIENCE);
        assert_eq!((outcome.passed, outcome.failed, outcome.ignored), (15, 2, 1));
    }

    #[test]
    fn a_failure_without_a_failed_test_counts() {
        let outcome =
            Run::new("sh", &["-c", "echo 'test result: ok. 1 passed; 0 failed'; exit 1"]).count_tests(PATIENCE);
        assert_eq!((outcome.passed, outcome.failed), (1, 1));
    }

    #[test]
    fn a_program_that_is_missing_counts_as_failed() {
        assert_eq!(Run::new("propylon-no-such-program", &[]).check(PATIENCE).failed, 1);
    }

    #[test]
    fn a_run_over_its_time_is_killed_with_its_children() {
        let output = Run::new("sh", &["-c", "sleep 600 & wait"]).output(Duration::from_millis(50));
        assert!(!output.succeeded);
        assert!(output.text.contains("time is over"));
    }
}

//! Child processes: started on one CPU, measured through `/proc`, ended with their owner.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::wait_until;

/// Where and how a process runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    /// The only CPU it may use; none: all of them.
    pub(crate) cpu: Option<usize>,
    /// `SCHED_RR` 10 instead of the normal class; threads of a process on one CPU still share it.
    pub(crate) realtime: bool,
}

impl Placement {
    /// The command line that runs `program` there and ends it if this process dies.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if self.realtime {
            command.args(["chrt", "-r", "10"]);
        }
        if let Some(cpu) = self.cpu {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        command.arg(program);
        command
    }
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) placement: Placement,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// File for standard output.
    pub(crate) stdout: PathBuf,
    /// File for standard error.
    pub(crate) stderr: PathBuf,
}

impl Launch {
    /// Runs the program under another one, such as `valgrind`.
    pub(crate) fn wrapped(mut self, wrapper: &[OsString]) -> Self {
        if let Some((tool, rest)) = wrapper.split_first() {
            let program = std::mem::replace(&mut self.program, PathBuf::from(tool));
            let own = std::mem::take(&mut self.args);
            self.args = rest
                .iter()
                .cloned()
                .chain([program.into_os_string()])
                .chain(own)
                .collect();
        }
        self
    }
}

/// A running process, ended when dropped: TERM, and KILL after five seconds.
#[derive(Debug)]
pub(crate) struct Proc {
    child: Child,
    name: &'static str,
    stderr: PathBuf,
}

impl Proc {
    /// Starts `launch`.
    ///
    /// # Errors
    ///
    /// When a log file or the process cannot be made; not retryable.
    pub(crate) fn spawn(launch: &Launch) -> Result<Self> {
        let (stdout, stderr) = (append_to(&launch.stdout)?, append_to(&launch.stderr)?);
        let child = launch
            .placement
            .command(&launch.program)
            .args(&launch.args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("start {}", launch.name))?;
        Ok(Self {
            child,
            name: launch.name,
            stderr: launch.stderr.clone(),
        })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of its error output if the process has ended.
    ///
    /// # Errors
    ///
    /// When it has ended; not retryable.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(12)..)
            .unwrap_or_default()
            .join("\n");
        bail!("{} ended: {status}\n{tail}", self.name)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        if matches!(self.child.try_wait(), Ok(Some(_))) || kill_process(pid, Signal::TERM).is_err() {
            return;
        }
        let child = &mut self.child;
        let ended = wait_until("end", Duration::from_secs(5), || Ok(child.try_wait()?.is_some()));
        if ended.is_err() {
            eprintln!("{}: did not end on TERM, killing it", self.name);
            if self.child.kill().is_err() || self.child.wait().is_err() {
                eprintln!("{}: could not be ended", self.name);
            }
        }
    }
}

/// Opens a log so that it can be emptied under its writer.
fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// CPU time of a process tree, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
}

impl CpuTime {
    /// User and system time together.
    pub(crate) fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us - earlier.user_us,
            system_us: self.system_us - earlier.system_us,
        }
    }
}

/// One line of `/proc/PID/stat`: parent, user ticks, system ticks.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    user: u64,
    system: u64,
}

fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        user: number(11)?,
        system: number(12)?,
    })
}

fn all_stats() -> HashMap<u32, Stat> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(stat) = parse_stat(&line) {
            found.insert(pid, stat);
        }
    }
    found
}

fn descends(stats: &HashMap<u32, Stat>, mut pid: u32, root: u32) -> bool {
    for _ in 0..64 {
        if pid == root {
            return true;
        }
        match stats.get(&pid) {
            Some(stat) if stat.parent > 1 => pid = stat.parent,
            _ => return false,
        }
    }
    false
}

/// CPU time used so far by `root` and its descendants, in the kernel's clock ticks (10 ms on most machines).
pub(crate) fn tree_cpu(root: u32) -> CpuTime {
    let stats = all_stats();
    let tick_us = 1e6 / rustix::param::clock_ticks_per_second() as f64;
    let mut sum = CpuTime::default();
    for (_, stat) in stats.iter().filter(|(pid, _)| descends(&stats, **pid, root)) {
        sum.user_us += stat.user as f64 * tick_us;
        sum.system_us += stat.system as f64 * tick_us;
    }
    sum
}

/// Proportional set size of `root` and its descendants, bytes.
///
/// # Errors
///
/// When a `smaps_rollup` cannot be read (another user's process); not retryable.
pub(crate) fn tree_pss(root: u32) -> Result<u64> {
    let stats = all_stats();
    let mut sum = 0;
    for pid in stats.keys().filter(|pid| descends(&stats, **pid, root)) {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        sum += parse_pss(&text).with_context(|| format!("no Pss line in {path}"))?;
    }
    Ok(sum)
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_name_with_blanks_and_brackets() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 123 456 0 0 20 0 1 0 99 0 0";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                user: 123,
                system: 456
            })
        );
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn pss_is_in_kibibytes() {
        assert_eq!(parse_pss("Rss:  10 kB\nPss:   4 kB\nPss_Dirty: 1 kB\n"), Some(4096));
        assert_eq!(parse_pss("Rss: 10 kB\n"), None);
    }

    #[test]
    fn the_cpu_time_of_this_process_grows() {
        let before = tree_cpu(std::process::id());
        let mut sum = 0u64;
        while tree_cpu(std::process::id()).since(before).total_us() < 20_000.0 {
            sum = (0..200_000u64).fold(sum, |acc, n| std::hint::black_box(acc ^ n.wrapping_mul(31)));
        }
        assert!(tree_pss(std::process::id()).unwrap() > 100_000);
    }
}

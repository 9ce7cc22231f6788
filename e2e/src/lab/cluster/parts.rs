//! The programs of a cluster as background processes that outlive whoever started them.
//!
//! Each carries in its environment which cluster and which part of it it is, so that it is found again after a crash of
//! whoever started it, and never taken for another's process; ids that were written down could have been reused.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use propylon_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::Cluster;

/// The variables that mark processes.
const CLUSTER: &str = "PROPYLON_LAB";
const PART: &str = "PROPYLON_LAB_PART";

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// How many bytes of a log an error message shows.
const TAIL: usize = 2000;

/// How a part is started, written down so that it can be started again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Which: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `node1` and so on.
    pub(super) name: String,
    /// The network that it runs in.
    pub(super) place: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

impl Cluster {
    /// Starts a part for the first time.
    pub(super) fn launch(&self, part: &Part) -> Result<()> {
        fs::create_dir_all(self.folder.join("parts")).context("making the folder of parts")?;
        let record = serde_json::to_string(part).context("writing down a part")?;
        self.write(&format!("parts/{}.json", part.name), &record)?;
        self.start(&part.name)
    }

    /// Starts a part that was killed: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, or a node
    /// by its name. Does not wait until it is ready.
    ///
    /// # Errors
    /// When there is no such part, or it runs already.
    pub fn start(&self, part: &str) -> Result<()> {
        let record = fs::read(self.folder.join(format!("parts/{part}.json")));
        let record = record.with_context(|| format!("there is no part '{part}'"))?;
        let part: Part = serde_json::from_slice(&record).context("reading how a part is started")?;
        ensure!(
            processes(&self.plan.name, Some(&part.name)).is_empty(),
            "{} runs already",
            part.name
        );
        let log = File::options().create(true).append(true).open(self.log(&part.name));
        let log = log.with_context(|| format!("opening the log of {}", part.name))?;
        let mut command = self.exec(&part.place, "setsid");
        command
            .arg(&part.program)
            .args(&part.arguments)
            .env(CLUSTER, &self.plan.name)
            .env(PART, &part.name)
            .env_remove("PROPYLON_LAB_NAME")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("one file for both outputs")?)
            .stderr(log);
        // It is not waited for: it outlives this process, and its end is seen by what it no longer does.
        drop(command.spawn().with_context(|| format!("starting {}", part.name))?);
        Ok(())
    }

    /// Kills a part with all that it started (SIGKILL), and waits until it is gone. A node loses its Pods with it.
    ///
    /// # Errors
    /// When it does not run, or does not go.
    pub fn kill(&self, part: &str) -> Result<()> {
        ensure!(
            !processes(&self.plan.name, Some(part)).is_empty(),
            "{part} does not run"
        );
        kill_all(&self.plan.name, Some(part))
    }

    /// Holds a part (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, part: &str) -> Result<()> {
        self.signal(part, Signal::STOP)
    }

    /// Lets a held part go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, part: &str) -> Result<()> {
        self.signal(part, Signal::CONT)
    }

    fn signal(&self, part: &str, signal: Signal) -> Result<()> {
        let processes = processes(&self.plan.name, Some(part));
        ensure!(!processes.is_empty(), "{part} does not run");
        for process in processes {
            kill_process(process, signal).with_context(|| format!("sending a signal to {part}"))?;
        }
        Ok(())
    }

    /// An error with the end of the log when a part does not run (any more).
    pub(super) fn expect_running(&self, parts: &[&str]) -> Result<()> {
        for part in parts {
            ensure!(
                !processes(&self.plan.name, Some(part)).is_empty(),
                "{part} has ended; {}",
                self.tail(part)
            );
        }
        Ok(())
    }

    /// The end of the log of a part.
    pub(super) fn tail(&self, part: &str) -> String {
        tail(&self.log(part))
    }

    fn log(&self, part: &str) -> PathBuf {
        self.folder.join(format!("log/{part}.log"))
    }
}

/// The end of a file, for an error message.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let start = text.len().saturating_sub(TAIL);
    let text = String::from_utf8_lossy(text.get(start..).unwrap_or_default());
    format!("the end of {}:\n{text}", log.display())
}

/// The processes of a cluster, or of one part of it.
pub(super) fn processes(cluster: &str, part: Option<&str>) -> Vec<Pid> {
    let mark = format!("{CLUSTER}={cluster}");
    let part = part.map(|part| format!("{PART}={part}"));
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        // A process that has just ended has none.
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let has = |wanted: &str| {
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        };
        has(&mark) && part.as_deref().is_none_or(has)
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// Kills what [`processes`] finds until it finds nothing.
pub(super) fn kill_all(cluster: &str, part: Option<&str>) -> Result<()> {
    let gone = wait::until(GONE, || {
        let processes = processes(cluster, part);
        for process in &processes {
            // Fails where it has ended in between.
            kill_process(*process, Signal::KILL).unwrap_or_default();
        }
        processes.is_empty()
    });
    gone.map(drop)
        .with_context(|| format!("processes of the cluster '{cluster}' do not end when killed"))
}

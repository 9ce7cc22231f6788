//! The processes of pods, as the machine under all nodes sees them.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};

/// Kills (SIGKILL) what runs `program` in a pod: what a crash looks like to everyone else. The kubelet starts the
/// container again.
///
/// Each node is a namespace of processes below this machine's, so its processes are found by their control group, which
/// has the pod's uid in its name.
///
/// # Panics
/// When no process of the pod runs that program.
pub fn kill_container(pod: &Pod, program: &str) {
    let uid = pod.metadata.uid.as_deref().expect("a pod of the API has a uid");
    let found = processes(uid, program);
    assert!(
        !found.is_empty(),
        "no {program} in the pod {:?} ({uid})",
        pod.metadata.name
    );
    for process in found {
        // Fails where it has ended since.
        kill_process(process, Signal::KILL).unwrap_or_default();
    }
}

fn processes(uid: &str, program: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let of_pod = numbers.filter(|number| {
        let folder = Path::new("/proc").join(number.to_string());
        let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        groups.contains(uid) && command.split(|byte| *byte == 0).next() == Some(program.as_bytes())
    });
    of_pod.filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_such_a_group_is_left_alone() {
        assert!(processes("00000000-no-such-pod", "/propylon-proxy").is_empty());
    }
}

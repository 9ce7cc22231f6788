//! What the facts mean.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, PodFact, Workload};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth to know.
    Notice,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Error,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was looked at, in one word.
    pub(super) check: &'static str,
    pub(super) message: String,
    /// What to do; empty where there is nothing.
    pub(super) hint: String,
}

/// Every finding, in the order in which things depend on each other.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let parts = [
        cluster(facts),
        workloads(facts),
        permissions(facts),
        leader(facts),
        proxies(facts),
        classes(facts),
        pools(facts),
        certificates(facts),
        unread(facts),
    ];
    parts.into_iter().flatten().collect()
}

fn cluster(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![ok(
        "kubernetes",
        format!("the API server answers; version {}", facts.kubernetes),
    )];
    if let Some(ahead) = facts.ahead_s.filter(|ahead| ahead.abs() > SKEW_S) {
        let which = if ahead > 0 { "ahead of" } else { "behind" };
        found.push(Finding {
            level: Level::Warning,
            check: "clock",
            message: format!(
                "the clock of this machine is {} s {which} the API server's",
                ahead.abs()
            ),
            hint: "let every machine follow a time server (chrony, systemd-timesyncd)".to_owned(),
        });
    }
    found
}

fn workloads(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for component in ["controller", "proxy"] {
        let mut present = facts
            .workloads
            .iter()
            .filter(|workload| workload.component == component)
            .peekable();
        if present.peek().is_none() {
            found.push(Finding {
                level: Level::Error,
                check: "installed",
                message: format!("there is no {component} in the namespace {}", facts.namespace),
                hint: "give --namespace, or install the chart: docs/install.md".to_owned(),
            });
        }
        found.extend(present.map(workload));
    }
    let versions: BTreeSet<&str> = facts
        .workloads
        .iter()
        .map(|workload| workload.version.as_str())
        .collect();
    if versions.len() > 1 {
        let listed: Vec<&str> = versions.into_iter().collect();
        found.push(Finding {
            level: Level::Warning,
            check: "version",
            message: format!(
                "controller and proxies are of different versions: {}",
                listed.join(", ")
            ),
            hint: "end the upgrade: helm upgrade, or helm rollback".to_owned(),
        });
    }
    found.extend(facts.pods.iter().filter_map(pod));
    found
}

fn workload(workload: &Workload) -> Finding {
    let Workload {
        title,
        desired,
        ready,
        updated,
        version,
        ..
    } = workload;
    let message = format!("{title}, version {version}: {ready} of {desired} pods are ready");
    if ready >= desired && updated >= desired {
        return ok("installed", message);
    }
    if *ready == 0 {
        return Finding {
            level: Level::Error,
            check: "installed",
            message,
            hint: "see what is said of its pods, and their logs".to_owned(),
        };
    }
    Finding {
        level: Level::Error,
        check: "installed",
        message: format!("{message}, {updated} of the newest version"),
        hint: "a rollout may be under way: propylon check --wait".to_owned(),
    }
}

/// A pod that is not as it should be.
fn pod(pod: &PodFact) -> Option<Finding> {
    if pod.is_ready || pod.is_ending {
        return None;
    }
    let place = if pod.node.is_empty() {
        "no node".to_owned()
    } else {
        pod.node.clone()
    };
    let trouble = pod.trouble.clone().unwrap_or_else(|| "it is not ready".to_owned());
    let restarts = match pod.restarts {
        0 => String::new(),
        count => format!(", started again {count} times"),
    };
    Some(Finding {
        level: Level::Warning,
        check: "pod",
        message: format!("{} on {place}: {trouble}{restarts}", pod.name),
        hint: format!("kubectl describe pod {0}, kubectl logs {0}", pod.name),
    })
}

fn permissions(facts: &Facts) -> Vec<Finding> {
    let denied = facts.denied.iter().map(|right| Finding {
        level: Level::Error,
        check: "permissions",
        message: format!("the controller may not {right}"),
        hint: "docs/rbac.md lists what it needs; rbac.create=true of the chart makes it".to_owned(),
    });
    denied.collect()
}

fn leader(facts: &Facts) -> Vec<Finding> {
    let Some(leader) = facts.leader.as_ref().filter(|leader| !leader.holder.is_empty()) else {
        return vec![Finding {
            level: Level::Error,
            check: "leader",
            message: "no controller leads: status, Events and addresses are not written; traffic is served".to_owned(),
            hint: "kubectl logs deployment/propylon-controller".to_owned(),
        }];
    };
    let age_s = facts.now_unix_s - leader.renewed_unix_s;
    if age_s > leader.duration_s + LATE_S {
        return vec![Finding {
            level: Level::Error,
            check: "leader",
            message: format!("{} leads, but has not renewed its Lease for {age_s} s", leader.holder),
            hint: "if it is gone another one follows soon; otherwise compare the clocks of the nodes".to_owned(),
        }];
    }
    vec![ok("leader", format!("{} leads", leader.holder))]
}

/// Which proxies follow a controller, and whether they have the same state.
fn proxies(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut latest: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for replica in &facts.replicas {
        match &replica.told {
            Ok(told) => {
                for (proxy, told) in told {
                    let pod = proxy.rsplit('/').next().unwrap_or(proxy);
                    let entry = latest
                        .entry(pod)
                        .or_insert_with(|| (told.unix, told.version.to_string()));
                    if told.unix > entry.0 {
                        *entry = (told.unix, told.version.to_string());
                    }
                }
            }
            Err(error) => found.push(Finding {
                level: Level::Warning,
                check: "state",
                message: format!("what {} tells of its proxies cannot be read: {error}", replica.pod),
                hint: "use a `propylon` of the version that is installed".to_owned(),
            }),
        }
    }
    let ready = facts
        .pods
        .iter()
        .filter(|pod| pod.component == "proxy" && pod.is_ready && !pod.is_ending);
    let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in ready {
        match latest.get(pod.name.as_str()) {
            Some((_, version)) => states.entry(version.as_str()).or_default().push(&pod.name),
            None => found.push(Finding {
                level: Level::Warning,
                check: "state",
                message: format!("{} follows no controller; it serves what it had last", pod.name),
                hint: "kubectl logs of it; is port 7443 of the Service propylon-controller reached from its node?"
                    .to_owned(),
            }),
        }
    }
    match states.len() {
        0 => {}
        1 => found.extend(states.iter().map(|(version, pods)| {
            ok(
                "state",
                format!("{} proxies serve the same state, {}", pods.len(), short(version)),
            )
        })),
        _ => found.extend(states.iter().map(|(version, pods)| Finding {
            level: Level::Notice,
            check: "state",
            message: format!("state {} is served by {}", short(version), pods.join(", ")),
            hint: "a change may be under way: look again".to_owned(),
        })),
    }
    found
}

fn classes(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let ours: Vec<&str> = of(facts, |controller| controller == OURS);
    if ours.is_empty() {
        found.push(Finding {
            level: Level::Warning,
            check: "class",
            message: format!("there is no IngressClass whose controller is {OURS}"),
            hint: "ingressClass.create=true of the chart makes one".to_owned(),
        });
    } else {
        found.push(ok(
            "class",
            format!("Ingresses of the class {} are served", ours.join(", ")),
        ));
    }
    let defaults: Vec<&str> = facts
        .classes
        .iter()
        .filter(|class| class.is_default)
        .map(|class| class.name.as_str())
        .collect();
    if defaults.len() > 1 {
        found.push(Finding {
            level: Level::Error,
            check: "class",
            message: format!(
                "{} are all default classes: Ingresses without a class are refused",
                defaults.join(", ")
            ),
            hint: "take the annotation ingressclass.kubernetes.io/is-default-class from all but one".to_owned(),
        });
    }
    let others = of(facts, |controller| controller != OURS);
    if !others.is_empty() {
        found.push(Finding {
            level: Level::Notice,
            check: "class",
            message: format!("other controllers serve {}", others.join(", ")),
            hint: "where one of them shares a class with Propylon, set status.mode=Yield".to_owned(),
        });
    }
    found
}

fn of(facts: &Facts, is_wanted: fn(&str) -> bool) -> Vec<&str> {
    let classes = facts.classes.iter().filter(|class| is_wanted(&class.controller));
    classes.map(|class| class.name.as_str()).collect()
}

fn pools(facts: &Facts) -> Vec<Finding> {
    let (message, hint) = match facts.pools {
        None => (
            "the custom resource IPAddressPool is not defined",
            "crds.enabled=true of the chart defines it",
        ),
        Some(0) => (
            "there is no pool: LoadBalancer Services get no address",
            "lb.pools of the chart makes one",
        ),
        Some(count) => return vec![ok("pools", format!("{count} pools of addresses"))],
    };
    vec![Finding {
        level: Level::Notice,
        check: "pools",
        message: message.to_owned(),
        hint: hint.to_owned(),
    }]
}

fn certificates(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    match facts.authority_end_unix_s {
        Some(end) if end - facts.now_unix_s < DAY_S => found.push(Finding {
            level: Level::Error,
            check: "certificates",
            message: format!("the proxies' trust {}", when(end - facts.now_unix_s)),
            hint: "the leader renews it by itself: see its log".to_owned(),
        }),
        Some(end) => found.push(ok(
            "certificates",
            format!("the proxies' trust {}", when(end - facts.now_unix_s)),
        )),
        None => found.push(Finding {
            level: Level::Error,
            check: "certificates",
            message: "the ConfigMap propylon-trust is missing or has no certificate: no proxy believes a controller"
                .to_owned(),
            hint: "the leader makes it: see the log of the controller".to_owned(),
        }),
    }
    for (secret, end) in &facts.certificates {
        let rest_s = end - facts.now_unix_s;
        if rest_s < SOON_S {
            found.push(Finding {
                level: if rest_s < 0 { Level::Error } else { Level::Warning },
                check: "certificates",
                message: format!("the certificate of the Secret {secret} {}", when(rest_s)),
                hint: "renew it, or look at what should (cert-manager: kubectl describe certificate)".to_owned(),
            });
        }
    }
    found
}

/// What was not looked at for want of a right or of an answer.
fn unread(facts: &Facts) -> Vec<Finding> {
    let unread = facts.unread.iter().map(|(what, why)| Finding {
        level: Level::Notice,
        check: "unchecked",
        message: format!("{what}: {why}"),
        hint: String::new(),
    });
    unread.collect()
}

fn when(rest_s: i64) -> String {
    match rest_s {
        ..0 => format!("ended {} days ago", -rest_s / DAY_S),
        0..DAY_S => format!("ends in {} hours", rest_s / 3600),
        _ => format!("ends in {} days", rest_s / DAY_S),
    }
}

fn short(version: &str) -> &str {
    version.get(..8).unwrap_or(version)
}

fn ok(check: &'static str, message: String) -> Finding {
    Finding {
        level: Level::Ok,
        check,
        message,
        hint: String::new(),
    }
}

const OURS: &str = "propylon.dev/ingress-controller";
/// Clocks that differ by more disturb certificates and Leases.
const SKEW_S: i64 = 5;
/// How much later than its duration a Lease may be renewed before it counts as lost.
const LATE_S: i64 = 10;
const DAY_S: i64 = 24 * 3600;
/// From when on the end of a certificate is told.
const SOON_S: i64 = 21 * DAY_S;

#[cfg(test)]
mod tests;

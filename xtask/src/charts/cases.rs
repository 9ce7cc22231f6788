//! The sets of values that are rendered, and those that are refused.

/// A set of values whose rendering is a golden (`charts/golden/NAME.yaml`).
pub(super) struct Case {
    /// Name of the golden.
    pub(super) name: &'static str,
    /// Arguments of `helm template` beside the values.
    pub(super) arguments: &'static [&'static str],
    /// Arguments that give values; paths are relative to the chart.
    pub(super) values: &'static [&'static str],
}

/// A set of values that cannot work.
pub(super) struct Refusal {
    /// Arguments that give values.
    pub(super) values: &'static [&'static str],
    /// What the message says.
    pub(super) says: &'static str,
}

const OPERATOR: &[&str] = &["--api-versions", "monitoring.coreos.com/v1"];

/// Every branch of the templates is in one of them.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "default",
        arguments: &[],
        values: &[],
    },
    Case {
        name: "baremetal",
        arguments: &[],
        values: &["-f", "values-baremetal.yaml"],
    },
    Case {
        name: "ha",
        arguments: &[],
        values: &["-f", "values-ha.yaml"],
    },
    Case {
        name: "deployment",
        arguments: &[],
        values: &["--set", "proxy.kind=Deployment"],
    },
    Case {
        name: "host-port",
        arguments: &[],
        values: &["--set", "proxy.hostPort.enabled=true,proxy.hostPort.hostIP=192.0.2.1"],
    },
    Case {
        name: "namespaced-secrets",
        arguments: &[],
        values: &["--set", "secrets.scope=Namespaces,secrets.namespaces={shop,blog}"],
    },
    Case {
        name: "everything",
        arguments: OPERATOR,
        values: &["-f", "../golden/everything.values.yaml"],
    },
    Case {
        name: "pod-monitor",
        arguments: OPERATOR,
        values: &["--set", "metrics.podMonitor.enabled=true,proxy.takeover.enabled=false"],
    },
    Case {
        name: "bare",
        arguments: &[],
        values: &[
            "--set",
            "crds.enabled=false,rbac.create=false,uninstall.hook=false,metrics.enabled=false,ingressClass.create=false",
        ],
    },
];

/// Combinations that would be installed and not work.
pub(super) const REFUSALS: &[Refusal] = &[
    Refusal {
        values: &["--set", "proxy.kind=Deployment,proxy.hostNetwork=true"],
        says: "needs proxy.kind=DaemonSet",
    },
    Refusal {
        values: &["--set", "proxy.hostNetwork=true,proxy.hostPort.enabled=true"],
        says: "exclude each other",
    },
    Refusal {
        values: &["--set", "proxy.kind=Deployment,proxy.hostPort.enabled=true"],
        says: "proxy.hostPort.enabled=true needs proxy.kind=DaemonSet",
    },
    Refusal {
        values: &["--set", "proxy.autoscaling.enabled=true"],
        says: "needs proxy.kind=Deployment",
    },
    Refusal {
        values: &[
            "--set",
            "proxy.kind=Deployment,proxy.autoscaling.enabled=true,proxy.autoscaling.minReplicas=20",
        ],
        says: "minReplicas is greater",
    },
    Refusal {
        values: &["--set", "proxy.service.enabled=true"],
        says: "proxy.service.type=ClusterIP",
    },
    Refusal {
        values: &["--set", "proxy.drain.timeout=5m"],
        says: "terminationGracePeriodSeconds (90) is shorter",
    },
    Refusal {
        values: &["--set", "proxy.kind=Deployment,lb.defaultPath=proxy"],
        says: "lb.defaultPath=proxy needs proxies on the host's network",
    },
    Refusal {
        values: &["--set", "secrets.scope=Namespaces"],
        says: "needs secrets.namespaces",
    },
    Refusal {
        values: &["--set", "secrets.namespaces={shop}"],
        says: "Set secrets.scope=Namespaces",
    },
    Refusal {
        values: &[
            "--set",
            "secrets.scope=Namespaces,secrets.namespaces={shop},config.defaultTlsSecret=blog/tls",
        ],
        says: "which secrets.namespaces does not list",
    },
    Refusal {
        values: &["--set", "lb.pools[0].name=a"],
        says: "neither addresses nor nodeAddresses",
    },
    Refusal {
        values: &[
            "--set",
            "lb.pools[0].name=a,lb.pools[0].nodeAddresses=true,lb.pools[1].name=a,lb.pools[1].nodeAddresses=true",
        ],
        says: "two pools of the name",
    },
    Refusal {
        values: &["--set", "metrics.serviceMonitor.enabled=true"],
        says: "need the Prometheus operator",
    },
    Refusal {
        values: &[
            "--set",
            "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true",
        ],
        says: "scrape everything twice",
    },
    Refusal {
        values: &["--set", "metrics.podMonitor.enabled=true,metrics.enabled=false"],
        says: "need metrics.enabled=true",
    },
    Refusal {
        values: &["--set", "proxy.replcas=3"],
        says: "additional properties 'replcas' not allowed",
    },
    Refusal {
        values: &["--set", "agent.enabled=true"],
        says: "additional properties 'agent' not allowed",
    },
    Refusal {
        values: &["--set", "image.digest=latest"],
        says: "does not match pattern",
    },
    Refusal {
        values: &["--set", "crds.kep=true"],
        says: "additional properties 'kep' not allowed",
    },
];

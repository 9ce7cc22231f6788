//! The rights that the controller cannot work without (docs/rbac.md has all of them).

/// A right in the cluster, or in the namespace of the release.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) verb: &'static str,
    pub(super) in_release: bool,
}

impl Permission {
    /// The right in words.
    pub(super) fn title(&self) -> String {
        let group = if self.group.is_empty() { "" } else { "." };
        let (slash, place) = (
            if self.subresource.is_empty() { "" } else { "/" },
            if self.in_release {
                " in the namespace of the release"
            } else {
                ""
            },
        );
        format!(
            "{} {}{slash}{}{group}{}{place}",
            self.verb, self.resource, self.subresource, self.group
        )
    }
}

const fn cluster(group: &'static str, resource: &'static str, verb: &'static str) -> Permission {
    Permission {
        group,
        resource,
        subresource: "",
        verb,
        in_release: false,
    }
}

const fn status(group: &'static str, resource: &'static str) -> Permission {
    Permission {
        subresource: "status",
        ..cluster(group, resource, "patch")
    }
}

const fn release(group: &'static str, resource: &'static str, verb: &'static str) -> Permission {
    Permission {
        in_release: true,
        ..cluster(group, resource, verb)
    }
}

/// Reading Secrets is not among them: which namespaces' may be read is the operator's choice (`secrets.scope`).
pub(super) const PERMISSIONS: &[Permission] = &[
    cluster("", "namespaces", "watch"),
    cluster("", "nodes", "watch"),
    cluster("", "pods", "watch"),
    cluster("", "services", "watch"),
    cluster("", "services", "patch"),
    status("", "services"),
    cluster("authentication.k8s.io", "tokenreviews", "create"),
    cluster("discovery.k8s.io", "endpointslices", "watch"),
    cluster("events.k8s.io", "events", "create"),
    cluster("networking.k8s.io", "ingressclasses", "watch"),
    cluster("networking.k8s.io", "ingresses", "watch"),
    status("networking.k8s.io", "ingresses"),
    cluster("propylon.dev", "ipaddresspools", "watch"),
    status("propylon.dev", "ipaddresspools"),
    release("", "configmaps", "create"),
    release("", "secrets", "create"),
    release("coordination.k8s.io", "leases", "create"),
    release("coordination.k8s.io", "leases", "update"),
];

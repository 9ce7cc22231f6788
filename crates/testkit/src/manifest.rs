//! Text of manifests: what a user would write, built in one line.

use std::net::SocketAddr;

use crate::certs::Leaf;

/// One path of a rule.
struct Path {
    host: String,
    text: String,
    kind: String,
    service: String,
    port: u16,
}

/// An Ingress being written.
pub struct Ingress {
    namespace: String,
    name: String,
    annotations: Vec<(String, String)>,
    class: Option<String>,
    default_backend: Option<(String, u16)>,
    tls: Vec<(Vec<String>, Option<String>)>,
    paths: Vec<Path>,
    created: Option<String>,
}

/// Begins an Ingress.
pub fn ingress(namespace: &str, name: &str) -> Ingress {
    Ingress {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        annotations: Vec::new(),
        class: None,
        default_backend: None,
        tls: Vec::new(),
        paths: Vec::new(),
        created: None,
    }
}

impl Ingress {
    /// Adds a `Prefix` path; an empty host writes a rule without `host`.
    #[must_use]
    pub fn prefix(self, host: &str, path: &str, service: &str, port: u16) -> Self {
        self.path(host, (path, "Prefix"), service, port)
    }

    /// Adds an `Exact` path; an empty host writes a rule without `host`.
    #[must_use]
    pub fn exact(self, host: &str, path: &str, service: &str, port: u16) -> Self {
        self.path(host, (path, "Exact"), service, port)
    }

    /// Adds a path with its `pathType`; an empty host writes a rule without `host`.
    #[must_use]
    pub fn path(mut self, host: &str, (path, path_type): (&str, &str), service: &str, port: u16) -> Self {
        self.paths.push(Path {
            host: host.to_owned(),
            text: path.to_owned(),
            kind: path_type.to_owned(),
            service: service.to_owned(),
            port,
        });
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets `ingressClassName`.
    #[must_use]
    pub fn class(self, name: &str) -> Self {
        Self {
            class: Some(name.to_owned()),
            ..self
        }
    }

    /// Sets `defaultBackend`.
    #[must_use]
    pub fn default_backend(self, service: &str, port: u16) -> Self {
        Self {
            default_backend: Some((service.to_owned(), port)),
            ..self
        }
    }

    /// Adds a `tls` entry; without a Secret it has hosts alone.
    #[must_use]
    pub fn tls(mut self, hosts: &[&str], secret: Option<&str>) -> Self {
        self.tls.push((
            hosts.iter().map(|host| (*host).to_owned()).collect(),
            secret.map(ToOwned::to_owned),
        ));
        self
    }

    /// Sets `creationTimestamp`, RFC 3339.
    #[must_use]
    pub fn created(self, time: &str) -> Self {
        Self {
            created: Some(time.to_owned()),
            ..self
        }
    }

    /// The YAML document, with a leading `---`. Each path is a rule of its own.
    pub fn yaml(&self) -> String {
        let mut lines = head("networking.k8s.io/v1", "Ingress", &self.namespace, &self.name);
        if let Some(time) = &self.created {
            line(&mut lines, &format!("  creationTimestamp: {}", quoted(time)));
        }
        if !self.annotations.is_empty() {
            line(&mut lines, "  annotations:");
        }
        for (name, value) in &self.annotations {
            line(&mut lines, &format!("    {}: {}", quoted(name), quoted(value)));
        }
        line(&mut lines, "spec:");
        if let Some(class) = &self.class {
            line(&mut lines, &format!("  ingressClassName: {}", quoted(class)));
        }
        if let Some((service, port)) = &self.default_backend {
            line(&mut lines, &format!("  defaultBackend: {}", backend(service, *port)));
        }
        if !self.tls.is_empty() {
            line(&mut lines, "  tls:");
        }
        for (hosts, secret) in &self.tls {
            let hosts: Vec<String> = hosts.iter().map(|host| quoted(host)).collect();
            let secret = secret
                .as_ref()
                .map(|secret| format!(", secretName: {}", quoted(secret)))
                .unwrap_or_default();
            line(&mut lines, &format!("  - {{hosts: [{}]{secret}}}", hosts.join(", ")));
        }
        if !self.paths.is_empty() {
            line(&mut lines, "  rules:");
        }
        for path in &self.paths {
            let host = if path.host.is_empty() {
                String::new()
            } else {
                format!("host: {}, ", quoted(&path.host))
            };
            let (text, kind, backend) = (quoted(&path.text), &path.kind, backend(&path.service, path.port));
            let path = format!("{{path: {text}, pathType: {kind}, backend: {backend}}}");
            line(&mut lines, &format!("  - {{{host}http: {{paths: [{path}]}}}}"));
        }
        lines
    }
}

/// A Service with one port, named `http`, whose `targetPort` has the same name; `app_protocol` may be empty.
pub fn service(namespace: &str, name: &str, port: u16, app_protocol: &str) -> String {
    let mut lines = head("v1", "Service", namespace, name);
    let protocol = if app_protocol.is_empty() {
        String::new()
    } else {
        format!(", appProtocol: {}", quoted(app_protocol))
    };
    line(
        &mut lines,
        &format!("spec:\n  ports: [{{name: http, port: {port}, targetPort: http{protocol}}}]"),
    );
    lines
}

/// An `EndpointSlice` of a Service made by [`service`]: each address is one ready endpoint. All must share one port and
/// one address family, as one slice has but one of each.
pub fn endpoint_slice(namespace: &str, service: &str, suffix: &str, addresses: &[SocketAddr]) -> String {
    let mut lines = head(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        namespace,
        &format!("{service}-{suffix}"),
    );
    line(
        &mut lines,
        &format!("  labels: {{kubernetes.io/service-name: {}}}", quoted(service)),
    );
    let family = if addresses.iter().all(SocketAddr::is_ipv4) {
        "IPv4"
    } else {
        "IPv6"
    };
    line(&mut lines, &format!("addressType: {family}"));
    let port = addresses.first().map_or(80, SocketAddr::port);
    line(
        &mut lines,
        &format!("ports: [{{name: http, port: {port}, protocol: TCP}}]"),
    );
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| {
            format!(
                "{{addresses: [{}], conditions: {{ready: true}}}}",
                quoted(&address.ip().to_string())
            )
        })
        .collect();
    line(&mut lines, &format!("endpoints: [{}]", endpoints.join(", ")));
    lines
}

/// A `kubernetes.io/tls` Secret, by `stringData`.
pub fn tls_secret(namespace: &str, name: &str, leaf: &Leaf) -> String {
    let mut lines = head("v1", "Secret", namespace, name);
    line(&mut lines, "type: kubernetes.io/tls\nstringData:");
    for (key, pem) in [("tls.crt", &leaf.cert_pem), ("tls.key", &leaf.key_pem)] {
        line(&mut lines, &format!("  {key}: {}", quoted(pem)));
    }
    lines
}

/// An `IngressClass`; `is_default` sets the annotation that makes it the default one.
pub fn ingress_class(name: &str, controller: &str, is_default: IsDefault) -> String {
    let mut lines = head("networking.k8s.io/v1", "IngressClass", "", name);
    if is_default == IsDefault::Yes {
        line(
            &mut lines,
            "  annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}",
        );
    }
    line(&mut lines, &format!("spec: {{controller: {}}}", quoted(controller)));
    lines
}

/// Whether an `IngressClass` is the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsDefault {
    /// It is not.
    No,
    /// It is.
    Yes,
}

fn head(api_version: &str, kind: &str, namespace: &str, name: &str) -> String {
    let namespace = if namespace.is_empty() {
        String::new()
    } else {
        format!("  namespace: {}\n", quoted(namespace))
    };
    format!(
        "---\napiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {}\n{namespace}",
        quoted(name)
    )
}

fn backend(service: &str, port: u16) -> String {
    format!("{{service: {{name: {}, port: {{number: {port}}}}}}}", quoted(service))
}

fn line(lines: &mut String, text: &str) {
    lines.push_str(text);
    lines.push('\n');
}

/// A JSON string, which is a YAML string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

//! The folder of manifests that Propylon serves: one Service, its endpoints, the certificate, one Ingress per host.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lab::Lab;

/// Writes the folder for `lab`'s hosts and backend.
///
/// # Errors
///
/// When a file cannot be written; not retryable.
pub(crate) fn write(lab: &Lab, dir: &Path) -> Result<()> {
    replace(&dir.join("service.yaml"), SERVICE)?;
    replace(&dir.join("endpoints.yaml"), &endpoints(lab.backend_addr, None))?;
    replace(&dir.join("secret.yaml"), &secret(lab)?)?;
    for (index, host) in lab.hosts.iter().enumerate() {
        replace(&ingress_file(dir, index), &ingress(index, host, None))?;
    }
    Ok(())
}

/// Writes the Service whose ports are forwarded as they are, TCP and UDP on `port`.
///
/// # Errors
///
/// When a file cannot be written; not retryable.
pub(crate) fn write_stream(lab: &Lab, dir: &Path, port: u16) -> Result<()> {
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: stream\n  namespace: bench\nspec:\n  type: LoadBalancer\n  \
         ports:\n  - name: tcp\n    port: {port}\n  - name: udp\n    port: {port}\n    protocol: UDP\n"
    );
    let (ip, backend) = (lab.backend_addr.ip(), lab.backend_addr.port());
    let slice = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: stream-1\n  namespace: bench\n  labels:\n    \
         kubernetes.io/service-name: stream\naddressType: IPv4\nports:\n- name: tcp\n  port: {backend}\n- name: udp\n  \
         port: {backend}\n  protocol: UDP\nendpoints:\n- addresses: [{ip}]\n"
    );
    replace(&dir.join("stream.yaml"), &format!("{service}---\n{slice}"))
}

/// The file of one Ingress.
pub(crate) fn ingress_file(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("ingress-{index:04}.yaml"))
}

/// The file of the endpoints.
pub(crate) fn endpoints_file(dir: &Path) -> PathBuf {
    dir.join("endpoints.yaml")
}

/// Replaces a file by renaming a complete one over it.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a file name")?;
    let draft = path.with_file_name(format!(".{name}.new"));
    fs::write(&draft, text)?;
    fs::rename(&draft, path).with_context(|| format!("replace {}", path.display()))
}

/// An Ingress for `host`, with a second rule for `extra`.
pub(crate) fn ingress(index: usize, host: &str, extra: Option<&str>) -> String {
    let rules: Vec<String> = std::iter::once(host)
        .chain(extra)
        .map(|host| {
            format!(
                "  - host: {host}\n    http:\n      paths:\n      - path: /\n        pathType: Prefix\n        \
                 backend:\n          service:\n            name: echo\n            port:\n              number: 80\n"
            )
        })
        .collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: ingress-{index:04}\n  \
         namespace: bench\n  annotations:\n    propylon.dev/redirect-https: \"false\"\nspec:\n  tls:\n  - hosts: \
         [{host}]\n    secretName: bench-tls\n  rules:\n{}",
        rules.concat()
    )
}

/// The `EndpointSlice` of the backend, with a second endpoint that is not ready.
pub(crate) fn endpoints(backend: SocketAddr, not_ready: Option<&str>) -> String {
    let second = not_ready
        .map(|address| format!("- addresses: [{address}]\n  conditions:\n    ready: false\n    serving: false\n"))
        .unwrap_or_default();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: echo-1\n  namespace: bench\n  \
         labels:\n    kubernetes.io/service-name: echo\naddressType: IPv4\nports:\n- name: http\n  port: {}\n\
         endpoints:\n- addresses: [{}]\n  conditions:\n    ready: true\n{second}",
        backend.port(),
        backend.ip(),
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: echo\n  namespace: bench\nspec:\n  ports:\n  \
                       - name: http\n    port: 80\n    targetPort: http\n";

fn secret(lab: &Lab) -> Result<String> {
    let indented = |path: &Path| -> Result<String> {
        let lines: Vec<String> = fs::read_to_string(path)?
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect();
        Ok(lines.concat())
    };
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: bench-tls\n  namespace: bench\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&lab.certs.cert)?,
        indented(&lab.certs.key)?
    ))
}

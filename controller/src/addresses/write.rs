//! What of a plan is not written yet, as patches of the Service.

use serde_json::{Value, json};

use super::{
    facts::{FINALIZER, IP_MODE_PROXY, IP_MODE_VIP, PATH_ANNOTATION, Path, ServiceFacts},
    plan::{Assignment, Decision, PortError},
};

/// A merge patch of a Service. Each is sent with the version of the object that was decided on, or that the patch before it
/// gave, so that it fails where somebody wrote meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Of the object itself.
    Object(Value),
    /// Of the subresource `status`.
    Status(Value),
}

/// The patches, in the order to send them in; none where all is as it should be.
pub fn writes(service: &ServiceFacts, decision: &Decision) -> Vec<Write> {
    match decision {
        Decision::Assign(assignment) => assign(service, assignment),
        Decision::Foreign(_) => Vec::new(),
        Decision::Release => release(service),
    }
}

/// The finalizer and the path first: what is in the status is never without them.
fn assign(service: &ServiceFacts, assignment: &Assignment) -> Vec<Write> {
    let mut writes = Vec::new();
    if assignment.addresses.is_empty() {
        return writes;
    }
    let mut metadata = serde_json::Map::new();
    if !service.has_finalizer() {
        let finalizers = service.finalizers.iter().map(String::as_str).chain([FINALIZER]);
        metadata.insert("finalizers".to_owned(), finalizers.collect());
    }
    if service.path.is_none() {
        metadata.insert(
            "annotations".to_owned(),
            json!({ PATH_ANNOTATION: assignment.path.as_str() }),
        );
    }
    if !metadata.is_empty() {
        writes.push(Write::Object(json!({ "metadata": metadata })));
    }
    if !is_written(service, assignment) {
        let entries: Vec<Value> = assignment
            .addresses
            .iter()
            .map(|address| entry(&address.to_string(), assignment))
            .collect();
        writes.push(Write::Status(status(&entries)));
    }
    writes
}

/// The status before the finalizer, which is the last that tells of us.
fn release(service: &ServiceFacts) -> Vec<Write> {
    let mut writes = Vec::new();
    if !service.is_deleting && (!service.present.is_empty() || service.has_host_name) {
        writes.push(Write::Status(status(&[])));
    }
    let finalizers: Vec<&str> = service
        .finalizers
        .iter()
        .map(String::as_str)
        .filter(|name| *name != FINALIZER)
        .collect();
    let mut metadata = serde_json::Map::new();
    metadata.insert("finalizers".to_owned(), json!(finalizers));
    if !service.is_deleting && service.path.is_some() {
        metadata.insert("annotations".to_owned(), json!({ PATH_ANNOTATION: null }));
    }
    writes.push(Write::Object(json!({ "metadata": metadata })));
    writes
}

fn is_written(service: &ServiceFacts, assignment: &Assignment) -> bool {
    let is_same_ports = |present: &super::facts::Present| {
        let errors = assignment
            .ports
            .iter()
            .map(|(port, error)| (port, error.map(PortError::as_str)));
        assignment.path == Path::Kernel
            || present
                .ports
                .iter()
                .map(|(port, error)| (port, error.as_deref()))
                .eq(errors)
    };
    !service.has_host_name
        && service.present.len() == assignment.addresses.len()
        && service
            .present
            .iter()
            .zip(&assignment.addresses)
            .all(|(present, address)| {
                present.address == *address && present.path == assignment.path && is_same_ports(present)
            })
}

fn entry(address: &str, assignment: &Assignment) -> Value {
    let ip_mode = match assignment.path {
        Path::Kernel => IP_MODE_VIP,
        Path::Proxy => IP_MODE_PROXY,
    };
    if assignment.path == Path::Kernel {
        return json!({ "ip": address, "ipMode": ip_mode });
    }
    let ports = assignment.ports.iter().map(|(port, error)| match error {
        None => json!({ "port": port.number, "protocol": port.protocol }),
        Some(error) => json!({ "port": port.number, "protocol": port.protocol, "error": error.as_str() }),
    });
    json!({ "ip": address, "ipMode": ip_mode, "ports": ports.collect::<Vec<Value>>() })
}

fn status(entries: &[Value]) -> Value {
    // Null removes the field in a merge patch.
    let ingress = if entries.is_empty() {
        Value::Null
    } else {
        json!(entries)
    };
    json!({ "status": { "loadBalancer": { "ingress": ingress } } })
}

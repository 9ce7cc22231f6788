//! Service.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    field::{Errors, port_number},
    names,
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn admit(service: &mut Service, errors: &mut Errors) {
    let spec = service.spec.get_or_insert_default();
    let type_ = spec.type_.get_or_insert_default();
    if type_.is_empty() {
        "ClusterIP".clone_into(type_);
    } else if !TYPES.contains(&type_.as_str()) {
        errors.unsupported("spec.type", type_, &TYPES);
    }
    if type_ == "ExternalName" {
        external_name(spec, errors);
    }
    let without_ports = spec.ports.as_ref().is_none_or(Vec::is_empty);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if without_ports && !headless && spec.type_.as_deref() != Some("ExternalName") {
        errors.required("spec.ports", "at least one port");
    }
    ports(spec, errors);
    affinity(spec, errors);
    traffic(spec, errors);
}

fn affinity(spec: &mut ServiceSpec, errors: &mut Errors) {
    let affinity = spec.session_affinity.get_or_insert_default();
    if affinity.is_empty() {
        "None".clone_into(affinity);
    } else if !AFFINITIES.contains(&affinity.as_str()) {
        errors.unsupported("spec.sessionAffinity", affinity, &AFFINITIES);
    }
    let config = spec.session_affinity_config.as_ref();
    if config.is_some() && affinity == "None" {
        errors.forbidden(
            "spec.sessionAffinityConfig",
            "must not be set when session affinity is None",
        );
    }
    let client_ip = config.and_then(|config| config.client_ip.as_ref());
    if let Some(seconds) = client_ip.and_then(|client_ip| client_ip.timeout_seconds)
        && !(1..=86_400).contains(&seconds)
    {
        errors.invalid(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            seconds,
            "must be greater than 0 and less than or equal to 86400",
        );
    }
}

/// What decides where traffic of outside comes in and which endpoints it prefers.
fn traffic(spec: &ServiceSpec, errors: &mut Errors) {
    let type_ = spec.type_.as_deref().unwrap_or_default();
    if let Some(policy) = spec
        .external_traffic_policy
        .as_deref()
        .filter(|policy| !policy.is_empty())
    {
        if !POLICIES.contains(&policy) {
            errors.unsupported("spec.externalTrafficPolicy", policy, &POLICIES);
        } else if !matches!(type_, "LoadBalancer" | "NodePort") && spec.external_ips.as_ref().is_none_or(Vec::is_empty)
        {
            errors.invalid(
                "spec.externalTrafficPolicy",
                policy,
                "may only be set for externally-accessible services",
            );
        }
    }
    if let Some(class) = spec.load_balancer_class.as_deref() {
        if type_ != "LoadBalancer" {
            errors.forbidden(
                "spec.loadBalancerClass",
                "may only be used when `type` is 'LoadBalancer'",
            );
        } else if !names::is_qualified_name(class) {
            errors.invalid(
                "spec.loadBalancerClass",
                class,
                "must be a name with an optional DNS prefix",
            );
        }
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref()
        && !DISTRIBUTIONS.contains(&distribution)
    {
        errors.unsupported("spec.trafficDistribution", distribution, &DISTRIBUTIONS);
    }
}

fn external_name(spec: &ServiceSpec, errors: &mut Errors) {
    let name = spec.external_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.required("spec.externalName", "a Service of type ExternalName needs it");
    } else if !names::is_subdomain(name.strip_suffix('.').unwrap_or(name)) {
        errors.invalid("spec.externalName", name, names::SUBDOMAIN_RULE);
    }
}

fn ports(spec: &mut ServiceSpec, errors: &mut Errors) {
    let ports = spec.ports.as_deref_mut().unwrap_or_default();
    let several = ports.len() > 1;
    let (mut seen_names, mut seen_numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, given) in ports.iter_mut().enumerate() {
        let field = format!("spec.ports[{index}]");
        port(&field, given, errors);
        match given.name.as_deref().filter(|name| !name.is_empty()) {
            None if several => errors.required(format!("{field}.name"), "a Service with several ports names each"),
            Some(name) if !names::is_label(name) => errors.invalid(format!("{field}.name"), name, names::LABEL_RULE),
            Some(name) if !seen_names.insert(name.to_owned()) => errors.duplicate(format!("{field}.name"), name),
            _ => {}
        }
        if !seen_numbers.insert((given.port, given.protocol.clone())) {
            errors.duplicate(format!("{field}.port"), given.port);
        }
    }
}

fn port(field: &str, port: &mut ServicePort, errors: &mut Errors) {
    port_number(&format!("{field}.port"), port.port, errors);
    protocol(&format!("{field}.protocol"), &mut port.protocol, errors);
    let target_field = format!("{field}.targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => port_number(&target_field, *number, errors),
        Some(IntOrString::String(name)) if !name.is_empty() => {
            if !names::is_port_name(name) {
                errors.invalid(target_field, name, names::PORT_NAME_RULE);
            }
        }
        _ => port.target_port = Some(IntOrString::Int(port.port)),
    }
    app_protocol(&format!("{field}.appProtocol"), port.app_protocol.as_deref(), errors);
}

/// Fills in and checks a protocol.
pub(super) fn protocol(field: &str, protocol: &mut Option<String>, errors: &mut Errors) {
    let protocol = protocol.get_or_insert_default();
    if protocol.is_empty() {
        "TCP".clone_into(protocol);
    } else if !PROTOCOLS.contains(&protocol.as_str()) {
        errors.unsupported(field, protocol, &PROTOCOLS);
    }
}

/// Checks an application protocol.
pub(super) fn app_protocol(field: &str, app_protocol: Option<&str>, errors: &mut Errors) {
    if let Some(text) = app_protocol
        && !names::is_qualified_name(text)
    {
        errors.invalid(
            field,
            text,
            "must be a name with an optional DNS prefix (such as \"kubernetes.io/h2c\")",
        );
    }
}

//! `Ingress` and `IngressClass`.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressRule, IngressServiceBackend,
};

use super::{
    field::{Errors, port_number},
    names,
};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn admit(ingress: &Ingress, errors: &mut Errors) {
    let Some(spec) = &ingress.spec else {
        return errors.required("spec", "an Ingress without a spec serves nothing");
    };
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        errors.required("spec", "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(class) = spec.ingress_class_name.as_deref()
        && !names::is_subdomain(class)
    {
        errors.invalid("spec.ingressClassName", class, names::SUBDOMAIN_RULE);
    }
    if let Some(default) = &spec.default_backend {
        backend("spec.defaultBackend", default, errors);
    }
    for (index, given) in rules.iter().enumerate() {
        rule(&format!("spec.rules[{index}]"), given, errors);
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let field = format!("spec.tls[{index}]");
        for (index, name) in tls.hosts.iter().flatten().enumerate() {
            host(&format!("{field}.hosts[{index}]"), name, errors);
        }
        if let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty())
            && !names::is_subdomain(name)
        {
            errors.invalid(format!("{field}.secretName"), name, names::SUBDOMAIN_RULE);
        }
    }
}

pub(super) fn admit_class(class: &IngressClass, errors: &mut Errors) {
    let controller = class
        .spec
        .as_ref()
        .and_then(|spec| spec.controller.as_deref())
        .unwrap_or_default();
    if controller.is_empty() {
        errors.required("spec.controller", "the controller is required");
    } else if controller.len() > 250 || !names::is_domain_prefixed_path(controller) {
        let rule = "must be a domain-prefixed path of at most 250 characters (such as \"acme.io/foo\")";
        errors.invalid("spec.controller", controller, rule);
    }
}

fn rule(field: &str, rule: &IngressRule, errors: &mut Errors) {
    if let Some(name) = rule.host.as_deref().filter(|name| !name.is_empty()) {
        host(&format!("{field}.host"), name, errors);
    }
    if let Some(http) = &rule.http {
        if http.paths.is_empty() {
            errors.required(format!("{field}.http.paths"), "at least one path");
        }
        for (index, given) in http.paths.iter().enumerate() {
            path(&format!("{field}.http.paths[{index}]"), given, errors);
        }
    }
}

fn host(field: &str, name: &str, errors: &mut Errors) {
    if name.parse::<std::net::IpAddr>().is_ok() {
        errors.invalid(field, name, "must be a DNS name, not an IP address");
    } else if name.contains('*') && !names::is_wildcard_subdomain(name) {
        let rule = "a wildcard host is '*.' and a lowercase RFC 1123 subdomain (such as \"*.example.com\")";
        errors.invalid(field, name, rule);
    } else if !name.contains('*') && (!names::is_subdomain(name) || name.split('.').any(|label| label.len() > 63)) {
        errors.invalid(field, name, names::SUBDOMAIN_RULE);
    }
}

fn path(field: &str, given: &HTTPIngressPath, errors: &mut Errors) {
    let path = given.path.as_deref().unwrap_or_default();
    let path_field = format!("{field}.path");
    match given.path_type.as_str() {
        "" => errors.required(format!("{field}.pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                errors.invalid(path_field.as_str(), path, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"]
                .into_iter()
                .filter(|sequence| path.contains(*sequence))
            {
                errors.invalid(path_field.as_str(), path, &format!("must not contain '{sequence}'"));
            }
            for suffix in ["/..", "/."].into_iter().filter(|suffix| path.ends_with(*suffix)) {
                errors.invalid(path_field.as_str(), path, &format!("cannot end with '{suffix}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                errors.invalid(path_field, path, "must be an absolute path");
            }
        }
        other => errors.unsupported(format!("{field}.pathType"), other, &PATH_TYPES),
    }
    backend(&format!("{field}.backend"), &given.backend, errors);
}

fn backend(field: &str, backend: &IngressBackend, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => errors.invalid(field, "", "cannot set both resource and service backends"),
        (Some(resource), None) => {
            if resource.kind.is_empty() {
                errors.required(format!("{field}.resource.kind"), "the kind is required");
            }
            if resource.name.is_empty() {
                errors.required(format!("{field}.resource.name"), "the name is required");
            }
        }
        (None, Some(service)) => service_backend(&format!("{field}.service"), service, errors),
        (None, None) => errors.required(field, "a service backend is required (service.name and service.port)"),
    }
}

fn service_backend(field: &str, service: &IngressServiceBackend, errors: &mut Errors) {
    if service.name.is_empty() {
        errors.required(format!("{field}.name"), "the name of a Service is required");
    } else if !names::is_label(&service.name) {
        errors.invalid(format!("{field}.name"), &service.name, names::LABEL_RULE);
    }
    let port = service.port.as_ref();
    let name = port
        .and_then(|port| port.name.as_deref())
        .filter(|name| !name.is_empty());
    let number = port.and_then(|port| port.number).filter(|number| *number != 0);
    let port_field = format!("{field}.port");
    match (name, number) {
        (Some(name), Some(_)) => errors.invalid(port_field, name, "cannot set both port name & port number"),
        (Some(name), None) if !names::is_port_name(name) => {
            errors.invalid(format!("{port_field}.name"), name, names::PORT_NAME_RULE);
        }
        (Some(_), None) => {}
        (None, Some(number)) => port_number(&format!("{port_field}.number"), number, errors),
        (None, None) => errors.required(port_field, "port name or number is required"),
    }
}

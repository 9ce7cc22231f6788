//! `EndpointSlice`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::{
    field::{Errors, port_number},
    names, service,
};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;

pub(super) fn admit(slice: &mut EndpointSlice, errors: &mut Errors) {
    match slice.address_type.as_str() {
        "" => errors.required("addressType", &format!("one of {}", ADDRESS_TYPES.join(", "))),
        other if !ADDRESS_TYPES.contains(&other) => errors.unsupported("addressType", other, &ADDRESS_TYPES),
        _ => {}
    }
    if slice.endpoints.len() > MAX_ENDPOINTS {
        errors.invalid("endpoints", slice.endpoints.len(), "must have at most 1000 items");
    }
    for (index, given) in slice.endpoints.iter().enumerate() {
        endpoint(&format!("endpoints[{index}]"), given, &slice.address_type, errors);
    }
    ports(slice, errors);
}

fn endpoint(field: &str, endpoint: &Endpoint, address_type: &str, errors: &mut Errors) {
    if endpoint.addresses.is_empty() {
        errors.required(format!("{field}.addresses"), "must contain at least 1 address");
    } else if endpoint.addresses.len() > MAX_ADDRESSES {
        errors.invalid(
            format!("{field}.addresses"),
            endpoint.addresses.len(),
            "must have at most 100 items",
        );
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let field = format!("{field}.addresses[{index}]");
        let parsed = match address_type {
            "IPv4" => address
                .parse::<Ipv4Addr>()
                .map(IpAddr::from)
                .map_err(|_| "must be a valid IPv4 address"),
            "IPv6" => address
                .parse::<Ipv6Addr>()
                .map(IpAddr::from)
                .map_err(|_| "must be a valid IPv6 address"),
            "FQDN" if !names::is_subdomain(address) => Err(names::SUBDOMAIN_RULE),
            _ => continue,
        };
        match parsed {
            Err(rule) => errors.invalid(field, address, rule),
            Ok(parsed) if parsed.is_unspecified() => {
                errors.invalid(field, address, "may not be unspecified (0.0.0.0 or ::)");
            }
            Ok(parsed) if parsed.is_multicast() => errors.invalid(field, address, "may not be a multicast address"),
            Ok(_) => {}
        }
    }
}

fn ports(slice: &mut EndpointSlice, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, port) in slice.ports.iter_mut().flatten().enumerate() {
        let field = format!("ports[{index}]");
        let name = port.name.get_or_insert_default();
        if !name.is_empty() && !names::is_label(name) {
            errors.invalid(format!("{field}.name"), &*name, names::LABEL_RULE);
        }
        if !seen.insert(name.clone()) {
            errors.duplicate(format!("{field}.name"), &*name);
        }
        service::protocol(&format!("{field}.protocol"), &mut port.protocol, errors);
        if let Some(number) = port.port {
            port_number(&format!("{field}.port"), number, errors);
        }
        service::app_protocol(&format!("{field}.appProtocol"), port.app_protocol.as_deref(), errors);
    }
}

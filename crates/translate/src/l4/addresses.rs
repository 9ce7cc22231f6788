//! Where the ports of a `LoadBalancer` Service listen.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use propylon_model::L4Protocol;

use crate::{
    annotations::{LB_PATH, PREFIX},
    world::{Options, World},
};

impl World {
    /// Every address that a `LoadBalancer` Service names: those of them that are the machine's belong into
    /// [`Options::local_addresses`].
    pub fn load_balancer_addresses(&self) -> BTreeSet<IpAddr> {
        let services = self.services.values().filter(|service| is_load_balancer(service));
        services
            .flat_map(|service| of_status(service).chain(of_spec(service)))
            .collect()
    }
}

/// The addresses of the status, or of `loadBalancerIP`, as far as they are the machine's; else that of `--lb-bind`.
/// With [`Options::lb_by_status`] every address of the families that the status has.
pub(super) fn of(service: &Service, options: &Options) -> Vec<IpAddr> {
    if options.lb_by_status {
        let addresses = on_nodes(service).filter_map(|ingress| address(ingress.ip.as_deref()?));
        let everywhere: BTreeSet<IpAddr> = addresses.map(everywhere).collect();
        return everywhere.into_iter().collect();
    }
    let local = |addresses: &mut dyn Iterator<Item = IpAddr>| -> BTreeSet<IpAddr> {
        addresses
            .filter(|address| options.local_addresses.contains(address))
            .collect()
    };
    let candidates = [
        local(&mut of_status(service)),
        local(&mut of_spec(service)),
        options.lb_bind.into_iter().collect(),
    ];
    let found = candidates.into_iter().find(|found| !found.is_empty());
    found.unwrap_or_default().into_iter().collect()
}

/// Whether the status of a Service, where it counts, says that a port is served.
pub(super) fn is_served(service: &Service, port: u16, protocol: L4Protocol, options: &Options) -> bool {
    let mut ports = on_nodes(service).flat_map(|ingress| ingress.ports.iter().flatten());
    !options.lb_by_status
        || ports.any(|status| {
            status.error.is_none()
                && status.port == i32::from(port)
                && status.protocol.eq_ignore_ascii_case(protocol.as_str())
        })
}

/// The entries of the status that the controller wrote for the proxies. Other controllers know `ipMode: Proxy` too, so the
/// Service must bear the mark of ours: the path, or the class.
fn on_nodes(service: &Service) -> impl Iterator<Item = &LoadBalancerIngress> {
    let annotations = service.metadata.annotations.as_ref();
    let has_path = annotations.is_some_and(|all| all.contains_key(&format!("{PREFIX}{LB_PATH}")));
    let has_class = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.load_balancer_class.is_some());
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let entries = status.flat_map(|status| status.ingress.iter().flatten());
    entries.filter(move |entry| (has_path || has_class) && entry.ip_mode.as_deref() == Some("Proxy"))
}

/// Every address of a family.
const fn everywhere(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Where a port of a `ConfigMap` listens: at `--lb-bind`, else everywhere, as with ingress-nginx.
pub(super) fn of_config_map(options: &Options) -> Vec<IpAddr> {
    options.lb_bind.map_or_else(
        || vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        |address| vec![address],
    )
}

/// Whether a Service is one of type `LoadBalancer`.
pub(super) fn is_load_balancer(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

fn of_status(service: &Service) -> impl Iterator<Item = IpAddr> {
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingresses = status.flat_map(|status| status.ingress.iter().flatten());
    ingresses.filter_map(|ingress| address(ingress.ip.as_deref()?))
}

fn of_spec(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.iter();
    spec.filter_map(|spec| address(spec.load_balancer_ip.as_deref()?))
}

/// An address at which a Service could be reached.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.trim().parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

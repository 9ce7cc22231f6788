//! Where the ports of a `LoadBalancer` Service listen.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::api::core::v1::Service;

use crate::world::{Options, World};

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
pub(super) fn of(service: &Service, options: &Options) -> Vec<IpAddr> {
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

//! The ports of `LoadBalancer` Services.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use propylon_model::{L4Protocol, L4Service, L4ServiceName, ObjectRef, ProxyVersion, ReportReason, TrafficPolicy};

use super::{Candidate, Compile, addresses, policy, ranges, termination::Termination, timeouts};
use crate::{
    annotations::{LB_PATH, LbPath, PREFIX, PROXY_PROTOCOL, TLS_PORTS, TLS_SECRET},
    backends::service_object,
    classes::created_unix_s,
    settings::{Merged, Settings},
    world::{Key, PortRef},
};

/// The class of Services whose traffic the proxy forwards; so it does where none is given.
const CLASS: &str = "propylon.dev/proxy";

/// Whether the proxy forwards the ports of a Service.
pub(super) fn is_ours(service: &Service) -> bool {
    let class = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_class.as_deref());
    addresses::is_load_balancer(service) && class.is_none_or(|class| class == CLASS)
}

/// What the ports of a Service have in common.
struct Common<'s> {
    key: &'s Key,
    service: &'s Service,
    object: ObjectRef,
    settings: Settings,
    termination: Option<Termination>,
    addresses: Vec<IpAddr>,
    source_ranges: Option<Vec<IpNet>>,
}

impl Compile<'_, '_> {
    /// The ports of a Service, where it is one of ours.
    pub(super) fn of_service(&mut self, key: &Key) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let facts = self.backends.facts;
        let Some(service) = facts.world.services.get(key) else {
            return candidates;
        };
        if is_ours(service) {
            self.of_load_balancer(key, service, &mut candidates);
        } else if !addresses::is_load_balancer(service) {
            self.report_without_load_balancer(key);
        }
        candidates
    }

    fn of_load_balancer(&mut self, key: &Key, service: &Service, candidates: &mut Vec<Candidate>) {
        let addresses = addresses::of(service, self.backends.facts.options);
        if addresses.is_empty() {
            return;
        }
        let object = service_object(key);
        let settings = self.backends.facts.settings(key);
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
        let ports = ports.unwrap_or_default();
        let termination = self.termination(key, &settings, ports, &object);
        let source_ranges = ranges::of(&object, service, self.reports);
        if settings.lb_path() == Some(LbPath::Kernel) && !self.backends.facts.options.lb_by_status {
            let message = format!(
                "metadata.annotations[{PREFIX}{LB_PATH}]: kernel waits for the node agent, which this version does not have; the \
                 proxy forwards the traffic until then"
            );
            self.reports.add(&object, ReportReason::AnnotationUnsupported, message);
        }
        let common = Common {
            key,
            service,
            object,
            settings,
            termination,
            addresses,
            source_ranges,
        };
        for (index, port) in ports.iter().enumerate() {
            candidates.extend(self.of_port(&common, &format!("spec.ports[{index}]"), port));
        }
    }

    /// One port; none where it cannot be served, which is reported.
    fn of_port(&mut self, common: &Common<'_>, field: &str, port: &ServicePort) -> Option<Candidate> {
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0)?;
        let protocol = self.protocol(common, field, port)?;
        if !addresses::is_served(common.service, number, protocol, self.backends.facts.options) {
            return None;
        }
        let tls = match protocol {
            L4Protocol::Tcp => self
                .certificate(common.termination.as_ref(), field, port, &common.object)
                .ok()?,
            L4Protocol::Udp => None,
        };
        let send_proxy = self.send_proxy(common, field, protocol);
        let wanted = PortRef::Number(number);
        let port = self.backends.port(common.key, &wanted, protocol).ok()?;
        let settings = Merged {
            ingress: None,
            service: Some(&common.settings),
        };
        let (connect_timeout, idle_timeout) = timeouts(&settings, protocol);
        let l4 = L4Service {
            source: common.object.clone(),
            service: common.object.clone(),
            created_unix_s: created_unix_s(&common.service.metadata),
            addresses: common.addresses.clone(),
            port: number,
            protocol,
            endpoints: port.endpoints(common.key),
            policy: policy(settings.pool_policy(common.service.spec.as_ref()), protocol),
            source_ranges: common.source_ranges.clone(),
            traffic_policy: traffic_policy(common.service),
            send_proxy,
            accept_proxy: false,
            tls,
            connect_timeout,
            idle_timeout,
        };
        Some(Candidate {
            l4,
            name: L4ServiceName::new(format!("{}:{number}/{}", common.key, protocol.as_str())),
            source: common.key.clone(),
            field: field.to_owned(),
            service: common.key.clone(),
            port,
        })
    }

    fn protocol(&mut self, common: &Common<'_>, field: &str, port: &ServicePort) -> Option<L4Protocol> {
        match port.protocol.as_deref() {
            None | Some("" | "TCP") => Some(L4Protocol::Tcp),
            Some("UDP") => Some(L4Protocol::Udp),
            Some(other) => {
                let message = format!(
                    "{field}.protocol: the proxy does not forward {other}, so the port is not served; that is for the node \
                     agent, which this version does not have"
                );
                self.reports
                    .add(&common.object, ReportReason::ProtocolUnsupported, message);
                None
            }
        }
    }

    fn send_proxy(&mut self, common: &Common<'_>, field: &str, protocol: L4Protocol) -> Option<ProxyVersion> {
        let version = common.settings.proxy_protocol()?;
        if (version, protocol) != (ProxyVersion::V1, L4Protocol::Udp) {
            return Some(version);
        }
        let message = format!(
            "metadata.annotations[{PREFIX}{PROXY_PROTOCOL}]: v1 cannot say UDP, so {field} gets no header; write v2"
        );
        self.reports
            .add(&common.object, ReportReason::AnnotationUnsupported, message);
        None
    }

    /// Reports settings that only a `LoadBalancer` Service has.
    fn report_without_load_balancer(&mut self, key: &Key) {
        let settings = self.backends.facts.settings(key);
        for name in [LB_PATH, TLS_PORTS, TLS_SECRET]
            .into_iter()
            .filter(|name| settings.has(name))
        {
            let message = format!(
                "metadata.annotations[{PREFIX}{name}]: has no effect, because the Service is not of type LoadBalancer; remove it"
            );
            self.reports
                .add(&service_object(key), ReportReason::AnnotationUnsupported, message);
        }
    }
}

fn traffic_policy(service: &Service) -> TrafficPolicy {
    let spec = service.spec.as_ref();
    match spec.and_then(|spec| spec.external_traffic_policy.as_deref()) {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

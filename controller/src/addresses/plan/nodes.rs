//! The nodes' own addresses: Services on the proxies' path.
//!
//! A proxy on the host's network listens on the port on all addresses of its node, so a port is one Service's on all nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use propylon_crds::Family;
use propylon_translate::Key;

use super::{Assignment, Decision, Path, Planner, Port, PortError, Problem, ProblemReason, ServiceFacts, list};

/// Who has a port, of one family, on the nodes.
type Ports<'a> = BTreeMap<(Family, Port), &'a Key>;

impl<'a> Planner<'a> {
    /// Gives Services (the oldest first) ports on the addresses of the nodes with a ready proxy. What a Service has it keeps.
    pub(super) fn serve_on_nodes(&mut self, services: &[&'a ServiceFacts]) {
        let mut ports = Ports::new();
        for service in services.iter().filter(|service| service.holds_nodes()) {
            for (family, port) in granted(service) {
                if service.ports.contains(&port) && self.is_allowed(&port) {
                    ports.entry((family, port)).or_insert(&service.key);
                }
            }
        }
        for service in services {
            let assignment = self.of_service(service, &mut ports);
            self.plan
                .services
                .insert(service.key.clone(), Decision::Assign(assignment));
        }
    }

    fn of_service(&self, service: &'a ServiceFacts, ports: &mut Ports<'a>) -> Assignment {
        let mut assignment = Assignment {
            path: Path::Proxy,
            addresses: Vec::new(),
            ports: BTreeMap::new(),
            problems: Vec::new(),
        };
        let held: Vec<IpAddr> = if service.holds_nodes() {
            service.present.iter().map(|present| present.address).collect()
        } else {
            Vec::new()
        };
        let addresses = match self.node_addresses(service, &held) {
            Ok(addresses) => addresses,
            Err(problem) => {
                assignment.problems.push(problem);
                held.clone()
            }
        };
        if addresses.is_empty() {
            return assignment;
        }
        let families: BTreeSet<Family> = addresses.iter().map(|address| Family::of(*address)).collect();
        for port in &service.ports {
            let granted = self.grant(service, port, &families, ports);
            let error = granted.as_ref().err().map(|(error, _)| *error);
            if let Err((_, message)) = granted {
                assignment
                    .problems
                    .push(Problem::new(ProblemReason::PortNotServed, message));
            }
            assignment.ports.insert(port.clone(), error);
        }
        // Nothing to reach there, unless it was there before.
        if !held.is_empty() || assignment.ports.values().any(Option::is_none) {
            assignment.addresses = addresses;
        }
        assignment
    }

    /// The addresses at which a Service is served.
    fn node_addresses(&self, service: &ServiceFacts, held: &[IpAddr]) -> Result<Vec<IpAddr>, Problem> {
        let failed = |message: String| Problem::new(ProblemReason::AllocationFailed, message);
        let is_asked_for = service.pool.is_some();
        let pools = self.candidates(service, Path::Proxy);
        let is_drained = || {
            self.pools
                .iter()
                .any(|pool| pool.node_addresses && pool.drain && pool.is_for(service, self.input.namespaces))
        };
        if !pools.iter().any(|pool| pool.auto_assign || is_asked_for) && (held.is_empty() || !is_drained()) {
            return Err(self.explain_no_pool(service, Path::Proxy));
        }
        let requested = match &service.requested {
            Ok(requested) => requested,
            Err(text) => return Err(failed(format!("'{text}' is no IP address, so none is given out"))),
        };
        let ready = self.input.nodes.iter().filter(|node| node.is_ready);
        let ready: BTreeSet<IpAddr> = ready.flat_map(|node| node.published.iter().copied()).collect();
        if ready.is_empty() {
            return if held.is_empty() {
                Err(failed(
                    "no node runs a ready proxy on the host's network yet; kubectl get pods says more".to_owned(),
                ))
            } else {
                // They come back; whoever resolves the Service keeps its addresses until then.
                Ok(held.to_vec())
            };
        }
        let mut addresses: Vec<IpAddr> = ready
            .iter()
            .copied()
            .filter(|address| service.families.contains(&Family::of(*address)))
            .collect();
        if addresses.is_empty() {
            let families = list(service.families.iter().map(|family| family.as_str()));
            return Err(failed(format!(
                "no node with a ready proxy has an address of spec.ipFamilies ({families})"
            )));
        }
        if !requested.is_empty() {
            addresses.retain(|address| requested.contains(address));
            if addresses.is_empty() {
                return Err(failed(format!(
                    "{} is no address of a node with a ready proxy, which have {}; ask for one of these, or for none",
                    list(requested),
                    list(ready.iter().take(8))
                )));
            }
        }
        let place = |address: &IpAddr| {
            service
                .families
                .iter()
                .position(|family| *family == Family::of(*address))
        };
        addresses.sort_by_key(|address| (place(address), *address));
        Ok(addresses)
    }

    /// Takes a port for a Service; the error, and what to say of it, where it cannot have it.
    fn grant(
        &self,
        service: &'a ServiceFacts,
        port: &Port,
        families: &BTreeSet<Family>,
        ports: &mut Ports<'a>,
    ) -> Result<(), (PortError, String)> {
        if port.protocol != "TCP" && port.protocol != "UDP" {
            let message = format!(
                "spec.ports: the proxy forwards no {}, so port {port} is not served",
                port.protocol
            );
            return Err((PortError::Protocol, message));
        }
        if !self.is_allowed(port) {
            let ranges = self.input.settings.node_address_ports.iter();
            let ranges: Vec<String> = ranges
                .map(|range| format!("{}-{}", range.start(), range.end()))
                .collect();
            let message = format!(
                "spec.ports: {port} is not one of the ports that Services may have on the nodes' own addresses ({}), so it is not \
                 served; choose another one, or have the operator change lb.nodeAddressPorts",
                ranges.join(", ")
            );
            return Err((PortError::NotAllowed, message));
        }
        let keys: Vec<(Family, Port)> = families.iter().map(|family| (*family, port.clone())).collect();
        let holder = keys
            .iter()
            .find_map(|key| ports.get(key))
            .filter(|holder| ***holder != service.key);
        if let Some(holder) = holder {
            let message = format!(
                "spec.ports: {port} on the nodes' addresses is Service {holder}'s, so it is not served for this one; choose another port"
            );
            return Err((PortError::Conflict, message));
        }
        for key in keys {
            ports.insert(key, &service.key);
        }
        Ok(())
    }

    fn is_allowed(&self, port: &Port) -> bool {
        let mut ranges = self.input.settings.node_address_ports.iter();
        ranges.any(|range| range.contains(&port.number))
    }
}

/// The ports that the status of a Service says are served.
fn granted(service: &ServiceFacts) -> impl Iterator<Item = (Family, Port)> {
    let present = service.present.iter().filter(|present| present.path == Path::Proxy);
    present.flat_map(|present| {
        let served = present.ports.iter().filter(|(_, error)| error.is_none());
        served.map(|(port, _)| (Family::of(present.address), port.clone()))
    })
}

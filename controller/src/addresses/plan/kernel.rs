//! Addresses of pools: Services on the kernel's path.

use std::{collections::BTreeMap, net::IpAddr};

use propylon_crds::Family;

use super::{Assignment, Decision, Path, Planner, Pool, Problem, ProblemReason, ServiceFacts, list};

/// What a Service holds of what stands in its status.
pub(super) struct Held<'a> {
    service: &'a ServiceFacts,
    /// What it keeps.
    kept: Vec<IpAddr>,
    /// What it keeps only until it gets what it asks for.
    until_moved: Vec<IpAddr>,
    /// What it cannot keep.
    lost: Vec<(IpAddr, String)>,
}

impl<'a> Planner<'a> {
    /// Takes what the Services (the oldest first) have.
    pub(super) fn hold(&mut self, services: &[&'a ServiceFacts]) -> Vec<Held<'a>> {
        services.iter().map(|service| self.keep(service)).collect()
    }

    /// Gives the Services (the oldest first) what they lack.
    pub(super) fn allocate(&mut self, held: Vec<Held<'a>>) {
        for held in held {
            let key = held.service.key.clone();
            let assignment = self.complete(&held);
            self.plan.services.insert(key, Decision::Assign(assignment));
        }
    }

    /// Takes what stands in the status of a Service, as far as it can stay.
    fn keep(&mut self, service: &'a ServiceFacts) -> Held<'a> {
        let mut held = Held {
            service,
            kept: Vec::new(),
            until_moved: Vec::new(),
            lost: Vec::new(),
        };
        for present in &service.present {
            let address = present.address;
            let covering = self.pools.iter().find(|pool| pool.covers(address)).copied();
            // Addresses of nodes, from the time on the proxies' path.
            if present.path == Path::Proxy && covering.is_none() {
                continue;
            }
            if let Err(why) = self.ledger.take(address, service) {
                held.lost.push((address, why));
            } else if self.is_wanted(service, address) {
                held.kept.push(address);
            } else {
                held.until_moved.push(address);
            }
        }
        held
    }

    /// Whether an address is one that a Service asks for.
    fn is_wanted(&self, service: &ServiceFacts, address: IpAddr) -> bool {
        let is_requested = match &service.requested {
            Ok(requested) => requested.is_empty() || requested.contains(&address),
            Err(_) => true,
        };
        let is_of_pool = service.pool.as_ref().is_none_or(|name| {
            // Where the pool does not exist there is nowhere to move to.
            let mut of_name = self.pools.iter().filter(|pool| pool.name == *name).peekable();
            of_name.peek().is_none() || of_name.any(|pool| pool.covers(address))
        });
        is_requested && is_of_pool && service.families.contains(&Family::of(address))
    }

    /// Gives a Service what it lacks.
    fn complete(&mut self, held: &Held<'a>) -> Assignment {
        let service = held.service;
        let mut assignment = Assignment {
            path: Path::Kernel,
            addresses: held.kept.clone(),
            ports: BTreeMap::new(),
            problems: Vec::new(),
        };
        let lacking = match Self::lacking(held) {
            Ok(lacking) => lacking,
            Err(why) => {
                assignment
                    .problems
                    .push(Problem::new(ProblemReason::AllocationFailed, why));
                Vec::new()
            }
        };
        if !lacking.is_empty() {
            match self.give(service, &lacking, !held.kept.is_empty()) {
                Ok(given) => assignment.addresses.extend(given),
                Err(problem) => assignment.problems.push(problem),
            }
        }
        // An old address goes only where a new one of its family came.
        for address in &held.until_moved {
            let has_new = assignment.addresses.iter().any(|new| same_family(*new, *address));
            if !has_new && service.families.contains(&Family::of(*address)) {
                assignment.addresses.push(*address);
            }
        }
        if assignment.addresses.is_empty() {
            assignment.addresses.clone_from(&held.until_moved);
        }
        assignment
            .problems
            .extend(self.explain_held(held, &assignment.addresses));
        sort(&mut assignment.addresses, service);
        assignment
    }

    /// The families, or the addresses, that a Service has not got yet.
    fn lacking(held: &Held<'a>) -> Result<Vec<Lacking>, String> {
        let service = held.service;
        let requested = service.requested.as_ref().map_err(|text| {
            format!(
                "'{text}' is no IP address, so none is given out; write addresses separated by commas in \
                 propylon.dev/load-balancer-ips, or one in spec.loadBalancerIP"
            )
        })?;
        if requested.is_empty() {
            let families = service.families.iter().copied();
            let is_lacking = |family: &Family| !held.kept.iter().any(|kept| Family::of(*kept) == *family);
            return Ok(families.filter(is_lacking).map(Lacking::Any).collect());
        }
        let lacking = requested.iter().filter(|address| !held.kept.contains(address));
        Ok(lacking.copied().map(Lacking::Exactly).collect())
    }

    /// Takes new addresses: all of them or, where that is enough, one.
    fn give(&mut self, service: &'a ServiceFacts, lacking: &[Lacking], has_some: bool) -> Result<Vec<IpAddr>, Problem> {
        let candidates = self.candidates(service, Path::Kernel);
        if candidates.is_empty() {
            // A second family is welcome, not needed.
            let is_enough =
                has_some && !service.requires_all_families && lacking.iter().all(|one| matches!(one, Lacking::Any(_)));
            return if is_enough {
                Ok(Vec::new())
            } else {
                Err(self.explain_no_pool(service, Path::Kernel))
            };
        }
        let mut found = Vec::new();
        let mut failed = Vec::new();
        for one in lacking {
            match self.find(service, *one, &candidates) {
                Ok(address) => found.push(address),
                Err(why) => failed.push(why),
            }
        }
        let is_requested = lacking.iter().any(|one| matches!(one, Lacking::Exactly(_)));
        let is_enough = !service.requires_all_families && !is_requested && (has_some || !found.is_empty());
        if !failed.is_empty() && !is_enough {
            return Err(Problem::new(ProblemReason::AllocationFailed, failed.join("; ")));
        }
        for address in &found {
            if let Err(why) = self.ledger.take(*address, service) {
                return Err(Problem::new(
                    ProblemReason::AllocationFailed,
                    format!("{address} {why}"),
                ));
            }
        }
        Ok(found)
    }

    /// Finds a free address; it is not taken yet.
    fn find(&mut self, service: &'a ServiceFacts, lacking: Lacking, candidates: &[&'a Pool]) -> Result<IpAddr, String> {
        let family = match lacking {
            Lacking::Any(family) => family,
            Lacking::Exactly(address) => return self.check(service, address, candidates),
        };
        let is_named = service.pool.is_some();
        let pools: Vec<&Pool> = candidates
            .iter()
            .filter(|pool| pool.auto_assign || is_named)
            .copied()
            .collect();
        let shared = pools
            .iter()
            .find_map(|pool| self.ledger.shareable(pool, family, service));
        let found = shared.or_else(|| pools.iter().find_map(|pool| self.ledger.next_free(pool, family)));
        found.ok_or_else(|| {
            let family = family.as_str();
            if pools.is_empty() {
                return format!(
                    "no {family} address: the pools {} have autoAssign: false; name one in propylon.dev/address-pool",
                    list(candidates.iter().map(|pool| &pool.name))
                );
            }
            format!(
                "no {family} address is free in {}; add addresses to a pool, or delete Services that need none",
                list(pools.iter().map(|pool| format!("IPAddressPool {}", pool.name)))
            )
        })
    }

    /// Whether a Service can have the address that it asks for.
    fn check(&self, service: &ServiceFacts, address: IpAddr, candidates: &[&Pool]) -> Result<IpAddr, String> {
        if !service.families.contains(&Family::of(address)) {
            return Err(format!(
                "{address} is {}, which spec.ipFamilies does not have",
                Family::of(address).as_str()
            ));
        }
        if !candidates.iter().any(|pool| pool.covers(address)) {
            let elsewhere = self.pools.iter().find(|pool| pool.covers(address));
            return Err(match elsewhere {
                Some(pool) => format!(
                    "{address} is of IPAddressPool {}, which does not give it to this Service; see its spec",
                    pool.name
                ),
                None => format!("{address} is in no IPAddressPool; ask for an address of one, or add it to one"),
            });
        }
        match self.ledger.obstacle(address, service) {
            Some(why) => Err(format!("{address} {why}; ask for another one")),
            None => Ok(address),
        }
    }

    /// What there is to say of the addresses that a Service had.
    fn explain_held(&self, held: &Held<'a>, addresses: &[IpAddr]) -> Vec<Problem> {
        let failed = |message| Problem::new(ProblemReason::AllocationFailed, message);
        let lost = held.lost.iter().map(|(address, why)| {
            failed(format!(
                "status.loadBalancer: {address} {why}, so this Service does not keep it"
            ))
        });
        let uncovered = addresses
            .iter()
            .filter(|address| !self.pools.iter().any(|pool| pool.covers(**address)));
        let uncovered = uncovered.map(|address| {
            failed(format!(
                "status.loadBalancer: no IPAddressPool has {address} any more; the Service keeps it. Put it back into a pool, or ask \
                 for another address in propylon.dev/load-balancer-ips"
            ))
        });
        lost.chain(uncovered).collect()
    }
}

/// What a Service lacks.
#[derive(Clone, Copy)]
enum Lacking {
    /// Any address of a family.
    Any(Family),
    /// This address.
    Exactly(IpAddr),
}

fn same_family(left: IpAddr, right: IpAddr) -> bool {
    left.is_ipv4() == right.is_ipv4()
}

/// The preferred family first, then by number.
fn sort(addresses: &mut Vec<IpAddr>, service: &ServiceFacts) {
    let place = |address: &IpAddr| {
        service
            .families
            .iter()
            .position(|family| *family == Family::of(*address))
    };
    addresses.sort_by_key(|address| (place(address).unwrap_or(usize::MAX), *address));
    addresses.dedup();
}

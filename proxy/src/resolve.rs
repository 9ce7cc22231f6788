//! External names: their addresses, kept fresh.
//!
//! What it is: a task for each name that asks the DNS, publishes the addresses as endpoints, and asks again before the
//! answer expires. Nobody waits for it: requests use what was published last.
//!
//! What it is not: it runs on no data-plane thread, and it decides nothing about names (translate refuses those of the
//! cluster's own domain).
//!
//! Start from [`Names`].

mod client;
mod course;
mod guard;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use propylon_kit::clock;
use propylon_model::{Endpoint, EndpointsName, ReportReason};
use tokio::{sync::Semaphore, time::sleep};

use self::{client::Client, course::Course};
use crate::{
    background::Task,
    duties::NameDuty,
    problems::{Problems, port},
};

/// The names that are followed.
pub(crate) struct Names {
    context: Rc<Context>,
    running: BTreeMap<EndpointsName, (u64, Task)>,
}

struct Context {
    client: Client,
    /// Questions at once.
    permits: Semaphore,
    problems: Arc<Problems>,
}

impl Names {
    /// Follows nothing yet; `servers` are asked instead of those of the system, if there are any.
    pub(crate) fn new(servers: Vec<SocketAddr>, problems: Arc<Problems>) -> Self {
        let context = Context {
            client: Client::new(servers),
            permits: Semaphore::new(AT_ONCE),
            problems,
        };
        Self {
            context: Rc::new(context),
            running: BTreeMap::new(),
        }
    }

    /// Follows these names and no others. Must run within a `LocalSet` or `LocalRuntime`.
    pub(crate) fn follow(&mut self, names: &BTreeMap<EndpointsName, NameDuty>) {
        let problems = &self.context.problems;
        self.running.retain(|name, (claim, _)| {
            let stays = names.get(name).is_some_and(|duty| duty.claim == *claim);
            if !stays {
                problems.set(name, ReportReason::ExternalNameUnresolved, None);
                problems.set(name, ReportReason::EndpointDenied, None);
            }
            stays
        });
        for (name, duty) in names {
            self.running.entry(name.clone()).or_insert_with(|| {
                let follow = follow(name.clone(), duty.clone(), Rc::clone(&self.context));
                (duty.claim, Task::spawn(follow))
            });
        }
    }
}

async fn follow(name: EndpointsName, duty: NameDuty, context: Rc<Context>) {
    // The documents of Kubernetes warn of addresses as external names; other proxies take them, and so do we.
    if let Ok(ip) = duty.external.host.parse::<IpAddr>() {
        publish(&name, &duty, [ip], &context.problems);
        return;
    }
    let mut course = Course::new(fastrand::Rng::new());
    loop {
        let (v4, v6) = {
            let _permit = context.permits.acquire().await;
            context.client.addresses(&duty.external.host).await
        };
        let step = course.take(v4, v6, clock::now());
        if let Some(addresses) = step.publish {
            publish(&name, &duty, addresses, &context.problems);
        }
        let problem = step
            .problem
            .map(|problem| format!("port {}: spec.externalName {problem}", port(&name)));
        if let Some(problem) = &problem {
            tracing::debug!(service = %name, problem, "external name");
        }
        context
            .problems
            .set(&name, ReportReason::ExternalNameUnresolved, problem);
        sleep(step.wait).await;
    }
}

/// Makes the addresses endpoints, unless they are so already.
fn publish(name: &EndpointsName, duty: &NameDuty, answers: impl IntoIterator<Item = IpAddr>, problems: &Problems) {
    let external = &duty.external;
    let (allowed, refused) = guard::sort(answers, external.allow_local);
    problems.set(name, ReportReason::EndpointDenied, denied(name, duty, &refused));
    let address = |ip: &IpAddr| SocketAddr::new(*ip, external.port);
    let before = duty.handle.current.load();
    let known = before.endpoints.iter().map(|endpoint| endpoint.spec.address);
    if before.one_name && known.eq(allowed.iter().map(address)) && before.distribution == duty.distribution {
        return;
    }
    let endpoints: Vec<Endpoint> = allowed.iter().map(|ip| Endpoint::new(address(ip))).collect();
    if duty.handle.replace_as(duty.claim, &endpoints, duty.distribution) {
        // Names of large networks have other addresses every few seconds: no line for each.
        tracing::debug!(service = %name, host = %external.host, addresses = ?allowed, "external name resolved");
    }
}

fn denied(name: &EndpointsName, duty: &NameDuty, refused: &[IpAddr]) -> Option<String> {
    if refused.is_empty() {
        return None;
    }
    let list: Vec<String> = refused.iter().take(5).map(ToString::to_string).collect();
    Some(format!(
        "port {}: spec.externalName '{}' leads to {}, which is left out: such addresses are those of the proxy's own node, \
         or nobody's; if loopback or link-local addresses are meant, give --allow-local-endpoints",
        port(name),
        duty.external.host,
        list.join(", ")
    ))
}

/// Names that are asked for at the same time.
const AT_ONCE: usize = 16;

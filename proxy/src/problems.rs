//! What goes wrong at run time, as reports on the objects of the user.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use propylon_model::{EndpointsName, Kind, ObjectRef, Report, ReportReason};

/// The problems that stand now, by Service port and reason.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    standing: Mutex<BTreeMap<(EndpointsName, ReportReason), String>>,
    generation: AtomicU64,
}

impl Problems {
    /// A problem stands with this message, or no more.
    pub(crate) fn set(&self, name: &EndpointsName, reason: ReportReason, message: Option<String>) {
        let key = (name.clone(), reason);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match message {
            Some(message) if standing.get(&key) == Some(&message) => false,
            Some(message) => {
                standing.insert(key, message);
                true
            }
            None => standing.remove(&key).is_some(),
        };
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Grows with every change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The problems as reports on their Services.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = standing
            .iter()
            .map(|((name, reason), message)| Report::new(service(name), *reason, message.clone()));
        reports.collect()
    }
}

/// The Service of `NAMESPACE/NAME:PORT`.
pub(crate) fn service(name: &EndpointsName) -> ObjectRef {
    let (key, _port) = split(name);
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ObjectRef::new(Kind::Service, namespace, name)
}

/// The port of `NAMESPACE/NAME:PORT`, as reports name it.
pub(crate) fn port(name: &EndpointsName) -> &str {
    split(name).1
}

fn split(name: &EndpointsName) -> (&str, &str) {
    name.as_str().rsplit_once(':').unwrap_or((name.as_str(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stands_until_it_is_over() {
        let problems = Problems::default();
        let name = EndpointsName::new("shop/cart:80");
        let reason = ReportReason::EndpointDenied;
        problems.set(&name, reason, Some("why".to_owned()));
        problems.set(&name, reason, Some("why".to_owned()));
        assert_eq!(problems.generation(), 1);
        let reports = problems.reports();
        assert_eq!(reports[0].to_string(), "warning shop/cart Service: EndpointDenied: why");
        problems.set(&name, reason, None);
        problems.set(&name, reason, None);
        assert_eq!((problems.generation(), problems.reports().len()), (2, 0));
        assert_eq!(port(&name), "80");
    }
}

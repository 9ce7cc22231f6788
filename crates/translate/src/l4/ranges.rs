//! The clients that may connect to a Service.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use propylon_model::{ObjectRef, ReportReason};

use crate::reports::Reports;

/// What stood for `loadBalancerSourceRanges` before Kubernetes 1.2, and is still read.
const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The ranges of a Service; none: everybody. What does not parse lets nobody in, so that a mistake opens nothing.
pub(super) fn of(object: &ObjectRef, service: &Service, reports: &mut Reports) -> Option<Vec<IpNet>> {
    let given = given(service);
    if given.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    for (field, text) in given {
        if let Ok(range) = text.parse::<IpNet>() {
            ranges.push(range.trunc());
            continue;
        }
        let message = format!(
            "{field}: '{text}' is no range of addresses, so it lets nobody in; write an address and the length of its prefix, \
             such as 10.0.0.0/8 or 10.0.0.1/32"
        );
        reports.add(object, ReportReason::SourceRangeInvalid, message);
    }
    ranges.sort_unstable();
    ranges.dedup();
    Some(ranges)
}

/// The ranges as they are written, with their places; white space around them does not count.
fn given(service: &Service) -> Vec<(String, &str)> {
    let of_spec = service
        .spec
        .iter()
        .flat_map(|spec| spec.load_balancer_source_ranges.iter().flatten());
    let of_spec: Vec<_> = of_spec
        .enumerate()
        .map(|(index, text)| (format!("spec.loadBalancerSourceRanges[{index}]"), text.trim()))
        .collect();
    if !of_spec.is_empty() {
        return of_spec;
    }
    let annotations = service.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(ANNOTATION)).map(|text| text.trim());
    let items = text
        .filter(|text| !text.is_empty())
        .into_iter()
        .flat_map(|text| text.split(','));
    items
        .map(|item| (format!("metadata.annotations[{ANNOTATION}]"), item.trim()))
        .collect()
}

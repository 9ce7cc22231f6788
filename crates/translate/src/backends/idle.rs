//! Settings of pools that have no effect, because what they add to is not switched on.

use std::collections::BTreeMap;

use propylon_model::{Affinity, Algorithm, ObjectRef, Pool, ReportReason};

use super::{Backends, service_object};
use crate::{
    annotations::{
        AFFINITY_COOKIE_DOMAIN, AFFINITY_COOKIE_MAX_AGE, AFFINITY_COOKIE_NAME, AFFINITY_COOKIE_PATH,
        AFFINITY_COOKIE_SAME_SITE, HASH_ON, HEALTH_CHECK_HEALTHY, HEALTH_CHECK_INTERVAL, HEALTH_CHECK_TIMEOUT,
        HEALTH_CHECK_UNHEALTHY, PREFIX,
    },
    classes::Served,
    reports::Reports,
    settings::Settings,
};

/// Annotations, the pools on which they have an effect, and what to do where there are none.
type Need = (&'static [&'static str], fn(&Pool) -> bool, &'static str);

const NEEDS: &[Need] = &[
    (
        &[HASH_ON],
        |pool| pool.policy.algorithm == Algorithm::Maglev,
        "only maglev hashes; write load-balancing: maglev, or remove it",
    ),
    (
        &[
            AFFINITY_COOKIE_DOMAIN,
            AFFINITY_COOKIE_MAX_AGE,
            AFFINITY_COOKIE_NAME,
            AFFINITY_COOKIE_PATH,
            AFFINITY_COOKIE_SAME_SITE,
        ],
        |pool| matches!(pool.policy.affinity, Affinity::Cookie(_)),
        "there is no cookie; write affinity: cookie, or remove it",
    ),
    (
        &[
            HEALTH_CHECK_HEALTHY,
            HEALTH_CHECK_INTERVAL,
            HEALTH_CHECK_TIMEOUT,
            HEALTH_CHECK_UNHEALTHY,
        ],
        |pool| pool.policy.health_check.is_some(),
        "there are no active checks; write health-check, or remove it",
    ),
];

impl Backends<'_> {
    /// Reports the annotations of Ingresses and Services that have no effect on any of their pools.
    pub(crate) fn report_idle(&self, served: &[Served<'_>], reports: &mut Reports) {
        for ingress in served {
            let names = self.owned.get(ingress.key).into_iter().flatten();
            let pools: Vec<&Pool> = names
                .filter_map(|name| self.pools.get(name))
                .map(AsRef::as_ref)
                .collect();
            report(&ingress.object, &ingress.settings, &pools, reports);
        }
        let mut by_service: BTreeMap<&ObjectRef, Vec<&Pool>> = BTreeMap::new();
        for pool in self.pools.values() {
            by_service.entry(&pool.service).or_default().push(pool);
        }
        for (key, settings) in &self.services {
            let object = service_object(key);
            let pools = by_service.get(&object).map(Vec::as_slice).unwrap_or_default();
            report(&object, settings, pools, reports);
        }
    }
}

fn report(object: &ObjectRef, settings: &Settings, pools: &[&Pool], reports: &mut Reports) {
    for (names, has_effect, why) in NEEDS {
        if pools.is_empty() || pools.iter().any(|pool| has_effect(pool)) {
            continue;
        }
        for name in names.iter().filter(|name| settings.has(name)) {
            let message = format!("metadata.annotations[{PREFIX}{name}]: has no effect, because {why}");
            reports.add(object, ReportReason::AnnotationUnsupported, message);
        }
    }
}

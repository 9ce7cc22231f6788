//! Settings of pools that have no effect, because what they add to is not switched on.

use propylon_model::{Affinity, Algorithm, ObjectRef, Pool, ReportReason};

use super::Backends;
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
    /// Reports the annotations of an Ingress that have no effect on any of its own pools.
    pub(crate) fn report_idle(&self, ingress: &Served<'_>, reports: &mut Reports) {
        let pools: Vec<&Pool> = self
            .owned
            .iter()
            .filter_map(|name| self.pools.get(name))
            .map(AsRef::as_ref)
            .collect();
        report_idle(&ingress.object, &ingress.settings, &pools, reports);
    }
}

/// Reports the annotations of an object that have no effect on any of the pools.
pub(crate) fn report_idle(object: &ObjectRef, settings: &Settings, pools: &[&Pool], reports: &mut Reports) {
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

//! The settings of an Ingress and of a Service together: policies.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ServiceSpec;
use propylon_model::{
    Affinity, AffinityCookie, Algorithm, EndpointLimits, HashOn, HealthCheck, PoolPolicy, RetryPolicy, RoutePolicy,
};

use super::Settings;
use crate::annotations::{
    AFFINITY, AFFINITY_COOKIE_DOMAIN, AFFINITY_COOKIE_MAX_AGE, AFFINITY_COOKIE_NAME, AFFINITY_COOKIE_PATH,
    AFFINITY_COOKIE_SAME_SITE, AffinityKind, CONNECT_TIMEOUT, HASH_ON, HEALTH_CHECK, HEALTH_CHECK_HEALTHY,
    HEALTH_CHECK_INTERVAL, HEALTH_CHECK_TIMEOUT, HEALTH_CHECK_UNHEALTHY, LOAD_BALANCING, MAX_CONNECTIONS_PER_ENDPOINT,
    MAX_PENDING_REQUESTS, MAX_REQUESTS_PER_ENDPOINT, OUTLIER_EJECTION, PENDING_TIMEOUT, REQUEST_TIMEOUT,
    RESPONSE_IDLE_TIMEOUT, RESPONSE_TIMEOUT, RETRIES, RETRY_NON_IDEMPOTENT, RETRY_ON, RETRY_TIMEOUT, SLOW_START,
    TUNNEL_IDLE_TIMEOUT, Value,
};

/// `timeoutSeconds` of `sessionAffinity: ClientIP` where the Service gives none, as the API server fills it in.
const CLIENT_IP_AFFINITY: Duration = Duration::from_hours(3);

/// The settings of an Ingress, where there is one, before those of a Service, each annotation for itself.
#[derive(Clone, Copy)]
pub(crate) struct Merged<'a> {
    pub(crate) ingress: Option<&'a Settings>,
    pub(crate) service: Option<&'a Settings>,
}

impl Merged<'_> {
    /// Timeouts and retries of a rule.
    pub(crate) fn route_policy(&self) -> RoutePolicy {
        let default = RoutePolicy::default();
        RoutePolicy {
            connect_timeout: self.duration(CONNECT_TIMEOUT, default.connect_timeout),
            response_timeout: self.duration(RESPONSE_TIMEOUT, default.response_timeout),
            response_idle_timeout: self.duration(RESPONSE_IDLE_TIMEOUT, default.response_idle_timeout),
            request_timeout: self.duration_or_off(REQUEST_TIMEOUT),
            tunnel_idle_timeout: self.duration(TUNNEL_IDLE_TIMEOUT, default.tunnel_idle_timeout),
            retry: self.retry(),
        }
    }

    /// How an endpoint is chosen; `spec` is that of the Service.
    pub(crate) fn pool_policy(&self, spec: Option<&ServiceSpec>) -> PoolPolicy {
        let default = PoolPolicy::default();
        PoolPolicy {
            algorithm: match self.value(LOAD_BALANCING) {
                Some(Value::Algorithm(algorithm)) => *algorithm,
                _ => Algorithm::default(),
            },
            hash_on: match self.value(HASH_ON) {
                Some(Value::HashOn(hash_on)) => hash_on.clone(),
                _ => HashOn::default(),
            },
            affinity: self.affinity(spec),
            outlier_ejection: self.switch(OUTLIER_EJECTION, default.outlier_ejection),
            health_check: self.health_check(),
            limits: self.limits(),
            slow_start: self.duration_or_off(SLOW_START),
        }
    }

    /// A span of time.
    pub(crate) fn duration(&self, name: &str, default: Duration) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => default,
        }
    }

    fn retry(&self) -> RetryPolicy {
        let default = RetryPolicy::default();
        RetryPolicy {
            attempts: self
                .count(RETRIES)
                .and_then(|count| count.try_into().ok())
                .unwrap_or(default.attempts),
            on: match self.value(RETRY_ON) {
                Some(Value::RetryOn(on)) => *on,
                _ => default.on,
            },
            per_try_timeout: self.duration_or_off(RETRY_TIMEOUT),
            non_idempotent: self.switch(RETRY_NON_IDEMPOTENT, default.non_idempotent),
        }
    }

    fn limits(&self) -> EndpointLimits {
        let default = EndpointLimits::default();
        EndpointLimits {
            max_connections: self.count(MAX_CONNECTIONS_PER_ENDPOINT),
            max_requests: self.count(MAX_REQUESTS_PER_ENDPOINT),
            max_pending: self.count(MAX_PENDING_REQUESTS).unwrap_or(default.max_pending),
            pending_timeout: self.duration(PENDING_TIMEOUT, default.pending_timeout),
        }
    }

    fn health_check(&self) -> Option<HealthCheck> {
        let Some(Value::HealthCheck(Some(probe))) = self.value(HEALTH_CHECK) else {
            return None;
        };
        let default = HealthCheck::new(probe.clone());
        let count = |name: &str, default: u16| {
            let count = self.count(name).and_then(|count| count.try_into().ok());
            count.unwrap_or(default)
        };
        Some(HealthCheck {
            interval: self.duration(HEALTH_CHECK_INTERVAL, default.interval),
            timeout: self.duration(HEALTH_CHECK_TIMEOUT, default.timeout),
            healthy: count(HEALTH_CHECK_HEALTHY, default.healthy),
            unhealthy: count(HEALTH_CHECK_UNHEALTHY, default.unhealthy),
            probe: default.probe,
        })
    }

    fn affinity(&self, spec: Option<&ServiceSpec>) -> Affinity {
        match self.value(AFFINITY) {
            Some(Value::Affinity(AffinityKind::ClientIp)) => Affinity::ClientIp(client_ip_timeout(spec)),
            Some(Value::Affinity(AffinityKind::Cookie)) => Affinity::Cookie(self.cookie()),
            Some(Value::Affinity(AffinityKind::None)) => Affinity::None,
            _ => match spec.and_then(|spec| spec.session_affinity.as_deref()) {
                Some("ClientIP") => Affinity::ClientIp(client_ip_timeout(spec)),
                _ => Affinity::None,
            },
        }
    }

    fn cookie(&self) -> AffinityCookie {
        let default = AffinityCookie::default();
        AffinityCookie {
            name: self.name(AFFINITY_COOKIE_NAME).unwrap_or(default.name),
            max_age: self.duration_or_off(AFFINITY_COOKIE_MAX_AGE),
            path: self.name(AFFINITY_COOKIE_PATH),
            domain: self.name(AFFINITY_COOKIE_DOMAIN),
            same_site: match self.value(AFFINITY_COOKIE_SAME_SITE) {
                Some(Value::SameSite(same_site)) => *same_site,
                _ => default.same_site,
            },
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        let mut settings = [self.ingress, self.service].into_iter().flatten();
        settings.find_map(|settings| settings.value(name))
    }

    fn count(&self, name: &str) -> Option<u32> {
        match self.value(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    /// A span of time that is off unless it is given.
    fn duration_or_off(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    fn name(&self, name: &str) -> Option<Arc<str>> {
        match self.value(name) {
            Some(Value::Name(name)) => Some(Arc::clone(name)),
            _ => None,
        }
    }

    fn switch(&self, name: &str, default: bool) -> bool {
        match self.value(name) {
            Some(Value::Switch(switch)) => *switch,
            _ => default,
        }
    }
}

/// How long a client keeps its endpoint (`sessionAffinityConfig.clientIP.timeoutSeconds`, 1 s to 24 h).
fn client_ip_timeout(spec: Option<&ServiceSpec>) -> Duration {
    let config = spec.and_then(|spec| spec.session_affinity_config.as_ref());
    let seconds = config
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok());
    seconds
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map_or(CLIENT_IP_AFFINITY, Duration::from_secs)
}

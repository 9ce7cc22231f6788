//! What happens to one request, and why: the stages of the request spine, run for a request that nobody sent.
//!
//! What it is: [`Explainer::explain`] reads the head with the server's parser, normalises it, looks into the same tables,
//! runs the same filters and writes the head with the codec of the backend's connection; nothing is connected. The rules
//! that do not serve come from [`propylon_routing::explain`].
//!
//! What it is not: it decides nothing. Where the spine has no function for a question, it gets one, and asks it itself.
//!
//! Start from [`Explainer`].

mod backend;
mod head;
mod query;
mod rules;
mod story;
mod view;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
};

use propylon_kit::{
    admin::Routes,
    metrics::{Registry, RegistryConfig},
};
use propylon_model::{Delta, Resources};

use crate::{
    balance::{affinity::StickyKey, locality::Here},
    config::{Config, Limits, Switch},
    edge::TrustedProxies,
    proxy::Addresses,
    reason::Reason,
    spine::RETRY_REASONS,
    tables::Applier,
    tls::{ContextError, TlsContext},
    worker::Shared,
};

pub use query::{Query, QueryError};
pub use view::{
    BackendView, EndpointView, Explanation, FieldView, FilterView, HostView, ListenerView, PassthroughView, PathView,
    PolicyView, ReadingView, RequestView, ResultView, RuleView, SCHEMA, SentView, TlsView, WinnerView,
};

/// Explains requests to one proxy: a running one, or one that would be started with a configuration.
pub struct Explainer {
    applier: Arc<Mutex<Applier>>,
    settings: Settings,
}

/// What the flags say, as far as a request depends on it.
struct Settings {
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    https_public_port: u16,
    limits: Limits,
    trusted: TrustedProxies,
    via: bool,
    here: Here,
    /// Key of affinity cookies; none: that of another process is not known.
    sticky_key: Option<Arc<StickyKey>>,
    /// Whether external names are looked up: only a running proxy does.
    resolves: bool,
}

impl Explainer {
    /// For a proxy that is not running: what one with these flags and resources would do. `now_unix_s` dates the
    /// self-signed certificate.
    ///
    /// # Errors
    /// When the self-signed certificate cannot be made. Not retryable.
    ///
    /// # Cost
    /// As the start of a proxy with these resources.
    pub fn offline(config: &Config, resources: &Resources, now_unix_s: i64) -> Result<Self, ContextError> {
        let registry = Registry::new(RegistryConfig {
            reasons: Reason::CODES,
            retry_reasons: RETRY_REASONS,
            max_routes: 1,
        });
        let mut applier = Applier::new(Arc::new(registry), TlsContext::new(now_unix_s)?, 1);
        applier.apply(&Delta::between(&Resources::default(), resources));
        let https_public_port = config
            .https_public_port
            .or_else(|| config.https.first().map(SocketAddr::port));
        Ok(Self {
            applier: Arc::new(Mutex::new(applier)),
            settings: Settings {
                http: config.http.clone(),
                https: config.https.clone(),
                https_public_port: https_public_port.unwrap_or(443),
                limits: config.limits,
                trusted: TrustedProxies::new(config.trusted_proxies.iter().copied()),
                via: config.via == Switch::On,
                here: config.here.clone(),
                sticky_key: config.sticky_key.clone(),
                resolves: false,
            },
        })
    }

    /// For a running proxy.
    pub(crate) fn live(applier: Arc<Mutex<Applier>>, shared: &Shared, addresses: &Addresses) -> Self {
        Self {
            applier,
            settings: Settings {
                http: addresses.http.clone(),
                https: addresses.https.clone(),
                https_public_port: shared.https_public_port.load(Ordering::Relaxed),
                limits: shared.config.limits,
                trusted: shared.trusted.clone(),
                via: shared.config.via == Switch::On,
                here: shared.config.here.clone(),
                sticky_key: Some(Arc::clone(&shared.sticky.key)),
                resolves: true,
            },
        }
    }

    /// Explains a request.
    ///
    /// # Errors
    /// When the query is no request that a client could send.
    ///
    /// # Cost
    /// Linear in the route groups, n log n in the rules of the host.
    pub fn explain(&self, query: &Query) -> Result<Explanation, QueryError> {
        story::tell(self, query)
    }
}

/// Adds `/explain?url=URL[&method=METHOD][&header=NAME:%20VALUE]...[&client-ip=IP]`.
pub(crate) fn routes(routes: Routes, explainer: &Arc<Explainer>) -> Routes {
    let explainer = Arc::clone(explainer);
    routes.json_of("/explain", move |text| {
        let explained = Query::parse(text).and_then(|query| explainer.explain(&query));
        let explanation = explained.map_err(|error| format!("{error}\n"))?;
        serde_json::to_vec_pretty(&explanation).map_err(|error| format!("{error}\n"))
    })
}

#[cfg(test)]
mod tests;

//! The last stage: what is sent to the endpoint, and what becomes of its answer.

use std::rc::Rc;

use http::Response;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use propylon_routing::Route;

use super::{
    Answer, Circumstances,
    attempts::Attempts,
    head::{ExtraFields, HeadParts, body_length, request_head},
    normalise::Normalised,
    sticky::Sticky,
    upgrade,
};
use crate::{
    balance::affinity::Channel,
    body::{ClientBody, ResponseBody, Spans},
    edge::client_address::Scratch,
    exchange::{Exchange, ExchangeGuard},
    reason::Reason,
    respond::ProxyError,
    tables::Target,
    upstream,
};

/// Sends the request to an endpoint of the route's pool and gives its answer.
pub(super) async fn forward(
    exchange: &Rc<Exchange>,
    guard: ExchangeGuard,
    (of, route, request): (&Circumstances<'_>, &Route<Target>, &Normalised<'_>),
    (incoming, on_upgrade): (Incoming, Option<OnUpgrade>),
) -> Answer {
    let Some(handle) = &route.target.pool else {
        return Err((
            ProxyError::new(Reason::BackendNotFound, "the rule has no backend"),
            guard,
        ));
    };
    let spans = Spans::new(
        &route.policy,
        exchange.worker.shared.config.deadlines.body_idle_ms,
        request.facts.grpc,
    );
    if let Some(total) = route.policy.request_timeout {
        exchange.watch.arm_total(exchange.in_ms(crate::config::millis(total)));
    }
    let nonce = on_upgrade.is_some().then(|| exchange.worker.random_u128());
    let asked = upgrade::Asked::of(of.parts, request, nonce);
    let (mut scratch, mut hops) = (Scratch::default(), itoa::Buffer::new());
    let extra = ExtraFields::new(of, request, &mut scratch, &mut hops);
    let (target, websocket_key) = (request.target(), asked.websocket_key());
    let made = HeadParts {
        asked: &asked,
        body: body_length(&incoming, request),
        extra: &extra,
        target: &target,
        websocket_key: websocket_key.as_deref(),
    };
    let head = request_head(of, request, &made);
    let pool = exchange.worker.local_pool(handle);
    let sticky = Sticky::of(of.parts, &exchange.worker.shared.sticky.key, handle);
    let attempts = Attempts {
        exchange,
        pool: &pool,
        spans: &spans,
        head: &head,
        retry: &route.policy.retry,
        sticky: sticky.as_ref().and_then(|sticky| sticky.bound),
        upgrade: asked.is_some(),
    };
    let answered = match attempts.run(ClientBody::new(incoming, exchange, &spans)).await {
        // To the client, 2xx would say that the tunnel is there (RFC 8441 4).
        Ok(upstream::Answer::Response(response)) if asked.is_extended_connect() && response.status().is_success() => {
            exchange.upstream.status.set(response.status().as_u16());
            Err((
                ProxyError::new(Reason::UpgradeRefused, "the backend did not switch protocols"),
                guard,
            ))
        }
        Ok(upstream::Answer::Response(response)) => Ok(answer(response, &spans, guard)),
        Ok(upstream::Answer::Upgraded(upgraded)) => Ok(upgrade::accept(*upgraded, &spans, guard, on_upgrade)),
        Err(error) => Err((error, guard)),
    };
    match (answered, sticky) {
        (Ok(mut response), Some(sticky)) => {
            let channel = if request.is_https() {
                Channel::Tls
            } else {
                Channel::Plain
            };
            sticky.bind(exchange, route, channel, response.headers_mut());
            Ok(response)
        }
        (answered, _) => answered,
    }
}

fn answer(
    response: Response<upstream::UpstreamBody<ClientBody>>,
    spans: &Spans,
    guard: ExchangeGuard,
) -> Response<ResponseBody> {
    let exchange = guard.exchange();
    exchange.status.set(response.status().as_u16());
    exchange.upstream.status.set(response.status().as_u16());
    response.map(|body| ResponseBody::upstream(body, spans, guard))
}

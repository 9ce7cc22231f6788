//! The last stages: the Service, its endpoints with their chances, and the head that is written.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
};

use http::{Request, request::Parts};
use hyper::body::Incoming;
use propylon_model::{
    BackendProtocol, Pool,
    balance::{Affinity, Algorithm, PoolPolicy},
};
use propylon_routing::Route;

use super::{
    BackendView, EndpointView, FilterView, ResultView, SentView,
    story::{Ended, Story, answered, has_body},
};
use crate::{
    balance::{
        chances::{Candidate, chances},
        ewma::PeakEwma,
        hash,
        locality::Here,
        two_choices::Load,
    },
    config::millis,
    edge::client_address::Scratch,
    endpoint_state::{CheckVerdict, EndpointList, LiveEndpoint, process_ms},
    pool::{Eligible, PoolHandle, eligible, hash_key, warmth},
    proxy::lock,
    reason::Reason,
    respond::ProxyError,
    spine::{Asked, Circumstances, ExtraFields, HeadParts, Normalised, Sticky, body_length, request_head},
    tables::Target,
    upstream::{RequestHead, request_of, serialize_head},
};

/// Tells the Service and the endpoints of TLS that is handed on unopened.
pub(super) fn tell_unopened(story: &mut Story<'_>, handle: &PoolHandle, client: IpAddr, parts: &Parts) {
    let list = handle.endpoints.current.load();
    let at = Moment {
        now_ms: process_ms(),
        here: &story.explainer.settings.here,
        client,
        parts,
        sticky: None,
    };
    let mut view = backend_view(&at, handle, &list);
    "tls".clone_into(&mut view.protocol);
    story.told.backend = Some(view);
}

/// Tells the Service, the endpoints and what is sent.
pub(super) fn tell(
    story: &mut Story<'_>,
    of: &Circumstances<'_>,
    (route, request): (&Route<Target>, &Normalised<'_>),
    body: &Incoming,
) -> Result<(), Ended> {
    let Some(handle) = &route.target.pool else {
        return Err(answered(&ProxyError::new(
            Reason::BackendNotFound,
            "the rule has no backend",
        )));
    };
    let list = handle.endpoints.current.load();
    let at = Moment {
        now_ms: process_ms(),
        here: &story.explainer.settings.here,
        client: request.forwarded.client,
        parts: of.parts,
        sticky: affinity(story, of.parts, handle),
    };
    let mut view = backend_view(&at, handle, &list);
    view.external_name = external_name(story, &handle.spec);
    if view.external_name.is_some() && !story.explainer.settings.resolves {
        story.note("the addresses of the external name are looked up by a running proxy, not here");
    }
    let ended = fault(story, handle, &view);
    let has = |health: &str| view.endpoints.iter().any(|endpoint| endpoint.health == health);
    if has("full") && !has("usable") {
        let limits = &handle.spec.policy.limits;
        let (most, wait) = (limits.max_pending, limits.pending_timeout);
        story.note(&format!(
            "every endpoint is full: up to {most} requests wait for room, {wait:?} at most; the others are answered 503"
        ));
    }
    story.told.backend = Some(view);
    let asked = Asked::of(of.parts, request, None);
    let (mut scratch, mut hops) = (Scratch::default(), itoa::Buffer::new());
    let extra = ExtraFields::new(of, request, &mut scratch, &mut hops);
    let target = request.target();
    let made = HeadParts {
        asked: &asked,
        body: body_length(body, request),
        extra: &extra,
        target: &target,
        websocket_key: None,
    };
    let head = request_head(of, request, &made);
    if let Some(ended) = ended {
        return Err(answered(&ended));
    }
    if asked.is_some() && handle.spec.protocol == BackendProtocol::H2c {
        return Err(answered(&ProxyError::new(
            Reason::UpgradeRefused,
            "the backend speaks HTTP/2 only",
        )));
    }
    story.told.sent = sent(handle.spec.protocol, asked.is_some(), &head);
    if request.forwarded.request_id().iter().all(|digit| *digit == b'0') {
        story.note("x-request-id is random; zeros stand for it");
    }
    if has_body(of.parts) {
        story.note("the body follows as the client sends it");
    }
    story.told.result = ResultView {
        action: "forward".to_owned(),
        why: "sent to an endpoint".to_owned(),
        ..ResultView::default()
    };
    Ok(())
}

/// Why no endpoint can be asked, whichever it is.
fn fault(story: &Story<'_>, handle: &PoolHandle, view: &BackendView) -> Option<ProxyError> {
    let is_unresolved = view.external_name.is_some() && !story.explainer.settings.resolves;
    if view.endpoints.is_empty() && !is_unresolved {
        let detail = "the Service has no endpoint that can serve";
        return Some(ProxyError::new(Reason::NoReadyEndpoints, detail));
    }
    handle.transports.usual.as_ref().err().map(|_| {
        let detail = "the TLS settings of the backend are not usable";
        ProxyError::new(Reason::TlsCertificateError, detail)
    })
}

/// The name that gives the endpoints of a pool.
fn external_name(story: &Story<'_>, pool: &Pool) -> Option<String> {
    let applier = lock(&story.explainer.applier);
    let list = applier.resources().endpoints.get(&pool.endpoints)?;
    list.external
        .as_ref()
        .map(|name| format!("{}:{}", name.host, name.port))
}

/// What a pick depends on, beside the endpoints.
struct Moment<'a> {
    now_ms: u64,
    here: &'a Here,
    client: IpAddr,
    parts: &'a Parts,
    /// Where the affinity cookie leads.
    sticky: Option<SocketAddr>,
}

/// Tells what affinity does; gives where the client's cookie leads.
fn affinity(story: &mut Story<'_>, parts: &Parts, handle: &PoolHandle) -> Option<SocketAddr> {
    let policy = &handle.spec.policy;
    let key = story.explainer.settings.sticky_key.clone();
    let bound = key
        .as_ref()
        .and_then(|key| Sticky::of(parts, key, handle))
        .and_then(|sticky| sticky.bound);
    let why = match (&policy.affinity, bound) {
        (Affinity::None, _) => return None,
        (Affinity::ClientIp(_), _) => "by client address: the same client gets the same endpoint".to_owned(),
        (Affinity::Cookie(cookie), Some(address)) => format!("cookie {} leads to {address}", cookie.name),
        (Affinity::Cookie(cookie), None) if key.is_none() => {
            let name = &cookie.name;
            format!("cookie {name} is not read here: a running proxy has the key, or --sticky-key-file gives it")
        }
        (Affinity::Cookie(cookie), None) => {
            format!("no cookie {} that is good here: the response sets one", cookie.name)
        }
    };
    story.told.filters.push(FilterView {
        name: "affinity".to_owned(),
        effect: "passes".to_owned(),
        why,
    });
    bound
}

fn backend_view(at: &Moment<'_>, handle: &PoolHandle, list: &EndpointList) -> BackendView {
    let spec = &handle.spec;
    let policy = &spec.policy;
    let endpoints = endpoint_views(at, handle, list);
    let sure = endpoints.iter().find(|endpoint| endpoint.chance >= 1.0);
    BackendView {
        service: spec.service.to_string(),
        port: spec.port,
        protocol: spec.protocol.as_str().to_owned(),
        load_balancing: policy.algorithm.as_str().to_owned(),
        hash_on: (policy.algorithm == Algorithm::Maglev).then(|| policy.hash_on.to_string()),
        affinity: policy.affinity.as_str().to_owned(),
        external_name: None,
        pick: sure.map(|endpoint| endpoint.address.clone()),
        endpoints,
    }
}

/// The endpoints with the chances that the picking code gives them.
fn endpoint_views(at: &Moment<'_>, handle: &PoolHandle, list: &EndpointList) -> Vec<EndpointView> {
    let policy = &handle.spec.policy;
    let mut found = eligible(list, policy, at.here, at.now_ms);
    leave_out_full(&mut found, list, policy);
    let mut views: Vec<EndpointView> = list
        .endpoints
        .iter()
        .map(|live| endpoint_view(live, policy, at.now_ms))
        .collect();
    if let Some(place) = bound_place(at, handle, list, &found.usable) {
        if let Some(view) = views.get_mut(place) {
            view.chance = 1.0;
        }
        return views;
    }
    let of = |place: &usize| {
        list.endpoints
            .get(*place)
            .map(|live| candidate(live, policy, at.now_ms))
    };
    let candidates: Vec<Candidate> = found.candidates.iter().filter_map(of).collect();
    let chances = chances(policy.algorithm, &candidates, at.now_ms * 1_000);
    for (place, chance) in found.candidates.iter().zip(chances) {
        if let Some(view) = views.get_mut(*place) {
            view.chance = chance;
        }
    }
    views
}

/// Leaves out who has as many requests as it may, where another has room; where no candidate has, the others help.
fn leave_out_full(found: &mut Eligible, list: &EndpointList, policy: &PoolPolicy) {
    let has_room = |live: &LiveEndpoint| !is_full(live, policy);
    let open: Vec<bool> = list
        .endpoints
        .iter()
        .zip(&found.usable)
        .map(|(live, usable)| *usable && has_room(live))
        .collect();
    if !open.contains(&true) {
        return;
    }
    let is_open = |place: &usize| open.get(*place).copied().unwrap_or(false);
    found.candidates.retain(is_open);
    if found.candidates.is_empty() {
        found.candidates = (0..open.len()).filter(is_open).collect();
    }
    found.usable = open;
}

fn is_full(live: &LiveEndpoint, policy: &PoolPolicy) -> bool {
    let most = policy.limits.max_requests;
    most.is_some_and(|most| live.state.active.load(Relaxed) >= most)
}

/// The endpoint that the client is bound to, or that a hash decides, where one does.
fn bound_place(at: &Moment<'_>, handle: &PoolHandle, list: &EndpointList, usable: &[bool]) -> Option<usize> {
    let policy = &handle.spec.policy;
    let may_use = |place: usize| usable.get(place).copied().unwrap_or(false);
    if let Some(place) = affine_place(at, handle, list).filter(|place| may_use(*place)) {
        return Some(place);
    }
    let key = match (&policy.affinity, policy.algorithm) {
        (Affinity::ClientIp(_), _) => hash::client(at.client),
        (_, Algorithm::Maglev) => hash_key(policy, at.client, Some(at.parts)),
        _ => return None,
    };
    list.table().find(key, list.endpoints.len(), may_use)
}

/// The endpoint that the client's cookie names, or that its address was sent to last.
fn affine_place(at: &Moment<'_>, handle: &PoolHandle, list: &EndpointList) -> Option<usize> {
    let place = |is_it: &dyn Fn(SocketAddr) -> bool| list.endpoints.iter().position(|live| is_it(live.spec.address));
    match &handle.spec.policy.affinity {
        Affinity::ClientIp(timeout) => {
            let clients = handle.endpoints.clients();
            let identity = clients.find(at.client, at.now_ms, millis(*timeout))?;
            place(&|address| hash::endpoint(address, 0) == identity)
        }
        Affinity::Cookie(_) | Affinity::None => {
            let bound = at.sticky?;
            place(&|address| address == bound)
        }
    }
}

fn endpoint_view(live: &LiveEndpoint, policy: &PoolPolicy, now_ms: u64) -> EndpointView {
    let (spec, state) = (&live.spec, &live.state);
    let health = if policy.outlier_ejection && state.ejected_until_ms.load(Relaxed) > now_ms {
        "ejected"
    } else if policy.health_check.is_some() && state.verdict() == CheckVerdict::Unhealthy {
        "unhealthy"
    } else if is_full(live, policy) {
        "full"
    } else {
        "usable"
    };
    let latency_us = state.latency_us.load(Relaxed);
    EndpointView {
        address: spec.address.to_string(),
        pod: spec.pod.as_deref().map(str::to_owned),
        node: spec.node.as_deref().map(str::to_owned),
        zone: spec.zone.as_deref().map(str::to_owned),
        weight: spec.weight,
        health: health.to_owned(),
        active: state.shown_active.load(Relaxed),
        latency_us: (latency_us != 0).then_some(latency_us),
        chance: 0.0,
    }
}

/// What the workers published of an endpoint; each of them picks by its own counts.
fn candidate(live: &LiveEndpoint, policy: &PoolPolicy, now_ms: u64) -> Candidate {
    let (spec, state) = (&live.spec, &live.state);
    let mut latency = PeakEwma::NEW;
    match state.latency_us.load(Relaxed) {
        0 => {}
        latency_us => latency.observe(latency_us, now_ms * 1_000),
    }
    Candidate {
        load: Load {
            active: state.shown_active.load(Relaxed),
            weight: spec.weight.max(1),
        },
        latency,
        warmth: warmth(state, policy, now_ms),
    }
}

/// The head in each protocol that the backend may choose; an upgrade needs HTTP/1.1.
fn sent(protocol: BackendProtocol, is_upgrade: bool, head: &RequestHead<'_>) -> Vec<SentView> {
    match protocol {
        BackendProtocol::H2c => http2(head, "http").into_iter().collect(),
        BackendProtocol::Https if !is_upgrade => http2(head, "https").into_iter().chain([http1(head)]).collect(),
        BackendProtocol::Http1 | BackendProtocol::Https | BackendProtocol::Wss => vec![http1(head)],
    }
}

fn http1(head: &RequestHead<'_>) -> SentView {
    let mut bytes = Vec::new();
    serialize_head(head, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    SentView {
        protocol: "http/1.1".to_owned(),
        head: text.trim_end_matches("\r\n").split("\r\n").map(str::to_owned).collect(),
    }
}

fn http2(head: &RequestHead<'_>, scheme: &'static str) -> Option<SentView> {
    let request: Request<()> = request_of(head, scheme)?;
    let uri = request.uri();
    // Without an authority h2 sends the scheme "http".
    let scheme = uri.scheme_str().unwrap_or("http");
    let mut lines = vec![format!(":method: {}", request.method()), format!(":scheme: {scheme}")];
    lines.extend(uri.authority().map(|authority| format!(":authority: {authority}")));
    lines.extend(uri.path_and_query().map(|path| format!(":path: {path}")));
    lines.extend(
        request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))),
    );
    Some(SentView {
        protocol: "h2".to_owned(),
        head: lines,
    })
}

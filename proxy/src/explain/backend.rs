//! The last stages: the Service, its endpoints with their chances, and the head that is written.

use std::sync::atomic::Ordering::Relaxed;

use http::Request;
use hyper::body::Incoming;
use propylon_model::{
    BackendProtocol,
    balance::{Affinity, Algorithm, HashOn, PoolPolicy},
};
use propylon_routing::Route;

use super::{
    BackendView, EndpointView, ResultView, SentView,
    story::{Ended, Story, answered, has_body},
};
use crate::{
    balance::{
        chances::{Candidate, chances},
        ewma::PeakEwma,
        two_choices::Load,
    },
    edge::client_address::Scratch,
    endpoint_state::{CheckVerdict, EndpointList, LiveEndpoint, process_ms},
    pool::PoolHandle,
    reason::Reason,
    respond::ProxyError,
    spine::{Asked, Circumstances, ExtraFields, HeadParts, Normalised, body_length, request_head},
    tables::Target,
    upstream::{RequestHead, request_of, serialize_head},
};

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
    let view = backend_view(handle, &list);
    let ended = fault(handle, &view);
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
fn fault(handle: &PoolHandle, view: &BackendView) -> Option<ProxyError> {
    if view.endpoints.is_empty() {
        let detail = "the Service has no endpoint that can serve";
        return Some(ProxyError::new(Reason::NoReadyEndpoints, detail));
    }
    handle.transports.usual.as_ref().err().map(|_| {
        let detail = "the TLS settings of the backend are not usable";
        ProxyError::new(Reason::TlsCertificateError, detail)
    })
}

fn backend_view(handle: &PoolHandle, list: &EndpointList) -> BackendView {
    let spec = &handle.spec;
    let policy = &spec.policy;
    let endpoints = endpoint_views(list, policy);
    let sure = endpoints.iter().find(|endpoint| endpoint.chance >= 1.0);
    BackendView {
        service: spec.service.to_string(),
        port: spec.port,
        protocol: match spec.protocol {
            BackendProtocol::H2c => "h2c",
            BackendProtocol::Http1 => "http/1.1",
            BackendProtocol::Https => "https",
            BackendProtocol::Wss => "wss",
        }
        .to_owned(),
        load_balancing: match policy.algorithm {
            Algorithm::Ewma => "ewma",
            Algorithm::LeastRequest => "least-request",
            Algorithm::Maglev => "maglev",
            Algorithm::RoundRobin => "round-robin",
        }
        .to_owned(),
        hash_on: (policy.algorithm == Algorithm::Maglev).then(|| hash_on(&policy.hash_on)),
        affinity: match policy.affinity {
            Affinity::ClientIp(_) => "client-ip",
            Affinity::Cookie(_) => "cookie",
            Affinity::None => "none",
        }
        .to_owned(),
        pick: sure.map(|endpoint| endpoint.address.clone()),
        endpoints,
    }
}

fn hash_on(hash_on: &HashOn) -> String {
    match hash_on {
        HashOn::ClientIp => "client-ip".to_owned(),
        HashOn::Cookie(name) => format!("cookie:{name}"),
        HashOn::Header(name) => format!("header:{name}"),
        HashOn::Query(name) => format!("query:{name}"),
        HashOn::Uri => "uri".to_owned(),
    }
}

fn endpoint_views(list: &EndpointList, policy: &PoolPolicy) -> Vec<EndpointView> {
    let now_ms = process_ms();
    let mut views: Vec<EndpointView> = list.endpoints.iter().map(|live| endpoint_view(live, now_ms)).collect();
    // Where none is usable, all are used.
    let all = views.iter().all(|view| view.health != "usable");
    let used = |view: &EndpointView| all || view.health == "usable";
    let candidates: Vec<Candidate> = views
        .iter()
        .filter(|view| used(view))
        .map(|view| candidate(view, now_ms))
        .collect();
    let mut chances = chances(policy.algorithm, &candidates, now_ms * 1_000).into_iter();
    for view in &mut views {
        if used(view) {
            view.chance = chances.next().unwrap_or(0.0);
        }
    }
    views
}

fn endpoint_view(live: &LiveEndpoint, now_ms: u64) -> EndpointView {
    let (spec, state) = (&live.spec, &live.state);
    let health = if state.ejected_until_ms.load(Relaxed) > now_ms {
        "ejected"
    } else if state.check.load(Relaxed) == CheckVerdict::Unhealthy as u8 {
        "unhealthy"
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

fn candidate(view: &EndpointView, now_ms: u64) -> Candidate {
    let mut latency = PeakEwma::NEW;
    if let Some(latency_us) = view.latency_us {
        latency.observe(latency_us, now_ms * 1_000);
    }
    Candidate {
        load: Load {
            active: view.active,
            weight: view.weight,
        },
        latency,
        warmth: 1.0,
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

//! The stages of one request, one after the other, each told as it passes.

use std::{net::SocketAddr, sync::Arc};

use http::request::Parts;
use hyper::body::Incoming;
use propylon_model::{Action, HostPattern, RouteGroup};
use propylon_routing::{Found, Route};
use rustls::{CipherSuite, ProtocolVersion};

use super::{
    Explainer, Explanation, FieldView, FilterView, HostView, ListenerView, PassthroughView, PathView, Query,
    QueryError, ReadingView, RequestView, ResultView, SCHEMA, TlsView, backend, head, query::Url, rules,
};
use crate::{
    edge::{PeerInfo, Scheme},
    proxy::lock,
    respond::ProxyError,
    spine::{self, Circumstances, Normalised, normalise},
    stats::refusal_text,
    tables::{Tables, Target},
    tls::{Alpn, CertIdentity, FoundBy, TlsInfo},
};

/// Tells what happens to a request.
pub(super) fn tell(explainer: &Explainer, query: &Query) -> Result<Explanation, QueryError> {
    let url = query.url()?;
    let mut story = Story {
        explainer,
        told: Explanation {
            schema: SCHEMA,
            request: request_view(query, &url),
            ..Explanation::default()
        },
    };
    if let Err(ended) = story.run(query, &url) {
        story.told.result = *ended.0;
    }
    Ok(story.told)
}

pub(super) struct Story<'a> {
    pub(super) explainer: &'a Explainer,
    pub(super) told: Explanation,
}

/// The request ends here, before the next stage; boxed, as it is large and rarely there.
pub(super) struct Ended(Box<ResultView>);

/// The end where the proxy itself answers.
pub(super) fn answered(error: &ProxyError) -> Ended {
    let why = match error.detail {
        "" => error.reason.doc().trim().to_owned(),
        // A word is the name of a fault, and says too little alone.
        word if !word.contains(' ') => format!("{} ({word})", error.reason.doc().trim()),
        sentence => sentence.to_owned(),
    };
    Ended(Box::new(ResultView {
        action: "answer".to_owned(),
        status: Some(error.reason.status().as_u16()),
        reason: Some(error.reason.code().to_owned()),
        why,
        location: error
            .location
            .as_ref()
            .map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned()),
    }))
}

impl Story<'_> {
    fn run(&mut self, query: &Query, url: &Url<'_>) -> Result<(), Ended> {
        let local = self.listener(url)?;
        if url.scheme == Scheme::Https {
            self.passthrough(query, url)?;
        }
        let tls = (url.scheme == Scheme::Https).then(|| self.tls(url));
        let settings = &self.explainer.settings;
        let (parts, body) =
            head::read(&head::written(query, url), &settings.limits).map_err(|reason| answered(&reason.into()))?;
        let peer = PeerInfo::new(SocketAddr::new(query.client_ip, 0), &settings.trusted);
        let certificates = Arc::clone(&lock(&self.explainer.applier).live().certificates);
        let circumstances = Circumstances {
            parts: &parts,
            scheme: url.scheme,
            peer: &peer,
            local,
            tls: tls.as_ref(),
            certificates: &certificates,
            trusted: &settings.trusted,
            limits: spine::limits(&settings.limits),
            https_public_port: settings.https_public_port,
            via: settings.via,
            random: 0,
        };
        let request = normalise(&circumstances).map_err(|error| answered(&error))?;
        self.route(&circumstances, &request, &body)
    }

    fn listener(&mut self, url: &Url<'_>) -> Result<SocketAddr, Ended> {
        let settings = &self.explainer.settings;
        let addresses = match url.scheme {
            Scheme::Http => &settings.http,
            Scheme::Https => &settings.https,
        };
        let same_port = addresses.iter().find(|address| address.port() == url.port);
        let scheme = url.scheme.as_str();
        let Some(address) = same_port.or_else(|| addresses.first()) else {
            return Err(Ended(Box::new(ResultView {
                action: "unreachable".to_owned(),
                why: format!("nothing listens for {scheme} (--{scheme} off)"),
                ..ResultView::default()
            })));
        };
        self.told.listener = Some(ListenerView {
            scheme: scheme.to_owned(),
            address: address.to_string(),
        });
        Ok(*address)
    }

    /// TLS of a host that is handed on unopened goes no further here.
    fn passthrough(&mut self, query: &Query, url: &Url<'_>) -> Result<(), Ended> {
        let Some(name) = url.server_name() else { return Ok(()) };
        let (forward, entry) = {
            let applier = lock(&self.explainer.applier);
            let Some(forward) = applier.live().l4.hosts().find(&name).map(Arc::clone) else {
                return Ok(());
            };
            let entries = applier.resources().passthrough.values();
            let of_service =
                entries.filter(|entry| entry.service == forward.pool.spec.service && entry.host.covers(&name));
            let entry = of_service.min_by_key(|entry| matches!(entry.host, HostPattern::Wildcard(_)));
            (forward, entry.cloned())
        };
        self.told.tls = Some(TlsView {
            server_name: Some(name),
            passthrough: entry.map(|entry| PassthroughView {
                object: entry.source.to_string(),
                host: entry.host.to_string(),
            }),
            ..TlsView::default()
        });
        let (parts, ()) = http::Request::new(()).into_parts();
        backend::tell_unopened(self, &forward.pool, query.client_ip, &parts);
        Err(Ended(Box::new(ResultView {
            action: "passthrough".to_owned(),
            why: "TLS is handed on unopened: what is inside is the endpoint's".to_owned(),
            ..ResultView::default()
        })))
    }

    /// The handshake of a client of today: TLS 1.3, every type of key, HTTP/1.1.
    fn tls(&mut self, url: &Url<'_>) -> TlsInfo {
        let server_name = url.server_name();
        let table = lock(&self.explainer.applier).live().certificates.load_full();
        let choice = table.choice(server_name.as_deref());
        let certificate = choice.first();
        let first = choice.candidates.first();
        self.told.tls = Some(TlsView {
            server_name: server_name.clone(),
            certificate: certificate.to_string(),
            found_by: match choice.found_by {
                FoundBy::Default => "default",
                FoundBy::Exact => "exact",
                FoundBy::Wildcard => "wildcard",
            }
            .to_owned(),
            not_after_unix_s: first.map_or(0, |fact| fact.not_after_unix_s),
            others: choice
                .candidates
                .iter()
                .skip(1)
                .map(|fact| fact.identity.to_string())
                .collect(),
            passthrough: None,
        });
        if certificate == CertIdentity::SelfSigned {
            self.note("no certificate is for this name, and --default-tls-secret gives none: clients warn of a self-signed one");
        }
        TlsInfo {
            sni: server_name.map(Box::from),
            certificate,
            alpn: Alpn::Http11,
            version: ProtocolVersion::TLSv1_3,
            cipher: CipherSuite::TLS13_AES_128_GCM_SHA256,
            resumed: false,
        }
    }

    fn route(&mut self, of: &Circumstances<'_>, request: &Normalised<'_>, body: &Incoming) -> Result<(), Ended> {
        let (tables, groups) = self.tables(request.host());
        let (host, path) = (request.host(), &request.path);
        let trace = propylon_routing::explain::trace(groups.iter().map(Arc::as_ref), host, path.normal());
        self.told.rules = trace
            .candidates
            .iter()
            .map(|candidate| rules::view(candidate, trace.pattern))
            .collect();
        self.told.host = Some(HostView {
            name: host.to_owned(),
            pattern: trace.pattern.map(ToString::to_string),
        });
        let readings = path.readings().into_iter().map(|reading| {
            let trace = propylon_routing::explain::trace(groups.iter().map(Arc::as_ref), host, &reading);
            ReadingView {
                rule: trace.selected().map(rules::name),
                path: reading,
            }
        });
        self.told.path = Some(PathView {
            normal: path.normal().to_owned(),
            sent: request.target().into_owned(),
            readings: readings.collect(),
        });
        let route = match tables.routes.find(host, path) {
            Found::Route(route) => route,
            other => return Err(answered(&spine::not_found(&other))),
        };
        self.told.winner = Some(rules::winner(route));
        self.filters(of, route, request)?;
        backend::tell(self, of, (route, request), body)
    }

    /// The tables of this moment, and the groups of the patterns that cover a host.
    fn tables(&self, host: &str) -> (Arc<Tables>, Vec<Arc<RouteGroup>>) {
        let applier = lock(&self.explainer.applier);
        let groups = applier.resources().groups.values();
        let covering = groups.filter(|group| group.host.covers(host)).cloned().collect();
        (applier.live().tables.load_full(), covering)
    }

    fn filters(
        &mut self,
        of: &Circumstances<'_>,
        route: &Route<Target>,
        request: &Normalised<'_>,
    ) -> Result<(), Ended> {
        let filters = [
            (
                "redirect-https",
                redirect_why(route, request),
                spine::redirect_https(of, route, request),
            ),
            ("max-forwards", max_forwards_why(request), spine::max_forwards(request)),
            (
                "backend",
                "the rule leads to a Service".to_owned(),
                spine::refusal(route),
            ),
        ];
        let mut ended = None;
        for (name, why, outcome) in filters {
            let (effect, why) = match (&ended, outcome) {
                (Some(_), _) => ("notReached", String::new()),
                (None, Ok(())) => ("passes", why),
                (None, Err(error)) => {
                    let mut end = answered(&error);
                    if let Action::Refuse(refusal) = &route.action
                        && name == "backend"
                    {
                        end.0.why = refusal_text(refusal);
                    }
                    let why = end.0.why.clone();
                    ended = Some(end);
                    ("answers", why)
                }
            };
            self.told.filters.push(FilterView {
                name: name.to_owned(),
                effect: effect.to_owned(),
                why,
            });
        }
        ended.map_or(Ok(()), Err)
    }

    pub(super) fn note(&mut self, text: &str) {
        self.told.notes.push(text.to_owned());
    }
}

fn redirect_why(route: &Route<Target>, request: &Normalised<'_>) -> String {
    let why = match (route.redirect_https, request.is_https()) {
        (false, _) => "the Ingress wants no redirect for this host",
        (true, true) => "the request is HTTPS already",
        (true, false) if spine::is_acme(request) => "an ACME challenge is never redirected (RFC 8555 8.3)",
        (true, false) => "",
    };
    why.to_owned()
}

fn max_forwards_why(request: &Normalised<'_>) -> String {
    match request.max_forwards {
        Some(left) => format!("OPTIONS with Max-Forwards {left}: goes on with one less"),
        None => "not OPTIONS with Max-Forwards".to_owned(),
    }
}

fn request_view(query: &Query, url: &Url<'_>) -> RequestView {
    let headers = head::fields(query, url);
    RequestView {
        method: query.method.clone(),
        url: query.url.clone(),
        client_ip: query.client_ip.to_string(),
        headers: headers
            .into_iter()
            .map(|(name, value)| FieldView { name, value })
            .collect(),
    }
}

/// Only what [`head::read`] gave has a body to ask about.
pub(super) fn has_body(parts: &Parts) -> bool {
    use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
    parts.headers.contains_key(CONTENT_LENGTH) || parts.headers.contains_key(TRANSFER_ENCODING)
}

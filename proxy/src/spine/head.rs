//! The request head that a backend gets: the client's, with what the proxy says of the client.

use http::{HeaderName, header};
use http_body::Body;

use super::{Asked, Circumstances, Normalised};
use crate::{
    edge::client_address::Scratch,
    upstream::{BodyLength, PeerTrust, RequestHead},
};

/// The fields that we add: those that speak of the client, `Via` and `Max-Forwards`.
pub(crate) struct ExtraFields<'a> {
    fields: [(&'static HeaderName, &'a [u8]); 8],
    count: usize,
}

impl<'a> ExtraFields<'a> {
    /// The fields of a request; their text is put together in `scratch` and `hops`.
    pub(crate) fn new(
        of: &Circumstances<'_>,
        request: &'a Normalised<'_>,
        scratch: &'a mut Scratch,
        hops: &'a mut itoa::Buffer,
    ) -> Self {
        let mut extra = Self {
            fields: [(&header::VIA, b"".as_slice()); 8],
            count: 0,
        };
        for (name, value) in &*request.forwarded.list(scratch) {
            extra.push(name, value);
        }
        if of.via {
            extra.push(&header::VIA, b"1.1 propylon");
        }
        if let Some(left @ 1..) = request.max_forwards {
            extra.push(&header::MAX_FORWARDS, hops.format(left - 1).as_bytes());
        }
        extra
    }

    fn push(&mut self, name: &'static HeaderName, value: &'a [u8]) {
        if let Some(field) = self.fields.get_mut(self.count) {
            *field = (name, value);
            self.count += 1;
        }
    }

    fn fields(&self) -> &[(&'static HeaderName, &'a [u8])] {
        self.fields.get(..self.count).unwrap_or_default()
    }
}

/// The parts of a head that are made for it.
pub(crate) struct HeadParts<'a> {
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) body: BodyLength,
    pub(crate) extra: &'a ExtraFields<'a>,
    /// [`Normalised::target`].
    pub(crate) target: &'a str,
    /// [`Asked::websocket_key`].
    pub(crate) websocket_key: Option<&'a str>,
}

/// What the codec of the backend's connection writes.
pub(crate) fn request_head<'a>(
    of: &Circumstances<'a>,
    request: &'a Normalised<'_>,
    made: &HeadParts<'a>,
) -> RequestHead<'a> {
    RequestHead {
        method: made.asked.method(&of.parts.method),
        target: made.target,
        authority: request.authority().as_bytes(),
        headers: &of.parts.headers,
        peer: if of.peer.is_trusted() {
            PeerTrust::Trusted
        } else {
            PeerTrust::Untrusted
        },
        body: if made.asked.is_extended_connect() {
            BodyLength::None
        } else {
            made.body
        },
        te_trailers: request.facts.te_trailers,
        expect_continue: request.facts.expect_continue,
        upgrade: made.asked.field(),
        websocket_key: made.websocket_key,
        extra: made.extra.fields(),
    }
}

/// How the body of a request is delimited, as far as hyper knows before it is read.
pub(crate) fn body_length(body: &impl Body, request: &Normalised<'_>) -> BodyLength {
    match (body.is_end_stream(), request.facts.content_length) {
        (true, Some(_)) => BodyLength::Exact(0),
        (true, None) => BodyLength::None,
        (false, _) => body.size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Exact),
    }
}

//! What may be repeated, and what an upstream failure is called (pure).

use http::Method;

use crate::{
    reason::Reason,
    upstream::{Sent, UpstreamErrorKind},
};

/// How an attempt failed, as far as repeating it is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) sent: Sent,
    pub(super) response_started: bool,
    /// Whether the connection had served a request before.
    pub(super) reused: bool,
    /// Whether the request body can be sent again.
    pub(super) body_untouched: bool,
}

/// Whether another attempt is safe (RFC 9110 9.2.2): nothing was sent; or a reused connection turned out dead, and the
/// request is idempotent and can be replayed.
pub(super) fn may_repeat(method: &Method, failure: Failure) -> bool {
    if failure.response_started || !failure.body_untouched {
        return false;
    }
    match failure.sent {
        Sent::Nothing => true,
        Sent::Some => failure.reused && method.is_idempotent(),
    }
}

/// The reason code of an upstream failure.
pub(super) fn reason_of(kind: UpstreamErrorKind) -> Reason {
    match kind {
        UpstreamErrorKind::ClosedBeforeResponse | UpstreamErrorKind::Refused | UpstreamErrorKind::Reset => {
            Reason::ConnectionTerminated
        }
        UpstreamErrorKind::ConnectFailed => Reason::DestinationUnroutable,
        UpstreamErrorKind::ConnectRefused => Reason::ConnectionRefused,
        UpstreamErrorKind::HeadTooLarge | UpstreamErrorKind::ProtocolError(_) => Reason::HttpProtocolError,
        UpstreamErrorKind::InvalidRequest => Reason::RequestInvalid,
        UpstreamErrorKind::RequestBody => Reason::RequestBodyInvalid,
        UpstreamErrorKind::TlsCertificate => Reason::TlsCertificateError,
        UpstreamErrorKind::TlsFailed => Reason::TlsProtocolError,
        UpstreamErrorKind::UpgradeUnsupported => Reason::UpgradeRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD_REUSED: Failure = Failure {
        sent: Sent::Some,
        response_started: false,
        reused: true,
        body_untouched: true,
    };

    #[test]
    fn a_dead_reused_connection_is_repeated_for_idempotent_methods_only() {
        assert!(may_repeat(&Method::GET, DEAD_REUSED));
        assert!(may_repeat(&Method::PUT, DEAD_REUSED));
        assert!(!may_repeat(&Method::POST, DEAD_REUSED));
        assert!(!may_repeat(
            &Method::GET,
            Failure {
                reused: false,
                ..DEAD_REUSED
            }
        ));
        assert!(!may_repeat(
            &Method::GET,
            Failure {
                body_untouched: false,
                ..DEAD_REUSED
            }
        ));
        assert!(!may_repeat(
            &Method::GET,
            Failure {
                response_started: true,
                ..DEAD_REUSED
            }
        ));
    }

    #[test]
    fn what_was_never_sent_is_repeated_for_any_method() {
        assert!(may_repeat(
            &Method::POST,
            Failure {
                sent: Sent::Nothing,
                reused: false,
                ..DEAD_REUSED
            }
        ));
    }
}

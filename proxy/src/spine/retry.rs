//! What may be repeated, and what an upstream failure is called (pure).

use http::{HeaderMap, Method, header};
use propylon_model::RetryPolicy;

use crate::{
    body::ClientBody,
    reason::Reason,
    upstream::{Sent, UpstreamErrorKind},
};

/// A request that is sent again.
pub(super) struct Repeat {
    pub(super) body: ClientBody,
    /// Index of the reason in [`RETRY_REASONS`].
    pub(super) why: usize,
    /// What went wrong at the endpoint, where it did not answer.
    pub(super) fault: Option<Reason>,
    /// Whether the attempt does not count.
    pub(super) is_free: bool,
    /// How long it asked us to wait.
    pub(super) wait_ms: u64,
}

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

impl Failure {
    /// Whether the endpoint is to be blamed: not where an idle connection was closed, as every server does after a while,
    /// and not where the request itself was the trouble.
    pub(super) fn is_fault_of_endpoint(self, kind: UpstreamErrorKind) -> bool {
        match kind {
            UpstreamErrorKind::ClosedBeforeResponse | UpstreamErrorKind::Reset => !self.reused || self.response_started,
            UpstreamErrorKind::InvalidRequest
            | UpstreamErrorKind::OutOfDescriptors
            | UpstreamErrorKind::Refused
            | UpstreamErrorKind::RequestBody
            | UpstreamErrorKind::UpgradeUnsupported => false,
            UpstreamErrorKind::ConnectFailed
            | UpstreamErrorKind::ConnectRefused
            | UpstreamErrorKind::HeadTooLarge
            | UpstreamErrorKind::ProtocolError(_)
            | UpstreamErrorKind::TlsCertificate
            | UpstreamErrorKind::TlsFailed => true,
        }
    }
}

/// Whether another attempt is safe (RFC 9110 9.2.2): nothing was sent; or a reused connection turned out dead, and the
/// request can be replayed and is idempotent, or declared as good as that (`retry-non-idempotent`).
pub(super) fn may_repeat(method: &Method, policy: &RetryPolicy, failure: Failure) -> bool {
    if failure.response_started || !failure.body_untouched {
        return false;
    }
    match failure.sent {
        Sent::Nothing => true,
        Sent::Some => failure.reused && (method.is_idempotent() || policy.non_idempotent),
    }
}

/// How long to wait before a request is sent again after a response with these fields; none: not at all, as the endpoint
/// asks for more time (`Retry-After`, RFC 9110 10.2.3) than a request should wait here.
pub(super) fn wait_ms(headers: &HeaderMap) -> Option<u64> {
    let Some(field) = headers.get(header::RETRY_AFTER) else {
        return Some(0);
    };
    let seconds: u64 = field.to_str().ok()?.trim().parse().ok()?;
    (seconds <= LONGEST_WAIT_S).then(|| seconds.saturating_mul(1_000))
}

/// The index of a status in [`RETRY_REASONS`].
pub(super) const fn status_index(status: u16) -> usize {
    match status {
        429 => 3,
        502 => 4,
        503 => 5,
        _ => 6,
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
        UpstreamErrorKind::OutOfDescriptors => Reason::OverloadDescriptors,
        UpstreamErrorKind::RequestBody => Reason::RequestBodyInvalid,
        UpstreamErrorKind::TlsCertificate => Reason::TlsCertificateError,
        UpstreamErrorKind::TlsFailed => Reason::TlsProtocolError,
        UpstreamErrorKind::UpgradeUnsupported => Reason::UpgradeRefused,
    }
}

/// Index of the retry reason: the connection could not be made.
pub(super) const CONNECT_FAILURE: usize = 0;
/// Index of the retry reason: the connection ended before a response.
pub(super) const RESET: usize = 1;
/// Index of the retry reason: no response within `retry-timeout`.
pub(super) const TIMEOUT: usize = 2;
/// The retry reasons, as metrics name them.
pub(crate) const RETRY_REASONS: &[&str] = &["connect-failure", "reset", "timeout", "429", "502", "503", "504"];
/// The longest `Retry-After` that is waited for here.
const LONGEST_WAIT_S: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 2,
        on: propylon_model::RetryOn::NEVER,
        per_try_timeout: None,
        non_idempotent: false,
    };

    const DEAD_REUSED: Failure = Failure {
        sent: Sent::Some,
        response_started: false,
        reused: true,
        body_untouched: true,
    };

    #[test]
    fn a_dead_reused_connection_is_repeated_for_idempotent_methods_only() {
        assert!(may_repeat(&Method::GET, &POLICY, DEAD_REUSED));
        assert!(may_repeat(&Method::PUT, &POLICY, DEAD_REUSED));
        assert!(!may_repeat(&Method::POST, &POLICY, DEAD_REUSED));
        assert!(!may_repeat(
            &Method::GET,
            &POLICY,
            Failure {
                reused: false,
                ..DEAD_REUSED
            }
        ));
        assert!(!may_repeat(
            &Method::GET,
            &POLICY,
            Failure {
                body_untouched: false,
                ..DEAD_REUSED
            }
        ));
        assert!(!may_repeat(
            &Method::GET,
            &POLICY,
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
            &POLICY,
            Failure {
                sent: Sent::Nothing,
                reused: false,
                ..DEAD_REUSED
            }
        ));
    }

    #[test]
    fn what_is_declared_repeatable_is_repeated() {
        let declared = RetryPolicy {
            non_idempotent: true,
            ..POLICY
        };
        assert!(may_repeat(&Method::POST, &declared, DEAD_REUSED));
        let begun = Failure {
            response_started: true,
            ..DEAD_REUSED
        };
        assert!(!may_repeat(&Method::POST, &declared, begun));
    }

    #[test]
    fn retry_after_is_waited_for_if_it_is_short() {
        let wait = |text: &'static str| {
            let fields = [(header::RETRY_AFTER, http::HeaderValue::from_static(text))];
            wait_ms(&HeaderMap::from_iter(fields))
        };
        assert_eq!(wait_ms(&HeaderMap::new()), Some(0));
        assert_eq!(
            (wait("0"), wait("1"), wait("2"), wait("3")),
            (Some(0), Some(1_000), Some(2_000), None)
        );
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }

    #[test]
    fn each_status_has_its_reason() {
        for status in [429, 502, 503, 504] {
            assert_eq!(RETRY_REASONS[status_index(status)], status.to_string());
        }
        assert_eq!(RETRY_REASONS[TIMEOUT], "timeout");
    }

    #[test]
    fn a_closed_idle_connection_is_nobodys_fault() {
        assert!(!DEAD_REUSED.is_fault_of_endpoint(UpstreamErrorKind::ClosedBeforeResponse));
        let fresh = Failure {
            reused: false,
            ..DEAD_REUSED
        };
        assert!(fresh.is_fault_of_endpoint(UpstreamErrorKind::ClosedBeforeResponse));
        assert!(!fresh.is_fault_of_endpoint(UpstreamErrorKind::RequestBody));
        assert!(DEAD_REUSED.is_fault_of_endpoint(UpstreamErrorKind::HeadTooLarge));
    }
}

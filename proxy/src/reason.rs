//! The reason codes of responses that the proxy makes itself: one code, the same in log, metric, `Proxy-Status` and
//! documentation.

use http::StatusCode;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:ident, $error:literal;)+) => {
        /// Why the proxy answered by itself, or why an exchange ended early.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of [`Reason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The codes, in the same order.
            pub const CODES: &'static [&'static str] = &[$($code,)+];

            /// The code, stable for ever.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The status of the response that we build.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The registered error type of RFC 9209 section 2.3.
            pub const fn proxy_error(self) -> &'static str {
                match self { $(Self::$variant => $error,)+ }
            }

            /// What it means, for the generated reference.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// Position in [`Reason::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// The Service of the rule does not exist.
    BackendNotFound = "backend_not_found", SERVICE_UNAVAILABLE, "destination_not_found";
    /// The Service of the rule has no such port.
    BackendPortNotFound = "backend_port_not_found", SERVICE_UNAVAILABLE, "destination_not_found";
    /// The client went away before the response was complete.
    ClientClosed = "client_closed", BAD_REQUEST, "http_request_error";
    /// The client stopped reading its response for longer than `--write-stall-timeout`.
    ClientStalled = "client_stalled", REQUEST_TIMEOUT, "http_request_error";
    /// No endpoint accepted a connection: refused.
    ConnectionRefused = "connection_refused", BAD_GATEWAY, "connection_refused";
    /// The endpoint closed the connection before its response was complete.
    ConnectionTerminated = "connection_terminated", BAD_GATEWAY, "connection_terminated";
    /// No endpoint accepted a connection within `connect-timeout`.
    ConnectionTimeout = "connection_timeout", GATEWAY_TIMEOUT, "connection_timeout";
    /// No endpoint could be reached: no route to it, or the address is not usable.
    DestinationUnroutable = "destination_ip_unroutable", BAD_GATEWAY, "destination_ip_unroutable";
    /// CONNECT is not offered.
    ConnectNotImplemented = "connect_not_implemented", NOT_IMPLEMENTED, "http_request_denied";
    /// The drain deadline passed before the exchange was over.
    DrainTimeout = "drain_timeout", SERVICE_UNAVAILABLE, "connection_terminated";
    /// Every endpoint has as much to do as it may, and as many requests wait as may (`max-pending-requests`).
    EndpointQueueFull = "endpoint_queue_full", SERVICE_UNAVAILABLE, "connection_limit_reached";
    /// No endpoint had room within `pending-timeout`.
    EndpointQueueTimeout = "endpoint_queue_timeout", SERVICE_UNAVAILABLE, "connection_limit_reached";
    /// The request head did not arrive within `--header-timeout`.
    HeaderTimeout = "header_timeout", REQUEST_TIMEOUT, "http_request_error";
    /// The request head has too many fields, or is too long (`--max-headers`, `--max-header-bytes`).
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error";
    /// The endpoint's response breaks HTTP: its framing is in doubt.
    HttpProtocolError = "http_protocol_error", BAD_GATEWAY, "http_protocol_error";
    /// The proxy failed in itself; this is a bug.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "proxy_internal_error";
    /// Plain HTTP is answered with 308 to HTTPS.
    RedirectHttps = "redirect_https", PERMANENT_REDIRECT, "http_request_denied";
    /// OPTIONS with `Max-Forwards: 0` is answered here (RFC 9110 7.6.2).
    MaxForwards = "max_forwards", OK, "http_request_denied";
    /// The request's host selects another certificate than the connection's SNI did (RFC 9110 7.4).
    Misdirected = "misdirected", MISDIRECTED_REQUEST, "http_request_denied";
    /// The Service has no endpoint that can serve.
    NoReadyEndpoints = "no_ready_endpoints", SERVICE_UNAVAILABLE, "destination_unavailable";
    /// The process has as many client connections as it may (`--max-connections`), and had for a second.
    OverloadConnections = "overload.connections", SERVICE_UNAVAILABLE, "http_request_denied";
    /// No file descriptor is left, for a client or for an endpoint.
    OverloadDescriptors = "overload.descriptors", SERVICE_UNAVAILABLE, "connection_limit_reached";
    /// Memory is close to the limit of the cgroup.
    OverloadMemory = "overload.memory", SERVICE_UNAVAILABLE, "http_request_denied";
    /// Different ways of reading the path select different rules.
    PathAmbiguous = "path_ambiguous", BAD_REQUEST, "http_request_error";
    /// The path is not acceptable (backslash, NUL, bad percent-encoding, a hidden dot segment).
    PathInvalid = "path_invalid", BAD_REQUEST, "http_request_error";
    /// The host is missing, repeated or malformed.
    HostInvalid = "host_invalid", BAD_REQUEST, "http_request_error";
    /// The request breaks HTTP in its head.
    RequestInvalid = "request_invalid", BAD_REQUEST, "http_request_error";
    /// The request body stopped arriving, or is malformed.
    RequestBodyInvalid = "request_body_invalid", BAD_REQUEST, "http_request_error";
    /// The request body did not go on within `--request-body-idle-timeout`.
    RequestBodyTimeout = "request_body_timeout", REQUEST_TIMEOUT, "http_request_error";
    /// The whole exchange took longer than `request-timeout`.
    RequestTimeout = "request_timeout", GATEWAY_TIMEOUT, "http_response_timeout";
    /// The Ingress restricts access in a way that is not supported yet, and is not served open.
    RestrictionUnsupported = "restriction_unsupported", SERVICE_UNAVAILABLE, "proxy_configuration_error";
    /// The response body stopped for longer than `response-idle-timeout`.
    ResponseIdle = "response_idle_timeout", GATEWAY_TIMEOUT, "http_response_timeout";
    /// The response ended before it was complete; the client sees a truncated message.
    ResponseIncomplete = "response_incomplete", BAD_GATEWAY, "http_response_incomplete";
    /// The endpoint gave no response within `response-timeout`.
    ResponseTimeout = "http_response_timeout", GATEWAY_TIMEOUT, "http_response_timeout";
    /// No rule for the host.
    RouteNotFoundHost = "route_not_found.host", NOT_FOUND, "destination_not_found";
    /// The host has rules, but none for the path.
    RouteNotFoundPath = "route_not_found.path", NOT_FOUND, "destination_not_found";
    /// The endpoint's certificate is not acceptable.
    TlsCertificateError = "tls_certificate_error", BAD_GATEWAY, "tls_certificate_error";
    /// TLS with the endpoint failed.
    TlsProtocolError = "tls_protocol_error", BAD_GATEWAY, "tls_protocol_error";
    /// TRACE is not offered.
    TraceNotAllowed = "trace_not_allowed", METHOD_NOT_ALLOWED, "http_request_denied";
    /// The endpoint did not accept the protocol that an upgrade or extended CONNECT asked for.
    UpgradeRefused = "upgrade_refused", BAD_GATEWAY, "http_upgrade_failed";
    /// The request target is longer than `--max-uri-bytes`.
    UriTooLong = "uri_too_long", URI_TOO_LONG, "http_request_error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let mut codes = Reason::CODES.to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(
            Reason::ALL
                .iter()
                .enumerate()
                .all(|(index, reason)| reason.index() == index && Reason::CODES[index] == reason.code())
        );
    }
}

//! How a connection or session of layer 4 ended: one code, the same in metric, log and documentation.

macro_rules! ends {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $status:literal;)+) => {
        /// How a connection or session ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum End {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl End {
            /// Every end, in the order of [`End::index`].
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code, stable for ever.
            pub(crate) const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The `$status` that nginx's stream module would log.
            pub(crate) const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Position in [`End::ALL`].
            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

ends! {
    /// Both sides said that they had nothing more to send.
    Complete = "complete", 200;
    /// The client broke the connection off.
    ClientReset = "client_reset", 200;
    /// The endpoint broke the connection off.
    EndpointReset = "endpoint_reset", 200;
    /// Nobody spoke for the idle timeout.
    IdleTimeout = "idle_timeout", 200;
    /// The client's address is not in `loadBalancerSourceRanges`.
    SourceRangeDenied = "source_range_denied", 403;
    /// The client has as many connections or sessions as it may have, or the process has.
    TooManyConnections = "too_many_connections", 503;
    /// The process has no file descriptor left.
    OverloadDescriptors = "overload_descriptors", 503;
    /// The process is short of memory.
    OverloadMemory = "overload_memory", 503;
    /// The client sent no PROXY header, a malformed one, or none in time.
    ProxyHeaderInvalid = "proxy_header_invalid", 400;
    /// The TLS handshake with the client failed, or was not complete in time.
    TlsFailed = "tls_failed", 400;
    /// The Service has no endpoint that can serve.
    NoReadyEndpoints = "no_ready_endpoints", 502;
    /// Every endpoint has as many connections as it may have.
    EndpointsFull = "endpoints_full", 502;
    /// No endpoint accepted a connection.
    ConnectFailed = "connect_failed", 502;
    /// No endpoint accepted a connection within `connect-timeout`.
    ConnectTimeout = "connect_timeout", 502;
    /// The endpoint left the Service (UDP: the next datagram goes to another one).
    EndpointGone = "endpoint_gone", 200;
    /// A datagram found a full queue, or is too large for its path.
    QueueFull = "queue_full", 200;
    /// The drain deadline passed.
    DrainTimeout = "drain_timeout", 200;
    /// The proxy failed in itself; this is a bug.
    InternalError = "internal_error", 500;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let codes: std::collections::BTreeSet<&str> = End::ALL.iter().map(|end| end.code()).collect();
        assert_eq!(codes.len(), End::ALL.len());
        assert!(End::ALL.iter().enumerate().all(|(index, end)| end.index() == index));
    }
}

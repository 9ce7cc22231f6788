//! Label values: enums and interned object names, never text of a request.

use std::sync::Arc;

/// Which object a request was served by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteLabels {
    /// The namespace of the Ingress.
    pub namespace: Arc<str>,
    /// The name of the Ingress.
    pub ingress: Arc<str>,
    /// The name of the Service; empty where the rule has none.
    pub service: Arc<str>,
}

impl RouteLabels {
    /// Makes a label set of its parts.
    pub fn new(namespace: impl Into<Arc<str>>, ingress: impl Into<Arc<str>>, service: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            ingress: ingress.into(),
            service: service.into(),
        }
    }
}

/// The interned form of a [`RouteLabels`]: a slot, and which of the slot's owners in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl RouteId {
    /// Requests that no rule matched: `ingress="__unmatched__"`. Never retired.
    pub const UNMATCHED: Self = Self { slot: 0, generation: 0 };
    /// Routes beyond the registry's cap: `ingress="__other__"`. Never retired.
    pub const OTHER: Self = Self { slot: 1, generation: 0 };
}

/// A listener whose connections are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u8);

macro_rules! label_enum {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl $name {
            /// All values, in the order of their index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_enum! {
    /// The request method; methods beyond those of RFC 9110 and PATCH (RFC 5789) are one value.
    MethodLabel {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
        /// Any other, as OpenTelemetry names it.
        Other = "_OTHER",
    }
}

impl From<&http::Method> for MethodLabel {
    fn from(method: &http::Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

label_enum! {
    /// What a downstream connection is doing.
    ConnectionState {
        /// PROXY header, TLS handshake or protocol detection.
        Handshake = "handshake",
        /// At least one request is being served.
        Active = "active",
        /// Kept alive, no request.
        Idle = "idle",
        /// Upgraded (WebSocket and others).
        Tunnel = "tunnel",
    }
}

label_enum! {
    /// The protocol of a downstream connection.
    ProtocolLabel {
        /// Not known yet.
        Unknown = "unknown",
        /// HTTP/1.0 and HTTP/1.1.
        Http1 = "http/1.1",
        /// HTTP/2.
        Http2 = "h2",
    }
}

label_enum! {
    /// The version that a TLS handshake agreed on.
    TlsVersion {
        /// The handshake ended before.
        None = "none",
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

label_enum! {
    /// The cipher suite that a TLS handshake agreed on, by its IANA name.
    TlsCipher {
        /// The handshake ended before.
        None = "none",
        /// 0x1301.
        Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
        /// 0x1302.
        Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
        /// 0x1303.
        Chacha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
        /// 0xC02B.
        EcdheEcdsaAes128GcmSha256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// 0xC02C.
        EcdheEcdsaAes256GcmSha384 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// 0xC02F.
        EcdheRsaAes128GcmSha256 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// 0xC030.
        EcdheRsaAes256GcmSha384 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// 0xCCA8.
        EcdheRsaChacha20Poly1305 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        /// 0xCCA9.
        EcdheEcdsaChacha20Poly1305 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// Any other.
        Other = "other",
    }
}

impl TlsCipher {
    /// The label of a suite by its number in IANA's registry (`u16::from` of rustls' `CipherSuite`).
    pub const fn from_iana(suite: u16) -> Self {
        match suite {
            0x1301 => Self::Aes128GcmSha256,
            0x1302 => Self::Aes256GcmSha384,
            0x1303 => Self::Chacha20Poly1305Sha256,
            0xC02B => Self::EcdheEcdsaAes128GcmSha256,
            0xC02C => Self::EcdheEcdsaAes256GcmSha384,
            0xC02F => Self::EcdheRsaAes128GcmSha256,
            0xC030 => Self::EcdheRsaAes256GcmSha384,
            0xCCA8 => Self::EcdheRsaChacha20Poly1305,
            0xCCA9 => Self::EcdheEcdsaChacha20Poly1305,
            _ => Self::Other,
        }
    }
}

label_enum! {
    /// How the certificate of a handshake was found.
    SniMatch {
        /// The client sent no server name, or the handshake ended before.
        None = "none",
        /// By the exact name.
        Exact = "exact",
        /// By a wildcard.
        Wildcard = "wildcard",
        /// A name that no certificate is for: the default certificate.
        Default = "default",
    }
}

label_enum! {
    /// How a TLS handshake ended.
    TlsResult {
        /// Complete, with a full key exchange.
        Full = "full",
        /// Complete, resumed from a ticket.
        Resumed = "resumed",
        /// Refused by either side.
        Failed = "failed",
        /// Not complete in time.
        Timeout = "timeout",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_their_own_names_as_labels() {
        for label in MethodLabel::ALL {
            let method = http::Method::from_bytes(label.as_str().as_bytes()).expect("a token");
            assert_eq!(MethodLabel::from(&method), *label);
        }
        assert_eq!(
            MethodLabel::from(&http::Method::from_bytes(b"PURGE").expect("a token")),
            MethodLabel::Other
        );
        assert_eq!(
            MethodLabel::from(&http::Method::from_bytes(b"get").expect("a token")),
            MethodLabel::Other
        );
    }

    #[test]
    fn indices_follow_the_order_of_all() {
        assert!(
            TlsCipher::ALL
                .iter()
                .enumerate()
                .all(|(index, cipher)| cipher.index() == index)
        );
        assert_eq!(TlsCipher::from_iana(0x1302).as_str(), "TLS_AES_256_GCM_SHA384");
        assert_eq!(TlsCipher::from_iana(0), TlsCipher::Other);
    }
}

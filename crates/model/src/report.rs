//! What there is to say about an object of the user: printed in folder mode, an Event on a cluster.

use std::fmt;

use crate::object::ObjectRef;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object, or a part of it, is refused; `--once` exits 1.
    Error,
    /// Taken over, but not served as written, or not before what it names is there.
    Warning,
    /// Good to know.
    Notice,
}

impl Severity {
    /// The word that opens a printed report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

macro_rules! report_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $severity:ident,)+) => {
        /// Why there is a report: the reason of the Event on a cluster. Each has one severity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ReportReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ReportReason {
            /// All reasons with their documentation, for the generated reference.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, concat!($($doc),+)),)+];

            /// The reason as Kubernetes spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// The severity of every report with this reason.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

report_reasons! {
    /// An annotation's value does not parse; the last good value, else the default, stays in force.
    AnnotationInvalid = Error,
    /// A name under `propylon.dev/` that Propylon does not know; the report suggests the nearest.
    AnnotationUnknown = Warning,
    /// An annotation that has no effect: one of ingress-nginx or of a later version, or one that does not fit its object.
    AnnotationUnsupported = Warning,
    /// The Service has no port of that name or number; the path answers 503.
    BackendPortNotFound = Warning,
    /// `appProtocol` names a protocol that Propylon does not know; HTTP/1.1 is spoken.
    AppProtocolUnknown = Warning,
    /// `backend.resource` is not supported; the path is left out and the rest of the Ingress works.
    BackendResourceUnsupported = Error,
    /// The Service does not exist; the path answers 503.
    BackendServiceNotFound = Warning,
    /// A TLS backend whose certificate is not verified.
    BackendTLSUnverified = Notice,
    /// The Ingress belongs to a class that is not ours; it is not served.
    ClassNotOurs = Notice,
    /// The leaf certificate is past its end; it is served because the host has no other.
    CertificateExpired = Warning,
    /// The leaf certificate ends within 21 days.
    CertificateExpiring = Warning,
    /// The leaf certificate's validity has not begun; it is served because the host has no other.
    CertificateNotYetValid = Warning,
    /// The host has no usable certificate of its own; the default one is served.
    DefaultCertificateServed = Warning,
    /// The same object stands in two places; the first path in order wins.
    DuplicateObject = Error,
    /// An endpoint's address is of a range that requests must not be sent to (loopback, link-local); it is left out.
    EndpointDenied = Warning,
    /// A Service of type `ExternalName` is not supported yet; the path answers 503.
    ExternalNameUnsupported = Error,
    /// The object, or the file, does not parse; what it last gave stays in force.
    InvalidManifest = Error,
    /// The API server would refuse the object; what it last gave stays in force.
    InvalidObject = Error,
    /// The Service has no endpoint that can serve; its paths answer 503.
    NoReadyEndpoints = Warning,
    /// Another object has the same host, path and path type and is older; it wins.
    RouteConflict = Warning,
    /// The Ingress restricts access in a way that is not supported yet; it answers 503 rather than be served open.
    RestrictionUnsupported = Error,
    /// The host belongs to another namespace (the oldest Ingress that names it); this certificate is not used for it.
    TLSHostDenied = Warning,
    /// The certificate does not cover a host that it is given for.
    TLSHostMismatch = Warning,
    /// The Secret holds no usable certificate and key; the last good one, else the default, is served.
    TLSSecretInvalid = Error,
    /// The Secret does not exist; the default certificate is served, which is self-signed where no flag names one.
    TLSSecretNotFound = Notice,
}

/// One thing to say about one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The object.
    pub object: ObjectRef,
    /// Why.
    pub reason: ReportReason,
    /// What, where (the field), and what to do next; one line.
    pub message: String,
}

impl Report {
    /// Makes a report.
    pub fn new(object: ObjectRef, reason: ReportReason, message: impl Into<String>) -> Self {
        Self {
            object,
            reason,
            message: message.into(),
        }
    }

    /// The severity, which the reason decides.
    pub const fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

/// `warning default/web Ingress: BackendServiceNotFound: ...`, as folder mode prints it.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}: {}: {}",
            self.severity().as_str(),
            self.object,
            self.reason.as_str(),
            self.message
        )
    }
}

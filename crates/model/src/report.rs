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
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:ident $severity:ident,)+) => {
        /// Why there is a report: the reason of the Event on a cluster. Each has one severity, and one code for good.
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

            /// The code, `PRP` and four digits: fixed for all time, and the name of the page in
            /// `docs/reference/problems` that explains it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => stringify!($code),)+ }
            }

            /// The severity of every report with this reason.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }

        /// Two reasons with one code do not compile.
        #[expect(dead_code, reason = "it is there for its names to differ")]
        enum EachCodeOnce {
            $($code,)+
        }
    };
}

// One entry for each reason: `Reason = CODE Severity`. How to add one:
//
// 1. Give it the code after the highest one of its kind, here and in `RETIRED`, wherever in the list it stands: below PRP0100
//    where the compile reports it, from PRP0101 on where only `propylon lint` does, from PRP0200 on where only a running
//    proxy can know. A code is for all time: never renumber, never use one again (a reason that goes leaves its code in
//    `RETIRED`).
// 2. Add the pair to `codes_are_for_all_time` below.
// 3. Write docs/reference/problems/CODE.md (copy a page; `cargo xtask docs` fills in the head). Its example must bring the
//    report about (not from PRP0200 on) and its mended form must not: a test lints both.
report_reasons! {
    /// An annotation's value does not parse; the last good value, else the default, stays in force.
    AnnotationInvalid = PRP0001 Error,
    /// A name under `propylon.dev/` that Propylon does not know; the report suggests the nearest.
    AnnotationUnknown = PRP0002 Warning,
    /// An annotation that has no effect: one of ingress-nginx or of a later version, or one that does not fit its object.
    AnnotationUnsupported = PRP0003 Warning,
    /// The Service has no port of that name or number; the path answers 503.
    BackendPortNotFound = PRP0004 Warning,
    /// `appProtocol` names a protocol that Propylon does not know; HTTP/1.1 is spoken.
    AppProtocolUnknown = PRP0005 Warning,
    /// `backend.resource` is not supported; the path is left out and the rest of the Ingress works.
    BackendResourceUnsupported = PRP0006 Error,
    /// The Service does not exist; the path answers 503.
    BackendServiceNotFound = PRP0007 Warning,
    /// A TLS backend whose certificate is not verified.
    BackendTLSUnverified = PRP0008 Notice,
    /// The Ingress belongs to a class that is not ours; it is not served.
    ClassNotOurs = PRP0009 Notice,
    /// The leaf certificate is past its end; it is served because the host has no other.
    CertificateExpired = PRP0010 Warning,
    /// The leaf certificate ends within 21 days.
    CertificateExpiring = PRP0011 Warning,
    /// The leaf certificate's validity has not begun; it is served because the host has no other.
    CertificateNotYetValid = PRP0012 Warning,
    /// The host has no usable certificate of its own; the default one is served.
    DefaultCertificateServed = PRP0013 Warning,
    /// An entry of a config map of services does not have the form that it must have; its port is not served.
    ConfigMapEntryInvalid = PRP0027 Error,
    /// The config map of services that a flag names does not exist; no port of it is served.
    ConfigMapNotFound = PRP0028 Warning,
    /// An annotation names an object of another namespace, where no `ReferenceGrant` allows it; it is not used.
    CrossNamespaceRefDenied = PRP0035 Error,
    /// The same object stands in two places; the first path in order wins.
    DuplicateObject = PRP0014 Error,
    /// An endpoint's address is one that requests must not be sent to (loopback, link-local, or a node's own without the pod
    /// that has it); it is left out.
    EndpointDenied = PRP0015 Warning,
    /// The name of a Service of type `ExternalName` is one of the cluster or of the proxy's own host; the path answers 503.
    ExternalNameDenied = PRP0026 Error,
    /// Every endpoint of the Service fails its active health checks; they are used as if they did not.
    EndpointsUnhealthy = PRP0201 Warning,
    /// The name of a Service of type `ExternalName` does not resolve; the last good addresses stay in use, without any
    /// the path answers 503.
    ExternalNameUnresolved = PRP0200 Warning,
    /// A Service of type `ExternalName`, while `--external-name` is off; the path answers 503.
    ExternalNameUnsupported = PRP0016 Error,
    /// The object, or the file, does not parse; what it last gave stays in force.
    InvalidManifest = PRP0017 Error,
    /// The API server would refuse the object; what it last gave stays in force.
    InvalidObject = PRP0018 Error,
    /// The address and port cannot be listened on; it is tried again.
    ListenerFailed = PRP0202 Error,
    /// The Service has no endpoint that can serve; its paths answer 503.
    NoReadyEndpoints = PRP0019 Warning,
    /// TLS of a host is handed on unopened for another Ingress, to which it belongs; this one does not get it.
    PassthroughConflict = PRP0029 Warning,
    /// TLS cannot be handed on as `tls-passthrough` asks, because a host or the path `/` is missing.
    PassthroughInvalid = PRP0030 Error,
    /// An older Service, or the proxy itself, listens on the address and port; this port is not served there.
    PortConflict = PRP0031 Warning,
    /// A port that is to terminate TLS has no certificate; it is closed rather than served in clear text.
    PortNotServed = PRP0032 Error,
    /// A port of a protocol that the proxy does not forward (SCTP); it is not served.
    ProtocolUnsupported = PRP0033 Warning,
    /// Another object has the same host, path and path type and is older; it wins.
    RouteConflict = PRP0020 Warning,
    /// The Ingress restricts access in a way that is not supported yet; it answers 503 rather than be served open.
    RestrictionUnsupported = PRP0021 Error,
    /// An entry of `loadBalancerSourceRanges` is no range of addresses; it lets nobody in.
    SourceRangeInvalid = PRP0034 Error,
    /// The host belongs to another namespace (the oldest Ingress that names it); this certificate is not used for it.
    TLSHostDenied = PRP0022 Warning,
    /// The certificate does not cover a host that it is given for.
    TLSHostMismatch = PRP0023 Warning,
    /// The Secret holds no usable certificate and key; the last good one, else the default, is served.
    TLSSecretInvalid = PRP0024 Error,
    /// The Secret does not exist; the default certificate is served, which is self-signed where no flag names one.
    TLSSecretNotFound = PRP0025 Notice,
    /// `propylon lint`: no request reaches the default backend, or the whole Ingress, because other rules take all of them.
    RouteShadowed = PRP0101 Warning,
    /// `propylon lint`: an exact host takes its requests from a wildcard's rules, or those without a host, and serves a part only.
    HostHidesWildcard = PRP0102 Notice,
    /// `propylon lint`: Ingresses of two namespaces name the host; the oldest decides its certificates.
    HostSharedAcrossNamespaces = PRP0103 Notice,
    /// `propylon lint`: the Ingress has `spec.tls`, but not for this host, and no other certificate covers it.
    HostWithoutTLS = PRP0104 Notice,
    /// `propylon lint`: a host of `spec.tls` that no rule names; its requests are answered 404.
    TLSHostWithoutRule = PRP0105 Warning,
    /// `propylon lint`: a path that looks like a regular expression or a wildcard; it is compared as it stands.
    PathLooksLikeRegex = PRP0106 Warning,
    /// `propylon lint`: the class stands in the annotation that `spec.ingressClassName` replaced.
    ClassAnnotationDeprecated = PRP0107 Notice,
    /// `propylon lint`: more than one `IngressClass` is the default; the newest counts.
    DefaultClassAmbiguous = PRP0108 Warning,
    /// `propylon lint`: a Secret with a certificate that nothing names.
    SecretUnused = PRP0109 Notice,
    /// `propylon lint`: the `EndpointSlice` names no Service that exists; its addresses serve nothing.
    EndpointSliceWithoutService = PRP0110 Warning,
    /// `propylon lint`: annotations of another ingress controller, which Propylon does not read.
    AnnotationForeign = PRP0111 Notice,
    /// `propylon lint`: an object that routes traffic for another controller or API, which Propylon does not read.
    KindUnsupported = PRP0112 Warning,
}

/// What a field of a report begins with: the parts of the objects that are read.
const FIELDS: &[&str] = &[
    "addressType",
    "data",
    "endpoints",
    "metadata",
    "ports",
    "spec",
    "stringData",
    "type",
];

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

    /// The field that the message opens with, such as `spec.rules[0].host`; none where it speaks of the whole object.
    pub fn field(&self) -> Option<&str> {
        let mut in_brackets = false;
        let end = self.message.find(|character| {
            match character {
                '[' => in_brackets = true,
                ']' => in_brackets = false,
                _ => {}
            }
            !in_brackets && matches!(character, ':' | ',' | ' ')
        })?;
        let (field, rest) = self.message.split_at_checked(end)?;
        let first = field.split(['.', '[']).next()?;
        (FIELDS.contains(&first) && rest.starts_with([':', ','])).then_some(field)
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

/// Codes of reasons that are no more: not to be used again.
#[cfg(test)]
const RETIRED: &[&str] = &[];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::object::Kind;

    #[test]
    fn the_field_opens_the_message() {
        for (message, field) in [
            ("spec.rules[0].host: is empty", Some("spec.rules[0].host")),
            ("data[tls.crt], data[tls.key]: cannot be used", Some("data[tls.crt]")),
            (
                "metadata.annotations[a.b/c: d e]: no",
                Some("metadata.annotations[a.b/c: d e]"),
            ),
            ("spec: Required value", Some("spec")),
            ("port 80: no EndpointSlice", None),
            ("it stands in a and in b", None),
            ("--default-tls-secret: does not exist", None),
            ("spec.rules[0", None),
            ("specification: nothing", None),
            ("spec is wrong", None),
            ("", None),
        ] {
            let object = ObjectRef::new(Kind::Ingress, "default", "web");
            let report = Report::new(object, ReportReason::InvalidObject, message);
            assert_eq!(report.field(), field, "{message}");
        }
    }

    /// Scripts and suppressions name codes: what stands here stays as it is. New pairs go to the end.
    #[test]
    fn codes_are_for_all_time() {
        let given = [
            ("PRP0001", "AnnotationInvalid"),
            ("PRP0002", "AnnotationUnknown"),
            ("PRP0003", "AnnotationUnsupported"),
            ("PRP0004", "BackendPortNotFound"),
            ("PRP0005", "AppProtocolUnknown"),
            ("PRP0006", "BackendResourceUnsupported"),
            ("PRP0007", "BackendServiceNotFound"),
            ("PRP0008", "BackendTLSUnverified"),
            ("PRP0009", "ClassNotOurs"),
            ("PRP0010", "CertificateExpired"),
            ("PRP0011", "CertificateExpiring"),
            ("PRP0012", "CertificateNotYetValid"),
            ("PRP0013", "DefaultCertificateServed"),
            ("PRP0014", "DuplicateObject"),
            ("PRP0015", "EndpointDenied"),
            ("PRP0016", "ExternalNameUnsupported"),
            ("PRP0017", "InvalidManifest"),
            ("PRP0018", "InvalidObject"),
            ("PRP0019", "NoReadyEndpoints"),
            ("PRP0020", "RouteConflict"),
            ("PRP0021", "RestrictionUnsupported"),
            ("PRP0022", "TLSHostDenied"),
            ("PRP0023", "TLSHostMismatch"),
            ("PRP0024", "TLSSecretInvalid"),
            ("PRP0025", "TLSSecretNotFound"),
            ("PRP0026", "ExternalNameDenied"),
            ("PRP0027", "ConfigMapEntryInvalid"),
            ("PRP0028", "ConfigMapNotFound"),
            ("PRP0029", "PassthroughConflict"),
            ("PRP0030", "PassthroughInvalid"),
            ("PRP0031", "PortConflict"),
            ("PRP0032", "PortNotServed"),
            ("PRP0033", "ProtocolUnsupported"),
            ("PRP0034", "SourceRangeInvalid"),
            ("PRP0035", "CrossNamespaceRefDenied"),
            ("PRP0101", "RouteShadowed"),
            ("PRP0102", "HostHidesWildcard"),
            ("PRP0103", "HostSharedAcrossNamespaces"),
            ("PRP0104", "HostWithoutTLS"),
            ("PRP0105", "TLSHostWithoutRule"),
            ("PRP0106", "PathLooksLikeRegex"),
            ("PRP0107", "ClassAnnotationDeprecated"),
            ("PRP0108", "DefaultClassAmbiguous"),
            ("PRP0109", "SecretUnused"),
            ("PRP0110", "EndpointSliceWithoutService"),
            ("PRP0111", "AnnotationForeign"),
            ("PRP0112", "KindUnsupported"),
            ("PRP0200", "ExternalNameUnresolved"),
            ("PRP0201", "EndpointsUnhealthy"),
            ("PRP0202", "ListenerFailed"),
        ];
        let now: BTreeSet<_> = ReportReason::ALL
            .iter()
            .map(|(reason, _)| (reason.code(), reason.as_str()))
            .collect();
        assert_eq!(now, BTreeSet::from(given));
    }

    #[test]
    fn codes_are_unique_and_of_one_form() {
        let codes: BTreeSet<_> = ReportReason::ALL.iter().map(|(reason, _)| reason.code()).collect();
        assert_eq!(codes.len(), ReportReason::ALL.len());
        for code in codes {
            let digits = code.strip_prefix("PRP").unwrap();
            assert!(digits.len() == 4 && digits.parse::<u16>().unwrap() > 0, "{code}");
            assert!(!RETIRED.contains(&code), "{code} was used before");
        }
    }
}

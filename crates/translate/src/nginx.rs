//! Annotations of ingress-nginx: none is obeyed yet, and those that restrict access close the Ingress.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::Ingress;
use propylon_model::{ObjectRef, ReportReason};

use crate::reports::Reports;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What to write instead, by the name behind [`PREFIX`].
const INSTEAD: &[(&str, &str)] = &[
    ("affinity", "write propylon.dev/affinity"),
    (
        "backend-protocol",
        "set appProtocol on the Service port: https, grpc or kubernetes.io/h2c",
    ),
    ("force-ssl-redirect", "write propylon.dev/redirect-https: \"true\""),
    ("grpc-backend", "set appProtocol: grpc on the Service port"),
    ("load-balance", "write propylon.dev/load-balancing"),
    ("proxy-connect-timeout", "write propylon.dev/connect-timeout"),
    ("proxy-next-upstream", "write propylon.dev/retry-on"),
    ("proxy-next-upstream-timeout", "write propylon.dev/retry-timeout"),
    ("proxy-next-upstream-tries", "write propylon.dev/retries"),
    (
        "proxy-read-timeout",
        "write propylon.dev/response-timeout and propylon.dev/response-idle-timeout",
    ),
    ("proxy-ssl-name", "write propylon.dev/backend-server-name"),
    ("proxy-ssl-secret", "write propylon.dev/backend-ca-secret"),
    ("secure-backends", "set appProtocol: https on the Service port"),
    ("session-cookie-domain", "write propylon.dev/affinity-cookie-domain"),
    ("session-cookie-max-age", "write propylon.dev/affinity-cookie-max-age"),
    ("session-cookie-name", "write propylon.dev/affinity-cookie-name"),
    ("session-cookie-path", "write propylon.dev/affinity-cookie-path"),
    (
        "session-cookie-samesite",
        "write propylon.dev/affinity-cookie-same-site",
    ),
    ("ssl-passthrough", "write propylon.dev/tls-passthrough"),
    ("ssl-redirect", "write propylon.dev/redirect-https"),
    (
        "upstream-hash-by",
        "write propylon.dev/load-balancing: maglev and propylon.dev/hash-on",
    ),
];

/// What the annotations of ingress-nginx do to an Ingress.
pub(crate) enum Verdict {
    /// It is a canary of another one and yields no rules.
    Canary,
    /// It is served.
    Open,
    /// It restricts access in a way that is not supported: every request is refused; the annotation's name.
    Restricted(Arc<str>),
}

/// Reads and reports the annotations of ingress-nginx.
pub(crate) fn verdict(object: &ObjectRef, ingress: &Ingress, reports: &mut Reports) -> Verdict {
    let annotations = ingress.metadata.annotations.as_ref();
    let canary = format!("{PREFIX}canary");
    if annotations
        .and_then(|all| all.get(&canary))
        .is_some_and(|value| is_true(value))
    {
        let message = format!(
            "metadata.annotations[{canary}]: canary Ingresses are not supported yet, so this one yields no rules; all requests \
             go to the main Ingress"
        );
        reports.add(object, ReportReason::AnnotationUnsupported, message);
        return Verdict::Canary;
    }
    let mut verdict = Verdict::Open;
    for (key, value) in annotations.into_iter().flatten() {
        let Some(name) = key
            .strip_prefix(PREFIX)
            .filter(|name| *name != "canary" || !is_false(value))
        else {
            continue;
        };
        if restricts(name, value) {
            let message = format!(
                "metadata.annotations[{key}]: restricts access and is not supported yet, so every request of this Ingress is \
                 answered with 503 rather than served open; remove the annotation if the Ingress may be open"
            );
            reports.add(object, ReportReason::RestrictionUnsupported, message);
            if matches!(verdict, Verdict::Open) {
                verdict = Verdict::Restricted(key.as_str().into());
            }
        } else if !is_allow_list(name) {
            let instead = INSTEAD
                .iter()
                .find(|(known, _)| *known == name)
                .map_or("remove it", |(_, instead)| instead);
            let message = format!("metadata.annotations[{key}]: is not supported yet and has no effect; {instead}");
            reports.add(object, ReportReason::AnnotationUnsupported, message);
        }
    }
    verdict
}

/// What ingress-nginx reads as true (Go's `strconv.ParseBool`).
fn is_true(value: &str) -> bool {
    matches!(value.trim(), "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// What ingress-nginx reads as false.
fn is_false(value: &str) -> bool {
    matches!(value.trim(), "0" | "f" | "F" | "FALSE" | "false" | "False")
}

fn is_allow_list(name: &str) -> bool {
    matches!(name, "allowlist-source-range" | "whitelist-source-range")
}

fn restricts(name: &str, value: &str) -> bool {
    let is_restriction = name.starts_with("auth-")
        || name.ends_with("-snippet")
        || matches!(name, "denylist-source-range" | "satisfy")
        || is_allow_list(name);
    is_restriction && !(is_allow_list(name) && covers_every_address(value))
}

/// Whether a list of ranges covers all of IPv4 and all of IPv6, in however many parts. Only one of the two families is
/// not enough: ingress-nginx denies the other one then.
fn covers_every_address(list: &str) -> bool {
    let mut ranges = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match item
            .parse::<IpNet>()
            .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
        {
            Ok(range) => ranges.push(range.trunc()),
            Err(_) => return false,
        }
    }
    let whole = IpNet::aggregate(&ranges);
    [4, 6].iter().all(|family| {
        whole
            .iter()
            .any(|range| range.prefix_len() == 0 && matches!((family, range), (4, IpNet::V4(_)) | (6, IpNet::V6(_))))
    })
}

#[cfg(test)]
mod tests {
    use propylon_model::Kind;

    use super::*;

    #[test]
    fn lists_of_every_address_restrict_nothing() {
        for list in [
            "0.0.0.0/0,::/0",
            " ::/0 , 0.0.0.0/0 ",
            "0.0.0.0/1,128.0.0.0/1,::/0,10.0.0.0/8",
        ] {
            assert!(!restricts("whitelist-source-range", list), "{list}");
            assert!(restricts("denylist-source-range", list), "{list}");
        }
    }

    #[test]
    fn other_lists_restrict() {
        for list in [
            "",
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/8",
            "0.0.0.0/0,::/1",
            "0.0.0.0/0,::/0,nonsense",
        ] {
            assert!(restricts("allowlist-source-range", list), "{list}");
        }
    }

    #[test]
    fn restrictions_are_known_by_name() {
        for name in [
            "auth-url",
            "auth-tls-secret",
            "auth-snippet",
            "satisfy",
            "configuration-snippet",
            "server-snippet",
        ] {
            assert!(restricts(name, ""), "{name}");
        }
        for name in ["rewrite-target", "ssl-redirect", "limit-rps"] {
            assert!(!restricts(name, ""), "{name}");
        }
    }

    #[test]
    fn canaries_are_known_by_every_spelling_of_true() {
        let verdict_of = |value: &str| {
            let mut ingress = Ingress::default();
            ingress.metadata.annotations = Some([(format!("{PREFIX}canary"), value.to_owned())].into());
            let mut reports = Reports::default();
            let object = ObjectRef::new(Kind::Ingress, "default", "web");
            let is_canary = matches!(verdict(&object, &ingress, &mut reports), Verdict::Canary);
            (is_canary, reports.into_sorted().len())
        };
        for value in ["true", "True", "TRUE", "t", "1"] {
            assert_eq!(verdict_of(value), (true, 1), "{value}");
        }
        assert_eq!(verdict_of("false"), (false, 0));
        assert_eq!(verdict_of("yes"), (false, 1), "reported, since nothing comes of it");
    }
}

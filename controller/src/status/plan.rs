//! What is written into the status of an Ingress, and when.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use k8s_openapi::api::networking::v1::Ingress;
use propylon_model::{Report, ReportReason, Severity};
use serde_json::{Value, json};

use crate::config::StatusMode;

/// Where clients reach an Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An address.
    Ip(IpAddr),
    /// A host name.
    Host(String),
}

impl Address {
    /// Reads an address, else takes the text as a host name.
    pub fn read(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Host(text.to_owned()), Self::Ip)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Host(name) => name.fmt(formatter),
        }
    }
}

/// What is wrong with a port of an Ingress.
pub type PortErrors = BTreeMap<u16, String>;

/// What the status of an Ingress says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The addresses, in order.
    pub addresses: Vec<Address>,
    /// What is wrong with the ports; the same at every address.
    pub errors: PortErrors,
    /// Whether it says anything that we would not.
    pub is_foreign: bool,
}

impl Present {
    /// Reads the status.
    pub fn read(ingress: &Ingress) -> Self {
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        let mut present = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let address = entry.ip.as_deref().or(entry.hostname.as_deref());
            present.is_foreign |= address.is_none() || (entry.ip.is_some() && entry.hostname.is_some());
            present.addresses.extend(address.map(Address::read));
            let errors: PortErrors = entry
                .ports
                .iter()
                .flatten()
                .filter_map(|port| Some((u16::try_from(port.port).ok()?, port.error.clone()?)))
                .collect();
            present.is_foreign |= index > 0 && errors != present.errors;
            present.errors = errors;
        }
        present
    }
}

/// What is decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the status says.
    pub present: Present,
    /// Whether the Ingress is ours by its class.
    pub is_ours: bool,
    /// Whether a ready proxy has it as it is.
    pub is_live: bool,
    /// What is wrong with its ports.
    pub errors: PortErrors,
}

/// What to do about the status of an Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as it should be, or it is not known yet what it should be.
    Leave,
    /// Write it.
    Write(Vec<Address>),
    /// It is ours no longer: what we wrote goes, what others wrote stays.
    Withdraw,
}

/// Decides about one Ingress; `published` is where clients reach the proxies, in order, empty while that is not known.
///
/// Nothing is cleared because nothing is known (after a restart, in an upgrade): only where the Ingress is no longer ours.
pub fn decide(facts: &Facts, published: &[Address], mode: StatusMode) -> Decision {
    if mode == StatusMode::Never {
        return Decision::Leave;
    }
    if !facts.is_ours {
        // Whether it was we who wrote it is asked of the API server, and only where it looks like it.
        let is_like_ours = !published.is_empty() && !facts.present.addresses.is_empty() && !facts.present.is_foreign;
        let is_like_ours = is_like_ours && facts.present.addresses == published;
        return if is_like_ours {
            Decision::Withdraw
        } else {
            Decision::Leave
        };
    }
    let is_written =
        !facts.present.is_foreign && facts.present.addresses == published && facts.present.errors == facts.errors;
    if published.is_empty() || !facts.is_live || is_written {
        return Decision::Leave;
    }
    Decision::Write(published.to_vec())
}

/// The object that is applied.
pub fn manifest(namespace: &str, name: &str, addresses: &[Address], errors: &PortErrors) -> Value {
    let ports: Vec<Value> = errors
        .iter()
        .map(|(port, error)| json!({"port": port, "protocol": "TCP", "error": error}))
        .collect();
    let entries = addresses.iter().map(|address| {
        let mut entry = serde_json::Map::new();
        let (field, text) = match address {
            Address::Ip(address) => ("ip", address.to_string()),
            Address::Host(name) => ("hostname", name.clone()),
        };
        entry.insert(field.to_owned(), json!(text));
        if !ports.is_empty() {
            entry.insert("ports".to_owned(), json!(ports));
        }
        Value::Object(entry)
    });
    let entries: Vec<Value> = entries.collect();
    let metadata = json!({"namespace": namespace, "name": name});
    let (version, kind) = ("networking.k8s.io/v1", "Ingress");
    if entries.is_empty() {
        return json!({"apiVersion": version, "kind": kind, "metadata": metadata});
    }
    let status = json!({"loadBalancer": {"ingress": entries}});
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "status": status})
}

/// What the reports of an Ingress say of its ports: the worst of each, as `propylon.dev/REASON`. What concerns certificates
/// is said of port 443, everything else of port 80, and of 443 where the Ingress has TLS.
pub fn errors(reports: &[Report], has_tls: bool) -> PortErrors {
    let mut worst: BTreeMap<u16, (Severity, ReportReason)> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.severity() <= Severity::Warning) {
        let reason = report.reason;
        let found = (reason.severity(), reason);
        let ports: &[u16] = match (is_of_tls(reason), has_tls) {
            (true, _) => &[443],
            (false, true) => &[80, 443],
            (false, false) => &[80],
        };
        for port in ports {
            let entry = worst.entry(*port).or_insert(found);
            *entry = (*entry).min(found);
        }
    }
    let errors = worst.into_iter();
    errors
        .map(|(port, (_, reason))| (port, format!("propylon.dev/{}", reason.as_str())))
        .collect()
}

const fn is_of_tls(reason: ReportReason) -> bool {
    matches!(
        reason,
        ReportReason::CertificateExpired
            | ReportReason::CertificateExpiring
            | ReportReason::CertificateNotYetValid
            | ReportReason::DefaultCertificateServed
            | ReportReason::PassthroughConflict
            | ReportReason::PassthroughInvalid
            | ReportReason::TLSHostDenied
            | ReportReason::TLSHostMismatch
            | ReportReason::TLSSecretInvalid
            | ReportReason::TLSSecretNotFound
    )
}

#[cfg(test)]
mod tests {
    use propylon_model::{Kind, ObjectRef};

    use super::*;

    fn published() -> Vec<Address> {
        ["192.0.2.1", "2001:db8::1"].map(Address::read).to_vec()
    }

    fn present(addresses: &[&str]) -> Present {
        Present {
            addresses: addresses.iter().map(|text| Address::read(text)).collect(),
            ..Present::default()
        }
    }

    fn facts(addresses: &[&str]) -> Facts {
        Facts {
            present: present(addresses),
            is_ours: true,
            is_live: true,
            errors: PortErrors::new(),
        }
    }

    fn writes(facts: &Facts) -> bool {
        decide(facts, &published(), StatusMode::Always) != Decision::Leave
    }

    #[test]
    fn it_is_written_where_it_differs_and_only_there() {
        assert!(writes(&facts(&[])));
        assert!(writes(&facts(&["198.51.100.9"])), "a stale value of another controller");
        assert!(writes(&facts(&["2001:db8::1", "192.0.2.1"])), "another order");
        assert!(!writes(&facts(&["192.0.2.1", "2001:db8::1"])));
        let mut broken = facts(&["192.0.2.1", "2001:db8::1"]);
        broken
            .errors
            .insert(80, "propylon.dev/BackendServiceNotFound".to_owned());
        assert!(writes(&broken));
        broken.present.errors.clone_from(&broken.errors);
        assert!(!writes(&broken));
        assert_eq!(decide(&facts(&[]), &published(), StatusMode::Never), Decision::Leave);
    }

    #[test]
    fn nothing_is_written_before_a_proxy_has_it_and_nothing_cleared_because_nothing_is_known() {
        let waiting = Facts {
            is_live: false,
            ..facts(&["198.51.100.9"])
        };
        assert!(!writes(&waiting));
        assert_eq!(decide(&facts(&["192.0.2.1"]), &[], StatusMode::Always), Decision::Leave);
    }

    #[test]
    fn only_what_looks_like_ours_is_withdrawn_from_another_class() {
        let other = |addresses: &[&str]| Facts {
            is_ours: false,
            ..facts(addresses)
        };
        assert_eq!(
            decide(&other(&["192.0.2.1", "2001:db8::1"]), &published(), StatusMode::Yield),
            Decision::Withdraw
        );
        assert_eq!(
            decide(&other(&["198.51.100.9"]), &published(), StatusMode::Always),
            Decision::Leave
        );
        assert_eq!(decide(&other(&[]), &[], StatusMode::Always), Decision::Leave);
    }

    #[test]
    fn the_worst_report_of_each_port_stands_there() {
        let object = ObjectRef::new(Kind::Ingress, "default", "web");
        let report = |reason| Report::new(object.clone(), reason, "");
        let reports = [
            report(ReportReason::NoReadyEndpoints),
            report(ReportReason::AnnotationInvalid),
            report(ReportReason::TLSSecretNotFound),
            report(ReportReason::TLSHostMismatch),
        ];
        let text = |errors: PortErrors| {
            errors
                .into_iter()
                .map(|(port, error)| format!("{port} {error}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            text(errors(&reports, false)),
            ["80 propylon.dev/AnnotationInvalid", "443 propylon.dev/TLSHostMismatch"]
        );
        assert_eq!(
            text(errors(&reports[..2], true)),
            [
                "80 propylon.dev/AnnotationInvalid",
                "443 propylon.dev/AnnotationInvalid"
            ]
        );
        assert!(errors(&reports[2..3], true).is_empty(), "a notice is no error");
    }

    #[test]
    fn what_is_applied_reads_back_as_written() {
        let errors = PortErrors::from([(443, "propylon.dev/TLSSecretInvalid".to_owned())]);
        let addresses = vec![Address::read("192.0.2.1"), Address::read("lb.example.com")];
        let object: Ingress = serde_json::from_value(manifest("a", "b", &addresses, &errors)).unwrap();
        let read = Present::read(&object);
        assert_eq!(
            (read.addresses, read.errors, read.is_foreign),
            (addresses, errors, false)
        );
        let nothing: Ingress = serde_json::from_value(manifest("a", "b", &[], &PortErrors::new())).unwrap();
        assert_eq!(Present::read(&nothing), Present::default());
    }
}

//! One Event, before it is written.

use std::{borrow::Cow, time::Duration};

use aws_lc_rs::digest;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use propylon_model::{Kind, ObjectRef, Report, ReportReason, Severity};

/// `reportingController` of our Events.
pub const CONTROLLER: &str = "propylon.dev/controller";

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Longest part of the name of an Event that is the object's, in bytes: what is behind it makes a name of at most 253.
const LONGEST_NAME: usize = 230;

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// Good to know.
    Normal,
    /// Something is not as its author wants it.
    Warning,
}

impl EventType {
    /// As it stands in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Regarding {
    /// `apiVersion`.
    pub api_version: &'static str,
    /// `kind`.
    pub kind: &'static str,
    /// The namespace; empty where the kind has none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid, where it is known: `kubectl describe` finds Events by it.
    pub uid: Option<String>,
}

/// Something to say about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// The object.
    pub regarding: Regarding,
    /// Whether something is wrong.
    pub type_: EventType,
    /// `reason`: of a report (`docs/reference/reports.md`), or one of docs/addresses.md and docs/status.md.
    pub reason: Cow<'static, str>,
    /// What, where, and what to do next.
    pub note: String,
    /// `action`: what was done with the object when this was found.
    pub action: &'static str,
    /// How long it must hold before it is said: what passes by itself is not worth an Event.
    pub settle: Duration,
}

/// The name of an Event: equal Events have equal names, whoever leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(pub String);

impl Record {
    /// The Event of a report; none where it is not worth one, or not about an object of the API.
    pub fn of_report(report: &Report, uid: Option<String>) -> Option<Self> {
        // Ingresses of other controllers are not ours to speak of.
        if report.reason == ReportReason::ClassNotOurs {
            return None;
        }
        let type_ = match (report.reason, report.severity()) {
            (ReportReason::TLSSecretNotFound, _) | (_, Severity::Error | Severity::Warning) => EventType::Warning,
            (_, Severity::Notice) => EventType::Normal,
        };
        Some(Self {
            regarding: Regarding::of(&report.object, uid)?,
            type_,
            reason: Cow::Borrowed(report.reason.as_str()),
            note: report.message.clone(),
            action: "Compile",
            settle: Duration::from_secs(3),
        })
    }

    /// The name, made of everything that makes the Event another one.
    pub fn name(&self) -> EventName {
        let mut hash = digest::Context::new(&digest::SHA256);
        let Regarding {
            kind,
            namespace,
            name,
            uid,
            ..
        } = &self.regarding;
        let uid = uid.as_deref().unwrap_or_default();
        for part in [
            kind,
            namespace.as_str(),
            name,
            uid,
            self.type_.as_str(),
            &self.reason,
            &self.note,
        ] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        let hash = hash.finish();
        let mut text = cut(name, LONGEST_NAME).trim_end_matches(['.', '-']).to_owned();
        text.push('.');
        let digits = hash.as_ref().iter().take(8).flat_map(|byte| [byte >> 4, byte & 15]);
        text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
        EventName(text)
    }

    /// The namespace that the Event lies in: the object's, else `default`.
    pub fn namespace(&self) -> &str {
        match self.regarding.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    /// The Event as it is created; `instance` is the name of this pod.
    pub fn event(&self, instance: &str, now: MicroTime) -> Event {
        let Regarding {
            api_version,
            kind,
            namespace,
            name,
            uid,
        } = &self.regarding;
        Event {
            metadata: ObjectMeta {
                namespace: Some(self.namespace().to_owned()),
                name: Some(self.name().0),
                ..ObjectMeta::default()
            },
            action: Some(self.action.to_owned()),
            event_time: Some(now),
            note: Some(cut(&self.note, LONGEST_NOTE).to_owned()),
            reason: Some(self.reason.to_string()),
            regarding: Some(ObjectReference {
                api_version: Some((*api_version).to_owned()),
                kind: Some((*kind).to_owned()),
                namespace: (!namespace.is_empty()).then(|| namespace.clone()),
                name: Some(name.clone()),
                uid: uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(cut(instance, 128).to_owned()),
            type_: Some(self.type_.as_str().to_owned()),
            ..Event::default()
        }
    }
}

/// The series of an Event that is said again.
pub const fn series(count: i32, now: MicroTime) -> EventSeries {
    EventSeries {
        count,
        last_observed_time: now,
    }
}

impl Regarding {
    /// The object of a report; none where it is none of the API, or not one of a user.
    pub fn of(object: &ObjectRef, uid: Option<String>) -> Option<Self> {
        let api_version = match object.kind {
            Kind::ConfigMap | Kind::Secret | Kind::Service => "v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
            Kind::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
            Kind::File | Kind::Node | Kind::Pod => return None,
        };
        Some(Self {
            api_version,
            kind: object.kind.as_str(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
            uid,
        })
    }
}

/// A text of at most so many bytes.
fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reason: ReportReason, message: &str) -> Report {
        Report::new(ObjectRef::new(Kind::Ingress, "default", "web"), reason, message)
    }

    #[test]
    fn equal_events_have_equal_names_and_others_others() {
        let record = |message: &str, uid: &str| {
            let report = report(ReportReason::BackendServiceNotFound, message);
            Record::of_report(&report, Some(uid.to_owned())).unwrap()
        };
        assert_eq!(record("a", "1").name(), record("a", "1").name());
        assert_ne!(record("a", "1").name(), record("b", "1").name());
        assert_ne!(record("a", "1").name(), record("a", "2").name());
        assert!(record("a", "1").name().0.starts_with("web."));
    }

    #[test]
    fn reports_become_events_on_their_object() {
        let record = Record::of_report(&report(ReportReason::TLSSecretNotFound, "m"), None).unwrap();
        assert_eq!(record.type_, EventType::Warning);
        let record = Record::of_report(&report(ReportReason::BackendTLSUnverified, "m"), None).unwrap();
        assert_eq!(record.type_, EventType::Normal);
        assert!(Record::of_report(&report(ReportReason::ClassNotOurs, "m"), None).is_none());
        let file = Report::new(
            ObjectRef::new(Kind::File, "", "a.yaml"),
            ReportReason::InvalidManifest,
            "m",
        );
        assert!(Record::of_report(&file, None).is_none());
    }

    #[test]
    fn what_is_too_long_is_cut_where_a_character_ends() {
        let long = "\u{e9}".repeat(600);
        let record = Record::of_report(&report(ReportReason::AnnotationInvalid, &long), None).unwrap();
        let event = record.event("pod", MicroTime(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(event.note.map(|note| note.len()), Some(1024));
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("\u{e9}", 1), "");
    }
}

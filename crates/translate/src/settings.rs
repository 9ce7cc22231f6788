//! The annotations of an object to settings.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use propylon_model::{Kind, ObjectRef, ProxyVersion, ReportReason};

use crate::{
    annotations::{
        self, Annotation, BACKEND_CA_SECRET, Form, LB_PATH, LbPath, PREFIX, PROXY_PROTOCOL, REDIRECT_HTTPS, Redirect,
        TLS_PASSTHROUGH, TLS_PORTS, TLS_SECRET, Value,
    },
    memory::Memory,
    reports::Reports,
    world::PortRef,
};

mod merged;

pub(crate) use merged::Merged;

/// The annotations without which a connection would go unverified or unencrypted: a value that never was good is not as
/// if there were none.
const CLOSED: &[&str] = &[BACKEND_CA_SECRET, TLS_PORTS, TLS_SECRET];

/// The annotation values that are in force on an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings(Arc<BTreeMap<&'static str, Value>>);

impl Settings {
    /// Reads the annotations of an object, reports what is wrong with them and remembers the good ones.
    pub(crate) fn read(object: &ObjectRef, metadata: &ObjectMeta, memory: &mut Memory, reports: &mut Reports) -> Self {
        let mut last_good = memory.take_values(object);
        let mut values = BTreeMap::new();
        for (key, text) in metadata.annotations.iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let (annotation, form) = match supported(object.kind, key, name) {
                Ok(found) => found,
                Err((reason, message)) => {
                    reports.add(object, reason, message);
                    continue;
                }
            };
            let last = last_good.remove(annotation.name);
            let value = form.read(text).unwrap_or_else(|why| {
                let message = invalid(key, &why, annotation, last.as_ref());
                reports.add(object, ReportReason::AnnotationInvalid, message);
                last.unwrap_or(Value::Unusable)
            });
            values.insert(annotation.name, value);
        }
        let good = values.iter().filter(|(_, value)| **value != Value::Unusable);
        memory.put_values(object, good.map(|(name, value)| (*name, value.clone())).collect());
        // Where nothing was ever good, the default holds; but not for what keeps a connection from going unverified.
        values.retain(|name, value| *value != Value::Unusable || CLOSED.contains(name));
        Self(Arc::new(values))
    }

    /// Whether the annotation stands there, be it of use or not.
    pub(crate) fn has(&self, annotation: &str) -> bool {
        self.0.contains_key(annotation)
    }

    /// A name that the annotation gives.
    pub(crate) fn name(&self, annotation: &str) -> Option<&Arc<str>> {
        match self.0.get(annotation) {
            Some(Value::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether an annotation names a Secret of a namespace, which may be another one.
    pub(crate) fn names_namespace(&self) -> bool {
        let mut names = [BACKEND_CA_SECRET, TLS_SECRET]
            .into_iter()
            .filter_map(|name| self.name(name));
        names.any(|name| name.contains('/'))
    }

    pub(crate) fn redirect(&self) -> Redirect {
        match self.0.get(REDIRECT_HTTPS) {
            Some(Value::Redirect(redirect)) => *redirect,
            _ => Redirect::default(),
        }
    }

    /// Whether TLS of the hosts is handed on unopened.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.0.get(TLS_PASSTHROUGH) == Some(&Value::Switch(true))
    }

    /// Who forwards the traffic, where that is said.
    pub(crate) fn lb_path(&self) -> Option<LbPath> {
        match self.0.get(LB_PATH) {
            Some(Value::LbPath(path)) => Some(*path),
            _ => None,
        }
    }

    /// The PROXY header that the backend gets.
    pub(crate) fn proxy_protocol(&self) -> Option<ProxyVersion> {
        match self.0.get(PROXY_PROTOCOL) {
            Some(Value::ProxyVersion(version)) => Some(*version),
            _ => None,
        }
    }

    /// The ports that terminate TLS; none: all.
    pub(crate) fn tls_ports(&self) -> Option<Arc<[PortRef]>> {
        match self.0.get(TLS_PORTS) {
            Some(Value::Ports(ports)) => ports.clone(),
            _ => None,
        }
    }

    /// A value that can be used.
    fn value(&self, annotation: &str) -> Option<&Value> {
        self.0.get(annotation).filter(|value| **value != Value::Unusable)
    }
}

/// The annotation of a name and how its value is read; else what to report.
fn supported(kind: Kind, key: &str, name: &str) -> Result<(&'static Annotation, Form), (ReportReason, String)> {
    let field = format!("metadata.annotations[{key}]");
    let Some(annotation) = annotations::find(name) else {
        let what_next = match annotations::suggest(name) {
            Some(nearest) => format!("did you mean {PREFIX}{nearest}?"),
            None => "remove it".to_owned(),
        };
        return Err((
            ReportReason::AnnotationUnknown,
            format!("{field}: is not known and has no effect; {what_next}"),
        ));
    };
    if !annotation.applies(kind) {
        let message = format!("{field}: has no effect on {} objects; remove it", kind.as_str());
        return Err((ReportReason::AnnotationUnsupported, message));
    }
    annotation.form.map(|form| (annotation, form)).ok_or_else(|| {
        let message = format!("{field}: is not supported in this version and has no effect; remove it");
        (ReportReason::AnnotationUnsupported, message)
    })
}

fn invalid(key: &str, why: &str, annotation: &Annotation, last_good: Option<&Value>) -> String {
    let in_force = match last_good {
        Some(_) => "the last good value stays in force".to_owned(),
        None if annotation.name == BACKEND_CA_SECRET => {
            "the backend cannot be verified and requests to it over TLS are answered with 503".to_owned()
        }
        None if annotation.name == TLS_SECRET => {
            "the ports that terminate TLS are closed rather than served in clear text".to_owned()
        }
        None if annotation.name == TLS_PORTS => "all TCP ports terminate TLS".to_owned(),
        None => format!("the default holds ({})", annotation.default),
    };
    format!(
        "metadata.annotations[{key}]: {why}; accepted: {}; {in_force}",
        annotation.accepted
    )
}

//! The annotations of an object to settings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use propylon_model::{ObjectRef, ReportReason, RoutePolicy};

use crate::{
    annotations::{
        self, CONNECT_TIMEOUT, PREFIX, REDIRECT_HTTPS, REQUEST_TIMEOUT, RESPONSE_IDLE_TIMEOUT, RESPONSE_TIMEOUT,
        Redirect, TUNNEL_IDLE_TIMEOUT, Value,
    },
    memory::Memory,
    reports::Reports,
};

/// The annotation values that are in force on an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(BTreeMap<&'static str, Value>);

impl Settings {
    /// Reads the annotations of an object, reports what is wrong with them and remembers the good ones.
    pub(crate) fn read(object: &ObjectRef, metadata: &ObjectMeta, memory: &mut Memory, reports: &mut Reports) -> Self {
        let mut last_good = memory.take_values(object);
        let mut values = BTreeMap::new();
        for (key, text) in metadata.annotations.iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let Some(annotation) = annotations::find(name) else {
                reports.add(object, ReportReason::AnnotationUnknown, unknown(key, name));
                continue;
            };
            if !annotation.applies(object.kind) {
                let kind = object.kind.as_str();
                let message = format!("metadata.annotations[{key}]: has no effect on {kind} objects; remove it");
                reports.add(object, ReportReason::AnnotationUnsupported, message);
                continue;
            }
            let Some(form) = annotation.form else {
                let message =
                    format!("metadata.annotations[{key}]: is not supported in this version and has no effect");
                reports.add(object, ReportReason::AnnotationUnsupported, message);
                continue;
            };
            let last = last_good.remove(annotation.name);
            match form.read(text) {
                Ok(value) => {
                    values.insert(annotation.name, value);
                }
                Err(why) => {
                    reports.add(
                        object,
                        ReportReason::AnnotationInvalid,
                        invalid(key, &why, annotation, last.is_some()),
                    );
                    if let Some(last) = last {
                        values.insert(annotation.name, last);
                    }
                }
            }
        }
        memory.put_values(object, values.clone());
        Self(values)
    }

    /// A name that the annotation gives.
    pub(crate) fn name(&self, annotation: &str) -> Option<&Arc<str>> {
        match self.0.get(annotation) {
            Some(Value::Name(name)) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn redirect(&self) -> Redirect {
        match self.0.get(REDIRECT_HTTPS) {
            Some(Value::Redirect(redirect)) => *redirect,
            _ => Redirect::default(),
        }
    }

    /// The timeouts of a rule of this Ingress that leads to a Service.
    pub(crate) fn policy(&self, service: &Self) -> RoutePolicy {
        let value = |name: &str| self.0.get(name).or_else(|| service.0.get(name));
        let duration = |name: &str, default: Duration| match value(name) {
            Some(Value::Duration(duration)) => *duration,
            _ => default,
        };
        let default = RoutePolicy::default();
        RoutePolicy {
            connect_timeout: duration(CONNECT_TIMEOUT, default.connect_timeout),
            response_timeout: duration(RESPONSE_TIMEOUT, default.response_timeout),
            response_idle_timeout: duration(RESPONSE_IDLE_TIMEOUT, default.response_idle_timeout),
            request_timeout: match value(REQUEST_TIMEOUT) {
                Some(Value::Duration(duration)) => Some(*duration),
                Some(Value::Off) => None,
                _ => default.request_timeout,
            },
            tunnel_idle_timeout: duration(TUNNEL_IDLE_TIMEOUT, default.tunnel_idle_timeout),
        }
    }
}

fn unknown(key: &str, name: &str) -> String {
    let message = format!("metadata.annotations[{key}]: is not known and has no effect");
    match annotations::suggest(name) {
        Some(nearest) => format!("{message}; did you mean {PREFIX}{nearest}?"),
        None => format!("{message}; remove it"),
    }
}

fn invalid(key: &str, why: &str, annotation: &annotations::Annotation, has_last_good: bool) -> String {
    let accepted = annotation.accepted;
    let in_force = if has_last_good {
        "the last good value stays in force".to_owned()
    } else {
        format!("the default holds ({})", annotation.default)
    };
    format!("metadata.annotations[{key}]: {why}; accepted: {accepted}; {in_force}")
}

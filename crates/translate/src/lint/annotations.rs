//! Annotations that are written for somebody else, or nearly for us.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use propylon_model::{Kind, ObjectRef, ReportReason};

use super::View;
use crate::{
    annotations::{self, PREFIX},
    reports::{Reports, name_some},
    spelling::nearest,
};

/// Prefixes of other ingress controllers, whose annotations Propylon does not read. Those of ingress-nginx are looked at
/// one by one in the compile.
const OTHERS: &[(&str, &str)] = &[
    ("alb.ingress.kubernetes.io/", "the AWS load balancer controller"),
    (
        "appgw.ingress.kubernetes.io/",
        "the Azure application gateway controller",
    ),
    ("haproxy-ingress.github.io/", "HAProxy Ingress"),
    ("haproxy.org/", "the HAProxy Kubernetes ingress controller"),
    ("ingress.cilium.io/", "Cilium"),
    ("ingress.kubernetes.io/", "Contour or an old controller"),
    ("konghq.com/", "Kong"),
    ("nginx.com/", "F5 NGINX Ingress Controller"),
    ("nginx.org/", "F5 NGINX Ingress Controller"),
    ("projectcontour.io/", "Contour"),
    ("traefik.ingress.kubernetes.io/", "Traefik"),
];

pub(super) fn check(view: &View<'_>, reports: &mut Reports) {
    for ingress in &view.served {
        read(&ingress.object, &ingress.ingress.metadata, reports);
    }
    for (key, service) in &view.world.services {
        let object = ObjectRef::new(Kind::Service, key.namespace.clone(), key.name.clone());
        read(&object, &service.metadata, reports);
    }
}

fn read(object: &ObjectRef, metadata: &ObjectMeta, reports: &mut Reports) {
    let mut foreign: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for name in metadata.annotations.iter().flat_map(BTreeMap::keys) {
        if let Some((prefix, whose)) = OTHERS.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            foreign.entry((prefix, whose)).or_default().push(name);
        } else if let Some(meant) = meant(name) {
            let message = format!(
                "metadata.annotations[{name}]: is not read, because the prefix is not {PREFIX}; did you mean {PREFIX}{meant}?"
            );
            reports.add(object, ReportReason::AnnotationUnknown, message);
        }
    }
    for ((_, whose), names) in foreign {
        let Some(first) = names.first() else { continue };
        let message = format!(
            "metadata.annotations[{first}]: {} {} meant for {whose} and not read by Propylon; remove what only that controller \
             needs, and see the reference for what Propylon has instead",
            name_some(&names),
            if names.len() == 1 { "is" } else { "are" }
        );
        reports.add(object, ReportReason::AnnotationForeign, message);
    }
}

/// The annotation that a name with a wrong prefix was probably meant to be.
fn meant(name: &str) -> Option<&'static str> {
    let (prefix, rest) = name.split_once('/')?;
    let ours = PREFIX.trim_end_matches('/');
    let is_ours_nearly =
        prefix != ours && (nearest(prefix, [ours].into_iter()).is_some() || prefix.starts_with("propylon"));
    is_ours_nearly.then(|| {
        annotations::find(rest)
            .map(|annotation| annotation.name)
            .or_else(|| annotations::suggest(rest))
    })?
}

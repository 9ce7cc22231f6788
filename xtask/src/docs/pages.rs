//! The pages.

use propylon_kit::metrics::{BUCKET_BOUNDS_US, Metric};
use propylon_model::{Kind, ReportReason};
use propylon_proxy::reason::Reason;
use propylon_translate::annotations::{Annotation, PREFIX, TABLE};

use super::table::{code, codes, page, table};

/// Annotations on Ingresses and Services.
pub(super) fn annotations() -> String {
    let intro = format!(
        "All names start with `{PREFIX}`. Where an Ingress and its Service carry the same one, the Ingress wins. \
         Durations are written `250ms`, `10s`, `5m`, `1h`. A value that does not parse is reported \
         (`AnnotationInvalid`), and the last good value, else the default, stays in force."
    );
    let supported = TABLE.iter().filter(|annotation| annotation.is_supported());
    let planned = TABLE.iter().filter(|annotation| !annotation.is_supported());
    let parts = [
        intro,
        annotation_table(supported),
        "## Known, not supported in this version\n\nThese are reported and have no effect.".to_owned(),
        annotation_table(planned),
    ];
    page("Annotations", "`crates/translate/src/annotations/table.rs`", &parts)
}

/// Metrics of `/metrics`.
pub(super) fn metrics() -> String {
    let bounds = BUCKET_BOUNDS_US.map(|bound| format!("{:?}", std::time::Duration::from_micros(bound)));
    let intro = format!(
        "`/metrics` on the status address, in Prometheus' text format 0.0.4. A series is there from its first event on \
         and goes with its object; at most 10,000 routes have series of their own, further ones share \
         `ingress=\"__other__\"`. Requests that no rule matched have `ingress=\"__unmatched__\"`. Histograms have the \
         buckets {}.",
        bounds.join(", ")
    );
    let rows = Metric::ALL.iter().map(|metric| {
        let def = metric.def();
        [
            code(def.name),
            def.kind.as_str().to_owned(),
            codes(def.labels.iter().copied()),
            def.help.to_owned(),
        ]
    });
    let parts = [intro, table(["name", "type", "labels", "meaning"], rows)];
    page("Metrics", "`crates/kit/src/metrics/table.rs`", &parts)
}

/// Reason codes of the proxy's own responses.
pub(super) fn reasons() -> String {
    let intro = "One code for each answer that the proxy makes itself, and for each exchange that it ends early. It is \
                 `propylon.reason` in the access log, the label `reason` of `propylon_responses_by_reason_total`, and \
                 `details` in the response's `Proxy-Status: propylon; error=TYPE; details=\"CODE\"` (RFC 9209). Where \
                 the response had begun before the fault, the status that the client got is the backend's, and the \
                 message ends truncated.";
    let rows = Reason::ALL.iter().map(|reason| {
        [
            code(reason.code()),
            reason.status().as_u16().to_string(),
            code(reason.proxy_error()),
            reason.doc().to_owned(),
        ]
    });
    let parts = [
        intro.to_owned(),
        table(["code", "status", "error type", "meaning"], rows),
    ];
    page("Reason codes", "`proxy/src/reason.rs`", &parts)
}

/// Reasons of reports.
pub(super) fn reports() -> String {
    let intro = "What Propylon says about an object of yours: printed with `--manifests` \
                 (`warning default/web Ingress: BackendServiceNotFound: ...`), an Event on a cluster. With `--once` a \
                 report of severity `error` makes the exit code 1. No report stops anything else from being served. Codes \
                 never change and are never used again; behind each is a page with an example and how to mend it. \
                 `propylon lint` prints them with file and line, and has some of its own, from PRP0101 on.";
    let rows = ReportReason::ALL.iter().map(|(reason, doc)| {
        [
            format!("[{0}](problems/{0}.md)", reason.code()),
            code(reason.as_str()),
            reason.severity().as_str().to_owned(),
            (*doc).to_owned(),
        ]
    });
    let parts = [intro.to_owned(), table(["code", "reason", "severity", "meaning"], rows)];
    page("Reports", "`crates/model/src/report.rs`", &parts)
}

fn annotation_table<'a>(annotations: impl Iterator<Item = &'a Annotation>) -> String {
    let rows = annotations.map(|annotation| {
        [
            code(annotation.name),
            annotation
                .applies_to
                .iter()
                .map(|kind: &Kind| kind.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            annotation.accepted.to_owned(),
            annotation.default.to_owned(),
            annotation.doc.to_owned(),
        ]
    });
    table(["name", "on", "values", "default", "meaning"], rows)
}

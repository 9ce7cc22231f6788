//! Paths that look like a pattern of another controller: here they are compared as they stand.

use propylon_model::ReportReason;

use super::{View, paths};
use crate::reports::Reports;

/// Written only by those who expect a regular expression, or a wildcard.
const PATTERNS: &[&str] = &[".*", ".+", "(/|$)", "(?", "[", "]", "\\", "^", "|", "/*/"];

pub(super) fn check(view: &View<'_>, reports: &mut Reports) {
    for ingress in &view.served {
        for (field, path) in paths(ingress) {
            let text = path.path.as_deref().unwrap_or_default();
            if !looks_like_pattern(text, &path.path_type) {
                continue;
            }
            let literal = literal_part(text);
            let kind = if path.path_type == "Exact" { "Exact" } else { "Prefix" };
            let message = format!(
                "{field}.path: '{text}' looks like a pattern, but is compared as it stands ({kind}), so hardly any request \
                 matches; write {literal} with pathType: Prefix"
            );
            reports.add(&ingress.object, ReportReason::PathLooksLikeRegex, message);
        }
    }
}

/// Whether a path is meant as a regular expression. Where the type leaves the meaning to the controller, less is enough.
fn looks_like_pattern(path: &str, path_type: &str) -> bool {
    let is_certain = PATTERNS.iter().any(|pattern| path.contains(pattern)) || path.ends_with("/*");
    let is_likely = path_type == "ImplementationSpecific" && path.contains(['(', ')', '*', '$', '{', '}', '?']);
    is_certain || is_likely
}

/// What stands before the pattern, cut at a slash.
fn literal_part(path: &str) -> &str {
    let end = path
        .find(['(', ')', '[', ']', '*', '$', '{', '}', '?', '\\', '^', '|'])
        .unwrap_or(path.len());
    let (literal, pattern) = path.split_at_checked(end).unwrap_or((path, ""));
    // A prefix ends with a segment: what is only its beginning is no use.
    let is_whole_segment = pattern.is_empty() || pattern == "$" || pattern.starts_with("(/");
    let literal = match literal.rfind('/') {
        Some(slash) if !is_whole_segment => literal.get(..slash).unwrap_or_default(),
        None => "",
        Some(_) => literal,
    };
    match literal.trim_end_matches('/') {
        "" => "/",
        literal => literal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_told_from_paths() {
        for path in [
            "/foo(/|$)(.*)",
            "/.*",
            "/*",
            "/a/*/b",
            "/v[12]",
            "/a|/b",
            "/a/.+",
            "^/a",
        ] {
            assert!(looks_like_pattern(path, "Prefix"), "{path}");
        }
        for path in [
            "/",
            "/a.b/c+d",
            "/odata/Products(1)",
            "/$metadata",
            "/a*b",
            "/~user",
            "/a,b",
        ] {
            assert!(!looks_like_pattern(path, "Prefix"), "{path}");
        }
        assert!(looks_like_pattern("/odata/(v1)", "ImplementationSpecific"));
        assert!(!looks_like_pattern("/a.b/c+d", "ImplementationSpecific"));
    }

    #[test]
    fn the_literal_part_ends_at_a_slash() {
        for (path, literal) in [
            ("/foo(/|$)(.*)", "/foo"),
            ("/*", "/"),
            ("/a/.*", "/a"),
            ("/api/v[12]", "/api"),
            ("/a$", "/a"),
            ("/a/b.*", "/a"),
            (".*", "/"),
        ] {
            assert_eq!(literal_part(path), literal, "{path}");
        }
    }
}

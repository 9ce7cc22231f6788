//! What backends may read in a path with encoded slashes.
//!
//! Decoding the other octets makes no difference here, since it changes neither slashes nor, after
//! [`super::segment::Segment::parse`] has accepted the path, dot segments: it is done before.

use super::segment::{ENCODED_SLASH, is_dots};

/// Every path, each once, that a backend which decodes encoded slashes may read.
pub(super) fn readings(unresolved: &str) -> Vec<String> {
    use Step::{DecodeSlashes, MergeSlashes, RemoveDots};
    const ORDERS: [[Step; 3]; 6] = [
        [DecodeSlashes, MergeSlashes, RemoveDots],
        [DecodeSlashes, RemoveDots, MergeSlashes],
        [MergeSlashes, DecodeSlashes, RemoveDots],
        [MergeSlashes, RemoveDots, DecodeSlashes],
        [RemoveDots, DecodeSlashes, MergeSlashes],
        [RemoveDots, MergeSlashes, DecodeSlashes],
    ];
    let decoded = unresolved.replace(ENCODED_SLASH, "/");
    if !decoded.contains("//") && !decoded.contains("/.") {
        // Nothing to merge or to remove, before decoding or after: every order gives the same.
        return vec![decoded];
    }
    let mut readings = Vec::with_capacity(ORDERS.len());
    for order in ORDERS {
        let reading = order
            .into_iter()
            .fold(unresolved.to_owned(), |path, step| step.apply(&path));
        if !readings.contains(&reading) {
            readings.push(reading);
        }
    }
    readings
}

/// Each run of slashes made one.
pub(super) fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

#[derive(Clone, Copy)]
enum Step {
    DecodeSlashes,
    MergeSlashes,
    RemoveDots,
}

impl Step {
    fn apply(self, path: &str) -> String {
        match self {
            Self::DecodeSlashes => path.replace(ENCODED_SLASH, "/"),
            Self::MergeSlashes => merge_slashes(path),
            Self::RemoveDots => remove_dot_segments(path),
        }
    }
}

/// RFC 3986 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut resolved = Vec::with_capacity(segments.len() + 1);
    for segment in &segments {
        match *segment {
            "." => {}
            ".." => {
                resolved.pop();
            }
            segment => resolved.push(segment),
        }
    }
    if segments.last().is_some_and(|last| is_dots(last)) {
        resolved.push("");
    }
    let mut path = String::with_capacity(path.len());
    for segment in resolved {
        path.push('/');
        path.push_str(segment);
    }
    path
}

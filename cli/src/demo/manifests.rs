//! The manifests of the demo.

/// The files, by name.
pub(super) const FILES: [(&str, &str); 2] = [
    ("backends.yaml", include_str!("backends.yaml")),
    ("ingress.yaml", include_str!("ingress.yaml")),
];

/// The file that users are invited to edit.
pub(super) const EDIT: &str = "ingress.yaml";

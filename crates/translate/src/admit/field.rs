//! Mistakes by field, worded as the API server words them.

use std::fmt::Display;

use thiserror::Error;

/// One mistake of an object.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field, such as `spec.rules[0].http.paths[1].pathType`.
    pub field: String,
    /// What is wrong with it, such as `Required value: pathType must be specified`.
    pub message: String,
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub(super) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.push(field, format!("Forbidden: {detail}"));
    }

    pub(super) fn duplicate(&mut self, field: impl Into<String>, value: impl Display) {
        self.push(field, format!("Duplicate value: \"{value}\""));
    }

    pub(super) fn invalid(&mut self, field: impl Into<String>, value: impl Display, detail: &str) {
        self.push(field, format!("Invalid value: \"{value}\": {detail}"));
    }

    pub(super) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.push(field, format!("Required value: {detail}"));
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        self.push(
            field,
            format!(
                "Unsupported value: \"{value}\": supported values: {}",
                supported.join(", ")
            ),
        );
    }

    pub(super) fn into_result(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    fn push(&mut self, field: impl Into<String>, message: String) {
        self.0.push(FieldError {
            field: field.into(),
            message,
        });
    }
}

/// Checks a port number of a field.
pub(super) fn port_number(field: &str, number: i32, errors: &mut Errors) {
    if !(1..=65_535).contains(&number) {
        errors.invalid(field, number, "must be between 1 and 65535, inclusive");
    }
}

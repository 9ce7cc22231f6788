//! Every annotation that Propylon reads or knows, in one table: parsing and the generated reference both use it.

use std::{sync::Arc, time::Duration};

use propylon_model::{HostName, Kind, duration::parse_duration};

use crate::spelling::nearest;

mod table;

pub use table::TABLE;

/// What every annotation of Propylon starts with.
pub const PREFIX: &str = "propylon.dev/";

pub(crate) const BACKEND_CA_SECRET: &str = "backend-ca-secret";
pub(crate) const BACKEND_SERVER_NAME: &str = "backend-server-name";
pub(crate) const CONNECT_TIMEOUT: &str = "connect-timeout";
pub(crate) const REDIRECT_HTTPS: &str = "redirect-https";
pub(crate) const REQUEST_TIMEOUT: &str = "request-timeout";
pub(crate) const RESPONSE_IDLE_TIMEOUT: &str = "response-idle-timeout";
pub(crate) const RESPONSE_TIMEOUT: &str = "response-timeout";
pub(crate) const TUNNEL_IDLE_TIMEOUT: &str = "tunnel-idle-timeout";

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The name behind [`PREFIX`].
    pub name: &'static str,
    /// The kinds that may carry it; where both may, the Ingress's value goes before the Service's.
    pub applies_to: &'static [Kind],
    /// The values, in words.
    pub accepted: &'static str,
    /// What holds without it, in words.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// How its values are read; none: not supported in this version, and reported.
    pub form: Option<Form>,
}

impl Annotation {
    /// Whether this version obeys it.
    pub const fn is_supported(&self) -> bool {
        self.form.is_some()
    }

    /// Whether objects of the kind may carry it.
    pub fn applies(&self, kind: Kind) -> bool {
        self.applies_to.contains(&kind)
    }
}

/// The grammar of an annotation's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A duration.
    Duration,
    /// A duration, or `off`.
    DurationOrOff,
    /// A DNS name.
    HostName,
    /// `auto`, `true` or `false`.
    Redirect,
    /// The name of a Secret in the same namespace.
    SecretName,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Duration(Duration),
    Name(Arc<str>),
    Off,
    Redirect(Redirect),
    /// The annotation stands there, but it never had a value that could be read.
    Unusable,
}

/// When plain HTTP is answered with a redirect to HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Redirect {
    Always,
    /// Where the host has a certificate Secret of its own.
    #[default]
    Auto,
    Never,
}

impl Form {
    /// Reads a value; surrounding white space does not count.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Self::DurationOrOff if text == "off" => Ok(Value::Off),
            Self::Duration | Self::DurationOrOff => parse_duration(text)
                .map(Value::Duration)
                .map_err(|error| error.to_string()),
            Self::HostName => HostName::parse(text)
                .map(|name| Value::Name(name.as_str().into()))
                .map_err(|error| error.to_string()),
            Self::Redirect => match text {
                "auto" => Ok(Value::Redirect(Redirect::Auto)),
                "true" => Ok(Value::Redirect(Redirect::Always)),
                "false" => Ok(Value::Redirect(Redirect::Never)),
                _ => Err(format!("'{text}' is none of auto, true and false")),
            },
            Self::SecretName => {
                let is_name = !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
                let why = || format!("'{text}' is no name of a Secret (of the same namespace, so without '/')");
                if is_name {
                    Ok(Value::Name(text.into()))
                } else {
                    Err(why())
                }
            }
        }
    }
}

/// The annotation of a name behind [`PREFIX`].
pub fn find(name: &str) -> Option<&'static Annotation> {
    TABLE.iter().find(|annotation| annotation.name == name)
}

/// The known name that an unknown one was probably meant to be.
pub(crate) fn suggest(unknown: &str) -> Option<&'static str> {
    nearest(unknown, TABLE.iter().map(|annotation| annotation.name))
}

#[cfg(test)]
mod tests;

//! The grammars of names.

pub(super) const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of a-z, 0-9 and '-', start and end with an \
                                     alphanumeric character and have at most 63 characters";
pub(super) const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of labels of a-z, 0-9 and '-' \
                                         separated by '.', and have at most 253 characters";
pub(super) const PORT_NAME_RULE: &str =
    "a port name must have 1 to 15 characters of a-z, 0-9 and single inner '-', at least one of them a letter";

/// What the names of a kind must be.
#[derive(Clone, Copy)]
pub(super) enum Grammar {
    Label,
    Subdomain,
}

impl Grammar {
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Label => is_label(text),
            Self::Subdomain => is_subdomain(text),
        }
    }

    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Label => LABEL_RULE,
            Self::Subdomain => SUBDOMAIN_RULE,
        }
    }
}

/// An RFC 1123 label, lower case.
pub(super) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        && bytes.first().copied().is_some_and(is_lower_alphanumeric)
        && bytes.last().copied().is_some_and(is_lower_alphanumeric)
}

/// An RFC 1123 subdomain, lower case; its labels may be longer than 63 characters, as the API server has it.
pub(super) fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(is_lower_alphanumeric)
            && bytes.last().copied().is_some_and(is_lower_alphanumeric)
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// A name of `*.` and a subdomain.
pub(super) fn is_wildcard_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.strip_prefix("*.").is_some_and(is_subdomain)
}

/// A port name (RFC 6335 5.1), lower case.
pub(super) fn is_port_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 15
        && bytes.iter().any(u8::is_ascii_lowercase)
        && bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        && !text.contains("--")
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// An optional DNS prefix and a name: `http`, `kubernetes.io/h2c`.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let bytes = name.as_bytes();
    prefix.is_none_or(is_subdomain)
        && (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// A DNS name, a slash and a path: `propylon.dev/ingress-controller`.
pub(super) fn is_domain_prefixed_path(text: &str) -> bool {
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%@/".contains(&byte);
    text.split_once('/')
        .is_some_and(|(domain, path)| is_subdomain(domain) && !path.is_empty() && path.bytes().all(is_path_byte))
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

//! Flags that are more than a word: `--map`, `--default-tls-secret`.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use propylon_translate::{Key, PortRef, ServiceMap};
use thiserror::Error;

/// Why the value of a flag does not parse.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FlagError {
    /// The host of a `--map` has no address.
    #[error("'{0}' cannot be resolved; write HOST:PORT, such as 127.0.0.1:3000 or localhost:3000")]
    Address(String),
    /// Not the form of `--map`.
    #[error("write NS/SVC=HOST:PORT or NS/SVC:PORT=HOST:PORT, such as default/web:http=127.0.0.1:3000")]
    Map,
    /// Not the form of a name.
    #[error("write NAMESPACE/NAME, such as default/web")]
    Name,
}

/// Reads `NAMESPACE/NAME`.
///
/// # Errors
/// When it is anything else. Not retryable.
pub(crate) fn parse_key(text: &str) -> Result<Key, FlagError> {
    let (namespace, name) = text.split_once('/').ok_or(FlagError::Name)?;
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(FlagError::Name);
    }
    Ok(Key::new(namespace, name))
}

/// Reads `NS/SVC[:PORT]=HOST:PORT`. A host that is a name is resolved now, once; its first address counts.
///
/// # Errors
/// When it is anything else (not retryable), or the host has no address (retryable).
pub(crate) fn parse_map(text: &str) -> Result<ServiceMap, FlagError> {
    let (service, address) = text.split_once('=').ok_or(FlagError::Map)?;
    let (service, port) = match service.split_once(':') {
        Some((service, port)) => (service, Some(parse_port(port)?)),
        None => (service, None),
    };
    let key = parse_key(service).map_err(|_| FlagError::Map)?;
    Ok(ServiceMap {
        namespace: key.namespace,
        service: key.name,
        port,
        address: resolve(address)?,
    })
}

fn parse_port(text: &str) -> Result<PortRef, FlagError> {
    match text.parse::<u16>() {
        Ok(0) => Err(FlagError::Map),
        Ok(number) => Ok(PortRef::Number(number)),
        Err(_) if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) => Err(FlagError::Map),
        Err(_) => Ok(PortRef::Name(Arc::from(text))),
    }
}

fn resolve(text: &str) -> Result<SocketAddr, FlagError> {
    let unresolved = || FlagError::Address(text.to_owned());
    text.to_socket_addrs()
        .map_err(|_| unresolved())?
        .find(|address| address.port() != 0)
        .ok_or_else(unresolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_a_service_and_perhaps_a_port() {
        let map = parse_map("default/web=127.0.0.1:3000").unwrap();
        assert_eq!((&*map.namespace, &*map.service, map.port), ("default", "web", None));
        assert_eq!(map.address, ([127, 0, 0, 1], 3000).into());
        assert_eq!(parse_map("a/b:80=[::1]:1").unwrap().port, Some(PortRef::Number(80)));
        assert_eq!(
            parse_map("a/b:http=127.0.0.1:1").unwrap().port,
            Some(PortRef::Name("http".into()))
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "web=127.0.0.1:1",
            "a/b",
            "a/b:=127.0.0.1:1",
            "a/b:70000=127.0.0.1:1",
            "a/b:0=127.0.0.1:1",
        ] {
            assert_eq!(parse_map(text), Err(FlagError::Map), "{text}");
        }
        for text in ["a/b=127.0.0.1", "a/b=", "a/b=127.0.0.1:0"] {
            assert!(matches!(parse_map(text), Err(FlagError::Address(_))), "{text}");
        }
        for text in ["a", "/a", "a/", "a/b/c"] {
            assert_eq!(parse_key(text), Err(FlagError::Name), "{text}");
        }
    }
}

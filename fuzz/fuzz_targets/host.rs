//! The host of a request: whatever the bytes, one canonical form that is its own, or a refusal.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use propylon_proxy::edge::{Head, Scheme, host::parse_host, request_target::of_request};

fuzz_target!(|data: &[u8]| {
    host(data);
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if let [target, hosts @ ..] = lines.as_slice() {
        request(target, hosts);
    }
});

fn host(data: &[u8]) {
    let Ok(host) = parse_host(data) else { return };
    let canonical = host.canonical();
    assert_eq!(host.text().as_bytes(), data);
    let is_literal = canonical.starts_with('[');
    let allowed = |byte: u8| match byte {
        b'[' | b']' | b':' => is_literal,
        _ => byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte),
    };
    assert!(canonical.bytes().all(allowed), "{canonical}");
    assert!(
        canonical.len() <= 253 && !canonical.ends_with('.') && !canonical.starts_with('.'),
        "{canonical}"
    );
    let again = parse_host(canonical.as_bytes()).expect("the canonical form is a host");
    assert_eq!((again.canonical(), again.port()), (canonical, None));
    let upper = data.to_ascii_uppercase();
    let upper = parse_host(&upper).expect("case does not matter");
    assert_eq!((upper.canonical(), upper.port()), (canonical, host.port()));
}

/// A request with a target and any number of `Host` fields: a host that was accepted was said by one of them.
fn request(target: &[u8], hosts: &[&[u8]]) {
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut headers = HeaderMap::new();
    for host in hosts {
        let Ok(value) = HeaderValue::from_bytes(host) else {
            return;
        };
        headers.append(header::HOST, value);
    }
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        for method in [Method::GET, Method::OPTIONS, Method::CONNECT] {
            for scheme in [Scheme::Http, Scheme::Https] {
                let head = Head {
                    method: &method,
                    uri: &uri,
                    version,
                    headers: &headers,
                };
                let Ok(found) = of_request(&head, scheme) else { continue };
                assert!(hosts.len() <= 1);
                let said = |bytes: &[u8]| parse_host(bytes).is_ok_and(|host| host == found.host);
                let by_target = uri.authority().map(|authority| said(authority.as_str().as_bytes()));
                let by_field = hosts.first().is_some_and(|host| said(host));
                let by_nothing = found.host.is_none() && hosts.is_empty() && version == Version::HTTP_10;
                assert!(by_target.unwrap_or(by_field || by_nothing), "{found:?}");
            }
        }
    }
}

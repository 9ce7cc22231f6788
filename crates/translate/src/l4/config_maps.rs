//! `--tcp-services-configmap` and `--udp-services-configmap`, in the form of ingress-nginx.

use std::sync::Arc;

use propylon_model::{
    Kind, L4Protocol, L4Service, L4ServiceName, ObjectRef, ProxyVersion, ReportReason, TrafficPolicy,
};

use super::{Candidate, Compile, NOT_SERVED, addresses, policy, timeouts};
use crate::{
    backends::{Place, service_object},
    classes::created_unix_s,
    world::{Key, PortRef},
};

/// The form of an entry's value.
const FORM: &str = "NAMESPACE/SERVICE:PORT, with :PROXY behind it where clients send a PROXY header, and :PROXY or ::PROXY \
                    where the backend gets one";

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    port: u16,
    service: Key,
    service_port: PortRef,
    accept_proxy: bool,
    send_proxy: bool,
}

impl Compile<'_, '_> {
    /// The ports of the `ConfigMap` of a protocol.
    pub(super) fn of_config_map(&mut self, protocol: L4Protocol) -> Vec<Candidate> {
        let facts = self.backends.facts;
        let (flag, key) = match protocol {
            L4Protocol::Tcp => ("--tcp-services-configmap", &facts.options.tcp_services),
            L4Protocol::Udp => ("--udp-services-configmap", &facts.options.udp_services),
        };
        let mut candidates = Vec::new();
        let Some(key) = key else { return candidates };
        let object = ObjectRef::new(Kind::ConfigMap, Arc::clone(&key.namespace), Arc::clone(&key.name));
        let Some(config_map) = facts.world.config_maps.get(key) else {
            let message = format!("{flag}: does not exist, so no port of it is served; create it, or correct the flag");
            self.reports.add(&object, ReportReason::ConfigMapNotFound, message);
            return candidates;
        };
        let created_unix_s = created_unix_s(&config_map.metadata);
        for (port, text) in config_map.data.iter().flatten() {
            match entry(port, text, protocol) {
                Ok(entry) => candidates.extend(self.of_entry(&object, created_unix_s, entry, protocol)),
                Err(why) => {
                    let message = format!("data[{port}]: {why}, so the port is not served; write {FORM}");
                    self.reports.add(&object, ReportReason::ConfigMapEntryInvalid, message);
                }
            }
        }
        candidates
    }

    fn of_entry(
        &mut self,
        object: &ObjectRef,
        created_unix_s: Option<i64>,
        entry: Entry,
        protocol: L4Protocol,
    ) -> Option<Candidate> {
        let field = format!("data[{}]", entry.port);
        let port = match self.backends.port(&entry.service, &entry.service_port, protocol) {
            Ok(port) => port,
            Err(missing) => {
                let place = Place {
                    name: &field,
                    port: &field,
                    outcome: NOT_SERVED,
                };
                let (reason, _, message) =
                    missing.explain(&place, &entry.service, &entry.service_port, self.backends.facts.world);
                self.reports.add(object, reason, message);
                return None;
            }
        };
        let settings = self.backends.facts.merged(None, &entry.service);
        let (connect_timeout, idle_timeout) = timeouts(&settings, protocol);
        let source = Key::new(Arc::clone(&object.namespace), Arc::clone(&object.name));
        let l4 = L4Service {
            source: object.clone(),
            service: service_object(&entry.service),
            created_unix_s,
            addresses: addresses::of_config_map(self.backends.facts.options),
            port: entry.port,
            protocol,
            endpoints: port.endpoints(&entry.service),
            policy: policy(settings.pool_policy(self.backends.facts.spec(&entry.service)), protocol),
            source_ranges: None,
            traffic_policy: TrafficPolicy::Cluster,
            // What nginx sends.
            send_proxy: entry.send_proxy.then_some(ProxyVersion::V1),
            accept_proxy: entry.accept_proxy,
            tls: None,
            connect_timeout,
            idle_timeout,
        };
        Some(Candidate {
            l4,
            name: L4ServiceName::new(format!("{source}#{}/{}", entry.port, protocol.as_str())),
            source,
            field,
            service: entry.service,
            port,
        })
    }
}

/// Reads an entry; the error is what is wrong with it.
fn entry(port: &str, text: &str, protocol: L4Protocol) -> Result<Entry, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    let port = number(port).ok_or_else(|| format!("'{port}' is no port number"))?;
    let mut parts = text.split(':').map(str::trim);
    let service = parts.next().unwrap_or_default();
    let (namespace, name) = service
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| format!("'{service}' is no namespace and name of a Service"))?;
    let service_port = parts.next().unwrap_or_default();
    let service_port = match (number(service_port), service_port) {
        (Some(number), _) => PortRef::Number(number),
        (None, name) if name.bytes().any(|byte| byte.is_ascii_alphabetic()) => PortRef::Name(name.into()),
        (None, other) => return Err(format!("'{other}' is no port of a Service")),
    };
    let mut proxy = [false; 2];
    for (flag, word) in proxy.iter_mut().zip(parts.by_ref()) {
        *flag = word.eq_ignore_ascii_case("PROXY");
        if !*flag && !word.is_empty() {
            return Err(format!("'{word}' stands where only PROXY may"));
        }
    }
    if let Some(more) = parts.next() {
        return Err(format!("'{more}' is one part too many"));
    }
    let [accept_proxy, send_proxy] = proxy;
    if protocol == L4Protocol::Udp && (accept_proxy || send_proxy) {
        return Err("the PROXY protocol is for TCP".to_owned());
    }
    Ok(Entry {
        port,
        service: Key::new(namespace, name),
        service_port,
        accept_proxy,
        send_proxy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_ingress_nginx_are_read() {
        let read = |text| entry("9000", text, L4Protocol::Tcp).map(|entry| (entry.accept_proxy, entry.send_proxy));
        assert_eq!(read("default/db:5432"), Ok((false, false)));
        assert_eq!(read("default/db:5432:PROXY"), Ok((true, false)));
        assert_eq!(read("default/db:5432::PROXY"), Ok((false, true)));
        assert_eq!(read("default/db:5432:proxy:PROXY"), Ok((true, true)));
        let named = entry("9000", "default/db:postgres", L4Protocol::Udp).unwrap();
        assert_eq!(named.service_port, PortRef::Name("postgres".into()));
        assert_eq!(named.service, Key::new("default", "db"));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "db:5432",
            "default/db",
            "default/db:0",
            "default/db:",
            "a/b/c:1",
            "a/b:1:NO",
            "a/b:1:PROXY:PROXY:x",
        ] {
            assert!(entry("9000", text, L4Protocol::Tcp).is_err(), "{text}");
        }
        for port in ["", "0", "http", "70000", "-1"] {
            assert!(entry(port, "a/b:1", L4Protocol::Tcp).is_err(), "{port}");
        }
        assert!(entry("53", "a/b:53:PROXY", L4Protocol::Udp).is_err());
    }
}

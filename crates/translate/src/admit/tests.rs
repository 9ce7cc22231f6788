use super::*;
use crate::manifest::parse;

fn admitted(text: &str) -> Result<Object, Vec<String>> {
    let object = parse(text).remove(0);
    let object = object.map_err(|error| vec![error.to_string()])?;
    admit(object).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    admitted(text).unwrap_err()
}

fn ingress(spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: web}}\nspec: {spec}\n")
}

fn path(path: &str) -> String {
    ingress(&format!("{{rules: [{{http: {{paths: [{path}]}}}}]}}"))
}

const BACKEND: &str = "backend: {service: {name: web, port: {number: 80}}}";

#[test]
fn the_namespace_is_default() {
    let Ok(Object::Service(service)) =
        admitted("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}")
    else {
        panic!("a Service")
    };
    assert_eq!(service.metadata.namespace.as_deref(), Some("default"));
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    let port = &spec.ports.unwrap()[0];
    assert_eq!(port.protocol.as_deref(), Some("TCP"));
    assert_eq!(
        port.target_port,
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(80))
    );
}

#[test]
fn path_type_is_required() {
    assert_eq!(
        errors(&path(&format!("{{path: /, {BACKEND}}}"))),
        ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"]
    );
    assert_eq!(
        errors(&path(&format!("{{path: /, pathType: Regex, {BACKEND}}}"))),
        [
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Regex\": supported values: Exact, \
          ImplementationSpecific, Prefix"
        ]
    );
}

#[test]
fn paths_are_absolute_and_plain() {
    for bad in ["\"\"", "a", "//", "/a/../b", "/a/.", "/a%2fb", "/a/.."] {
        let found = errors(&path(&format!("{{path: {bad}, pathType: Prefix, {BACKEND}}}")));
        assert!(
            found[0].starts_with("spec.rules[0].http.paths[0].path: Invalid value"),
            "{bad}: {found:?}"
        );
    }
    assert!(admitted(&path(&format!("{{pathType: ImplementationSpecific, {BACKEND}}}"))).is_ok());
    assert_eq!(
        errors(&path(&format!(
            "{{path: a, pathType: ImplementationSpecific, {BACKEND}}}"
        )))
        .len(),
        1
    );
}

#[test]
fn a_service_port_is_a_name_or_a_number() {
    let with_port = |port: &str| {
        path(&format!(
            "{{path: /, pathType: Exact, backend: {{service: {{name: web, port: {port}}}}}}}"
        ))
    };
    assert!(admitted(&with_port("{name: http}")).is_ok());
    assert_eq!(
        errors(&with_port("{name: http, number: 80}")),
        [
            "spec.rules[0].http.paths[0].backend.service.port: Invalid value: \"http\": cannot set both port name & port number"
        ]
    );
    assert_eq!(
        errors(&with_port("{}")),
        ["spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required"]
    );
    assert!(errors(&with_port("{number: 70000}"))[0].contains("port.number: Invalid value: \"70000\""));
    assert!(errors(&with_port("{name: a-name-too-long-for-a-port}"))[0].contains("port.name: Invalid value"));
}

#[test]
fn a_backend_is_a_service_or_a_resource() {
    let with_backend = |backend: &str| path(&format!("{{path: /, pathType: Exact, backend: {backend}}}"));
    assert!(admitted(&with_backend("{resource: {kind: Bucket, name: a}}")).is_ok());
    assert!(errors(&with_backend("{}"))[0].contains("a service backend is required"));
    let both = "{resource: {kind: Bucket, name: a}, service: {name: web, port: {number: 80}}}";
    assert!(errors(&with_backend(both))[0].contains("cannot set both"));
}

#[test]
fn hosts_are_dns_names() {
    let with_host = |host: &str| {
        ingress(&format!(
            "{{rules: [{{host: \"{host}\", http: {{paths: [{{path: /, pathType: Exact, {BACKEND}}}]}}}}]}}"
        ))
    };
    for good in ["a.example.com", "*.example.com", ""] {
        assert!(admitted(&with_host(good)).is_ok(), "{good}");
    }
    for bad in [
        "A.example.com",
        "a_b",
        "10.0.0.1",
        "*",
        "a.*.com",
        "*a.com",
        "a..b",
        "::1",
        "a:80",
    ] {
        assert!(
            errors(&with_host(bad))[0].starts_with("spec.rules[0].host: Invalid value"),
            "{bad}"
        );
    }
    assert!(errors(&ingress("{rules: [{host: a}], tls: [{hosts: [B], secretName: C}]}")).len() == 2);
}

#[test]
fn an_ingress_needs_rules_or_a_default() {
    assert_eq!(
        errors(&ingress("{}")),
        ["spec: Required value: either `defaultBackend` or `rules` must be specified"]
    );
    assert_eq!(
        errors(&ingress("{rules: [{http: {paths: []}}]}")),
        ["spec.rules[0].http.paths: Required value: at least one path"]
    );
}

#[test]
fn names_are_checked() {
    let named = |name: &str| format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}}}");
    assert!(errors(&named("A_b"))[0].starts_with("metadata.name: Invalid value: \"A_b\""));
    assert_eq!(
        errors(&named("\"\"")),
        ["metadata.name: Required value: name is required"]
    );
    let generated = "{apiVersion: v1, kind: Secret, metadata: {generateName: a-}}";
    assert!(errors(generated)[0].contains("generateName needs an API server"));
    let cluster = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a, namespace: b}, spec: {controller: \
                   a.b/c}}";
    assert_eq!(
        errors(cluster),
        ["metadata.namespace: Forbidden: not allowed on this kind"]
    );
}

#[test]
fn a_class_needs_a_controller() {
    let class = |controller: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{name: a}}, spec: {{controller: {controller}}}}}"
        )
    };
    assert!(admitted(&class("propylon.dev/ingress-controller")).is_ok());
    assert!(errors(&class("nginx"))[0].contains("domain-prefixed path"));
    assert!(errors(&class("\"\""))[0].contains("Required value"));
}

#[test]
fn string_data_goes_over_data() {
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: YQ==, b: Yg==}, stringData: {b: c}}";
    let Ok(Object::Secret(secret)) = admitted(text) else {
        panic!("a Secret")
    };
    let data = secret.data.unwrap();
    assert_eq!(
        (data["a"].0.as_slice(), data["b"].0.as_slice()),
        (b"a".as_slice(), b"c".as_slice())
    );
    assert_eq!((secret.string_data, secret.type_.as_deref()), (None, Some("Opaque")));
}

#[test]
fn a_tls_secret_needs_its_keys() {
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, type: kubernetes.io/tls, stringData: {tls.crt: x}}";
    assert_eq!(
        errors(text),
        ["data[tls.key]: Required value: a Secret of type kubernetes.io/tls needs it"]
    );
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {\"a b\": x}}";
    assert!(errors(text)[0].starts_with("data[a b]: Invalid value"));
}

#[test]
fn service_ports_are_checked() {
    let service = |spec: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}");
    assert_eq!(
        errors(&service("{}")),
        ["spec.ports: Required value: at least one port"]
    );
    assert!(admitted(&service("{clusterIP: None}")).is_ok());
    assert!(admitted(&service("{type: ExternalName, externalName: a.example.com}")).is_ok());
    assert!(errors(&service("{type: ExternalName}"))[0].starts_with("spec.externalName: Required value"));
    assert_eq!(errors(&service("{ports: [{port: 80}, {port: 81}]}")).len(), 2);
    assert!(
        errors(&service("{ports: [{port: 80, name: a}, {port: 81, name: a}]}"))[0].contains("Duplicate value: \"a\"")
    );
    assert!(
        errors(&service("{ports: [{port: 80, name: a}, {port: 80, name: b}]}"))[0]
            .contains("spec.ports[1].port: Duplicate")
    );
    assert!(
        admitted(&service(
            "{ports: [{port: 80, name: a}, {port: 80, name: b, protocol: UDP}]}"
        ))
        .is_ok()
    );
    assert!(errors(&service("{ports: [{port: 0}]}"))[0].contains("must be between 1 and 65535"));
    assert!(errors(&service("{ports: [{port: 80, protocol: tcp}]}"))[0].contains("Unsupported value: \"tcp\""));
    assert!(errors(&service("{ports: [{port: 80, targetPort: \"a b\"}]}"))[0].contains("targetPort: Invalid value"));
    assert!(
        errors(&service("{ports: [{port: 80, appProtocol: \"a/b/c\"}]}"))[0].contains("appProtocol: Invalid value")
    );
    assert!(errors(&service("{type: Cluster, ports: [{port: 80}]}"))[0].contains("spec.type: Unsupported value"));
}

#[test]
fn slices_are_checked() {
    let slice =
        |rest: &str| format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: a}}, {rest}}}");
    let good = "addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]";
    let Ok(Object::EndpointSlice(admitted)) = admitted(&slice(good)) else {
        panic!("a slice")
    };
    let port = &admitted.ports.unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.protocol.as_deref()),
        (Some(""), Some("TCP"))
    );
    assert!(errors(&slice("endpoints: []"))[0].starts_with("addressType: Required value"));
    for (kind, address) in [
        ("IPv4", "::1"),
        ("IPv6", "10.0.0.1"),
        ("IPv4", "0.0.0.0"),
        ("IPv6", "ff02::1"),
        ("FQDN", "A"),
    ] {
        let text = slice(&format!(
            "addressType: {kind}, endpoints: [{{addresses: [\"{address}\"]}}]"
        ));
        assert!(
            errors(&text)[0].starts_with("endpoints[0].addresses[0]: Invalid value"),
            "{address}"
        );
    }
    assert!(errors(&slice("addressType: IPv4, endpoints: [{}]"))[0].contains("at least 1 address"));
    assert!(errors(&slice("addressType: IPv4, ports: [{port: 1}, {port: 2}]"))[0].contains("ports[1].name: Duplicate"));
}

//! Each finding: what brings it about, and what does not.

use propylon_model::{ReportReason, Severity};

use super::*;
use crate::{Memory, admit::admit, compile, manifest::parse};

/// `REASON NAMESPACE/NAME KIND: FIELD` of each finding.
fn findings(text: &str) -> Vec<String> {
    messages(text)
        .iter()
        .map(|report| {
            let field = report.message.split_once(": ").map_or("", |(field, _)| field);
            format!("{} {}: {field}", report.reason.as_str(), report.object)
        })
        .collect()
}

fn messages(text: &str) -> Vec<Report> {
    let mut world = World::default();
    for object in parse(text) {
        world.insert(admit(object.unwrap()).unwrap());
    }
    let options = Options::default();
    let compiled = compile(&world, &options, &mut Memory::default());
    lint(&world, &options, &compiled.resources)
}

/// An Ingress with paths `HOST TYPE PATH`, and what else its spec and metadata say.
fn ingress(name: &str, paths: &[&str], spec: &str, metadata: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: {namespace}{metadata}}}\n\
         spec:\n{spec}"
    );
    if !paths.is_empty() {
        text.push_str("  rules:\n");
    }
    for path in paths {
        let (host, path) = path.split_once(' ').unwrap();
        let (kind, path) = path.split_once(' ').unwrap();
        let host = if host == "-" {
            String::new()
        } else {
            format!("host: \"{host}\", ")
        };
        let paths = format!("[{{path: \"{path}\", pathType: {kind}, backend: {BACKEND}}}]");
        text.extend(["  - {", &host, "http: {paths: ", &paths, "}}\n"]);
    }
    text
}

const BACKEND: &str = "{service: {name: web, port: {number: 80}}}";

fn default_backend() -> String {
    format!("  defaultBackend: {BACKEND}\n")
}

#[test]
fn a_plain_ingress_is_clean() {
    let text = ingress(
        "web",
        &["a.example Prefix /", "b.example Exact /x"],
        "  tls: [{hosts: [a.example, b.example], secretName: t}]\n",
        "",
    );
    assert_eq!(findings(&text), Vec::<String>::new());
}

#[test]
fn a_default_backend_behind_a_catch_all_is_shadowed() {
    let shadowed = ["RouteShadowed default/web Ingress: spec.defaultBackend"];
    assert_eq!(
        findings(&ingress("web", &["a.example Prefix /"], &default_backend(), "")),
        shadowed
    );
    assert_eq!(
        findings(&ingress("web", &["- ImplementationSpecific /"], &default_backend(), "")),
        shadowed
    );
    // One host is left for it.
    let open = ingress(
        "web",
        &["a.example Prefix /", "b.example Prefix /x"],
        &default_backend(),
        "",
    );
    assert_eq!(findings(&open), Vec::<String>::new());
    assert_eq!(
        findings(&ingress("web", &["a.example Exact /"], &default_backend(), "")),
        Vec::<String>::new()
    );
    let of_another = ingress("web", &[], &default_backend(), "") + &ingress("other", &["- Prefix /"], "", "");
    assert_eq!(findings(&of_another), shadowed);
}

#[test]
fn an_ingress_that_loses_everything_is_shadowed() {
    let winner = ingress("a", &["a.example Prefix /x", "b.example Exact /y"], "", "");
    let loser = ingress("b", &["a.example Prefix /x/"], "", "");
    assert_eq!(
        findings(&(winner.clone() + &loser)),
        ["RouteShadowed default/b Ingress: spec.rules"]
    );
    let partly = ingress("b", &["a.example Prefix /x", "a.example Prefix /z"], "", "");
    assert_eq!(findings(&(winner + &partly)), Vec::<String>::new());
}

#[test]
fn an_exact_host_hides_a_wildcard_unless_it_serves_everything() {
    let wildcard = ingress("wild", &["*.example.com Prefix /"], "", "");
    let part = ingress("part", &["a.example.com Prefix /api"], "", "");
    assert_eq!(
        findings(&(wildcard.clone() + &part)),
        ["HostHidesWildcard default/part Ingress: spec.rules[0].host"]
    );
    for whole in [
        ingress("part", &["a.example.com Prefix /"], "", ""),
        ingress("part", &["a.example.com Prefix /api"], &default_backend(), ""),
        ingress("part", &["a.b.example.com Prefix /api"], "", ""),
    ] {
        assert_eq!(findings(&(wildcard.clone() + &whole)), Vec::<String>::new(), "{whole}");
    }
    let any = ingress("any", &["- Prefix /"], "", "");
    assert_eq!(
        findings(&(any + &part)),
        ["HostHidesWildcard default/part Ingress: spec.rules[0].host"]
    );
    // A default backend for nobody's requests is hidden from no one.
    let rest = ingress("rest", &[], &default_backend(), "");
    assert_eq!(findings(&(rest + &part)), Vec::<String>::new());
}

#[test]
fn hosts_of_tls_need_a_rule_and_hosts_of_rules_are_expected_in_tls() {
    let text = ingress(
        "web",
        &["web.example Prefix /"],
        "  tls: [{hosts: [web.exmaple], secretName: t}]\n",
        "",
    );
    assert_eq!(
        findings(&text),
        [
            "HostWithoutTLS default/web Ingress: spec.rules[0].host",
            "TLSHostWithoutRule default/web Ingress: spec.tls[0].hosts[0]"
        ]
    );
    assert!(messages(&text)[1].message.ends_with("did you mean web.example?"));
    for covered in [
        ingress(
            "web",
            &["web.example.com Prefix /"],
            "  tls: [{hosts: [\"*.example.com\"], secretName: t}]\n",
            "",
        ),
        ingress("web", &["web.example.com Prefix /"], "  tls: [{secretName: t}]\n", ""),
        ingress(
            "web",
            &["- Prefix /"],
            "  tls: [{hosts: [a.example], secretName: t}]\n",
            "",
        ),
        ingress(
            "web",
            &["*.example.com Prefix /"],
            "  tls: [{hosts: [a.example.com, \"*.example.com\"], secretName: t}]\n",
            "",
        ),
        ingress("web", &["a.example Prefix /"], "", ""),
    ] {
        assert_eq!(findings(&covered), Vec::<String>::new(), "{covered}");
    }
}

#[test]
fn a_host_of_two_namespaces_is_said_to_the_younger() {
    let text = ingress("a/web", &["a.example Prefix /"], "", "") + &ingress("b/web", &["a.example Prefix /b"], "", "");
    assert_eq!(
        findings(&text),
        ["HostSharedAcrossNamespaces b/web Ingress: spec.rules[0].host"]
    );
    let same = ingress("a/web", &["a.example Prefix /"], "", "") + &ingress("a/web2", &["a.example Prefix /b"], "", "");
    assert_eq!(findings(&same), Vec::<String>::new());
}

#[test]
fn patterns_in_paths_are_found_with_their_field() {
    let text = ingress(
        "web",
        &["a.example Prefix /ok", "a.example ImplementationSpecific /foo(/|$)(.*)"],
        "",
        "",
    );
    assert_eq!(
        findings(&text),
        ["PathLooksLikeRegex default/web Ingress: spec.rules[1].http.paths[0].path"]
    );
    assert!(messages(&text)[0].message.contains("write /foo with pathType: Prefix"));
}

const CLASS: &str = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata:\n  name: NAME\n  annotations:\n    \
                     ingressclass.kubernetes.io/is-default-class: \"true\"\nspec: {controller: propylon.dev/ingress-controller}\n";

#[test]
fn two_default_classes_and_the_old_annotation_are_found() {
    let one = CLASS.replace("NAME", "one");
    assert_eq!(findings(&one), Vec::<String>::new());
    let field = "metadata.annotations[ingressclass.kubernetes.io/is-default-class]";
    assert_eq!(
        findings(&(one + &CLASS.replace("NAME", "two"))),
        [
            format!("DefaultClassAmbiguous one IngressClass: {field}"),
            format!("DefaultClassAmbiguous two IngressClass: {field}")
        ]
    );
    let text = ingress(
        "web",
        &["a.example Prefix /"],
        "",
        ", annotations: {kubernetes.io/ingress.class: x}",
    );
    assert_eq!(
        findings(&text),
        ["ClassAnnotationDeprecated default/web Ingress: metadata.annotations[kubernetes.io/ingress.class]"]
    );
}

#[test]
fn certificates_that_nothing_names_are_found() {
    let secret = |name: &str, kind: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: {kind}\nstringData: {{tls.crt: a, tls.key: b}}\n"
        )
    };
    let web = ingress(
        "web",
        &["a.example Prefix /"],
        "  tls: [{hosts: [a.example], secretName: web-tls}]\n",
        "",
    );
    let tls = "kubernetes.io/tls";
    assert_eq!(findings(&(web.clone() + &secret("web-tls", tls))), Vec::<String>::new());
    assert_eq!(
        findings(&(web.clone() + &secret("other", "Opaque"))),
        Vec::<String>::new()
    );
    let text = web + &secret("web-tsl", tls);
    assert_eq!(findings(&text), ["SecretUnused default/web-tsl Secret: metadata.name"]);
    assert!(messages(&text)[0].message.contains("an Ingress names web-tls"));
    let by_annotation = ingress(
        "web",
        &["a.example Prefix /"],
        "",
        ", annotations: {propylon.dev/backend-ca-secret: authorities}",
    );
    assert_eq!(
        findings(&(by_annotation + &secret("authorities", tls))),
        Vec::<String>::new()
    );
}

#[test]
fn slices_without_a_service_are_found() {
    let slice = |labels: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{{labels}}}}}\naddressType: \
             IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
        )
    };
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(
        findings(&(slice("kubernetes.io/service-name: web") + service)),
        Vec::<String>::new()
    );
    let text = slice("kubernetes.io/service-name: wbe") + service;
    assert_eq!(
        findings(&text),
        ["EndpointSliceWithoutService default/s EndpointSlice: metadata.labels[kubernetes.io/service-name]"]
    );
    assert!(messages(&text)[0].message.ends_with("did you mean web?"));
    assert_eq!(
        findings(&slice("")),
        ["EndpointSliceWithoutService default/s EndpointSlice: metadata.labels"]
    );
}

#[test]
fn annotations_of_others_and_near_misses_of_ours_are_found() {
    let with = |name: &str| {
        ingress(
            "web",
            &["a.example Prefix /"],
            "",
            &format!(", annotations: {{{name}: \"1\"}}"),
        )
    };
    let field = |name: &str| format!("default/web Ingress: metadata.annotations[{name}]");
    for name in [
        "haproxy.org/load-balance",
        "nginx.org/proxy-read-timeout",
        "traefik.ingress.kubernetes.io/router.tls",
    ] {
        assert_eq!(findings(&with(name)), [format!("AnnotationForeign {}", field(name))]);
    }
    for name in [
        "propylon.io/redirect-https",
        "proplyon.dev/request-timeout",
        "propylon.dev.io/retries",
    ] {
        assert_eq!(findings(&with(name)), [format!("AnnotationUnknown {}", field(name))]);
    }
    for name in [
        "example.com/team",
        "propylon.dev/request-timeout",
        "cert-manager.io/issuer",
        "nginx.ingress.kubernetes.io/app-root",
    ] {
        assert_eq!(findings(&with(name)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn no_finding_is_an_error() {
    let of_lint = "PRP0101".."PRP0200";
    let findings = ReportReason::ALL
        .iter()
        .filter(|(reason, _)| of_lint.contains(&reason.code()));
    for (reason, doc) in findings {
        assert_ne!(reason.severity(), Severity::Error, "{}", reason.as_str());
        assert!(doc.contains("`propylon lint`"), "{}", reason.as_str());
    }
}

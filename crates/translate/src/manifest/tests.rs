use super::*;

fn kinds(text: &str) -> Vec<String> {
    parse(text)
        .into_iter()
        .map(|object| match object {
            Ok(Object::Other {
                api_version,
                kind,
                name,
            }) => format!("other {api_version} {kind} {name}"),
            Ok(object) => object.key().unwrap().to_string(),
            Err(error) => format!("error {error}"),
        })
        .collect()
}

#[test]
fn documents_are_cut_at_their_marks() {
    let text = "# only a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n---   # empty\n\n--- \nkind: \
                Service\napiVersion: v1\nmetadata: {name: b, namespace: x}\n...\n";
    assert_eq!(kinds(text), ["default/a Service", "x/b Service"]);
}

#[test]
fn a_mistake_in_one_document_takes_nothing_from_the_others() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\na: [\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n";
    let kinds = kinds(text);
    assert_eq!(
        (kinds.len(), kinds[0].as_str(), kinds[2].as_str()),
        (3, "default/a Service", "default/b Service")
    );
    assert!(
        kinds[1].starts_with("error line 5") || kinds[1].starts_with("error line 6"),
        "{}",
        kinds[1]
    );
}

#[test]
fn lists_are_flattened_in_order() {
    let item = |name: &str| format!(r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}}}}"#);
    let list = format!(
        r#"{{"apiVersion":"v1","kind":"List","items":[{},{}]}}"#,
        item("a"),
        item("b")
    );
    assert_eq!(kinds(&list), ["default/a Service", "default/b Service"]);
    let typed = "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: web}\n";
    assert_eq!(kinds(typed), ["default/web Ingress"]);
}

#[test]
fn json_values_may_stand_in_a_row() {
    let one = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}"#;
    assert_eq!(kinds(&format!("{one}\n{one}")).len(), 2);
    assert!(kinds(&format!("{{\n\"a\":1}}\n{one}\n{{}}"))[2].starts_with("error line 3"));
}

#[test]
fn kinds_of_others_are_named_and_left_alone() {
    let text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n";
    assert_eq!(kinds(text), ["other serving.knative.dev/v1 Service a"]);
}

#[test]
fn an_old_api_version_says_what_to_write() {
    let text = "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: web}\n";
    assert_eq!(
        kinds(text),
        [
            "error line 1: Ingress 'web': apiVersion extensions/v1beta1 is not supported, write apiVersion: \
          networking.k8s.io/v1 (and name backends as service.name and service.port, and give each path a pathType)"
        ]
    );
}

#[test]
fn a_wrong_type_names_its_field() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec:\n  rules:\n  - http:\n      \
                paths:\n      - backend: {service: {name: a, port: {number: http}}}\n";
    let kinds = kinds(text);
    assert!(
        kinds[0].contains("spec.rules[0].http.paths[0].backend.service.port.number"),
        "{}",
        kinds[0]
    );
}

#[test]
fn folded_base64_is_read() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  key: |\n    aGVs\n    bG8=\n";
    let Ok(Object::Secret(secret)) = parse(text).remove(0) else {
        panic!("a Secret")
    };
    assert_eq!(secret.data.unwrap()["key"].0, b"hello");
}

#[test]
fn what_is_no_object_is_an_error() {
    assert_eq!(
        kinds("a: b\n"),
        ["error line 1: the document is no Kubernetes object: it needs apiVersion and kind"]
    );
    assert_eq!(
        kinds("- a\n"),
        ["error line 1: the document is no Kubernetes object: it needs apiVersion and kind"]
    );
    assert!(kinds("").is_empty());
    assert!(kinds("a: 1\na: 2\n")[0].contains("line 2"));
}

#[test]
fn the_value_of_a_secret_is_never_told() {
    for field in [
        "data: {a: not-base64-hunter2}",
        "stringData: {a: 424242}",
        "data: [hunter2]",
        "stringData: hunter2",
    ] {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{field}\n");
        let kinds = kinds(&text);
        assert!(kinds[0].starts_with("error line 1: Secret 'a': "), "{}", kinds[0]);
        assert!(
            !kinds[0].contains("hunter2") && !kinds[0].contains("424242"),
            "{}",
            kinds[0]
        );
    }
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {a: hunter2}}";
    assert_eq!(format!("{:?}", parse(text)), "[Ok(default/a Secret)]");
}

#[test]
fn words_that_yaml_takes_for_booleans_get_a_hint() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: no}\n";
    assert!(
        kinds(text)[0].ends_with("metadata.name: invalid type: boolean `false`, expected a string; write it in quotes")
    );
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {publishNotReadyAddresses: yes}\n";
    assert_eq!(kinds(text), ["default/a Service"]);
}

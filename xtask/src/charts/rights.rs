//! Rights: the roles that are rendered, against the tables of `docs/rbac.md`, and rights that nobody may have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::documents::Document;

/// The tables of `docs/rbac.md`.
pub(super) const SECTIONS: &[Section] = &[
    Section::of("controller", "default"),
    Section::of("controller", "namespaced-secrets"),
    Section::of("controller", "everything"),
    Section::of("test", "default"),
    Section::of("uninstall", "default"),
];

/// A table: `<!-- rights: COMPONENT CASE -->` stands before it. Those of other cases than `default` list what they have
/// beyond that one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    component: &'static str,
    /// Name of the case whose roles it lists.
    pub(super) case: &'static str,
}

impl Section {
    const fn of(component: &'static str, case: &'static str) -> Self {
        Self { component, case }
    }

    /// The case whose rights it does not list again.
    pub(super) fn base(&self) -> Option<&'static str> {
        (self.case != DEFAULT).then_some(DEFAULT)
    }
}

const DEFAULT: &str = "default";

/// One line of a table: where, API group, resources, names, verbs.
type Right = [String; 5];

/// Verbs that give more than they say.
const ESCALATING: &[&str] = &["*", "bind", "deletecollection", "escalate", "impersonate"];

/// Rows that are missing in the table of a section, and rows that are there for nothing.
pub(super) fn faults(page: &str, section: &Section, documents: &[Document], base: &[Document]) -> Vec<String> {
    let title = format!("docs/rbac.md, {} {}", section.component, section.case);
    let Some(listed) = listed(page, section) else {
        return vec![format!("{title}: there is no table")];
    };
    let base = rendered(base, section.component);
    let rendered: BTreeSet<Right> = rendered(documents, section.component)
        .difference(&base)
        .cloned()
        .collect();
    let show = |right: &Right| right.join(" | ");
    let absent = rendered
        .difference(&listed)
        .map(|right| format!("{title}: not listed: {}", show(right)));
    let gone = listed
        .difference(&rendered)
        .map(|right| format!("{title}: not rendered: {}", show(right)));
    absent.chain(gone).collect()
}

/// Rights that no component may have, whatever the values.
pub(super) fn excess(documents: &[Document]) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        let title = document.title();
        for rule in rules(document) {
            let (resources, verbs) = (strings(rule, "resources"), strings(rule, "verbs"));
            let groups = strings(rule, "apiGroups");
            if groups.iter().chain(&resources).any(|name| name == "*") {
                faults.push(format!("{title}: everything of a kind"));
            }
            let escalating = verbs.iter().filter(|verb| ESCALATING.contains(&verb.as_str()));
            faults.extend(escalating.map(|verb| format!("{title}: the verb {verb}")));
            let is_for_secrets = document.kind() == "ClusterRole" && resources.iter().any(|name| name == "secrets");
            if is_for_secrets && !document.name().ends_with("-controller-secrets") {
                faults.push(format!("{title}: Secrets of all namespaces"));
            }
        }
        for subject in list(&document.value, "subjects") {
            if subject.get("name").and_then(Value::as_str) == Some("propylon-proxy") {
                faults.push(format!("{title}: the proxy has rights"));
            }
        }
        faults.extend(
            token_faults(document)
                .into_iter()
                .map(|fault| format!("{title}: {fault}")),
        );
    }
    faults
}

/// A proxy has no token but the one that the API server refuses.
fn token_faults(document: &Document) -> Vec<String> {
    let Some(pod) = document.pod() else {
        return Vec::new();
    };
    let component = pod.pointer("/metadata/labels/app.kubernetes.io~1component");
    if component.and_then(Value::as_str) != Some("proxy") {
        return Vec::new();
    }
    let mut faults = Vec::new();
    if pod.pointer("/spec/automountServiceAccountToken") != Some(&Value::Bool(false)) {
        faults.push("the token of its account is mounted".to_owned());
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let sources = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.pointer("/projected/sources"));
    let tokens = sources.filter_map(Value::as_array).flatten();
    for token in tokens.filter_map(|source| source.get("serviceAccountToken")) {
        if token.get("audience").and_then(Value::as_str) != Some("propylon-controller") {
            faults.push("a token is mounted that is not for the controller".to_owned());
        }
    }
    faults
}

/// The rows of the table that the comment of a section stands before.
fn listed(page: &str, section: &Section) -> Option<BTreeSet<Right>> {
    let marker = format!("<!-- rights: {} {} -->", section.component, section.case);
    let (_, rest) = page.split_once(&marker)?;
    let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    Some(rows.filter_map(row).collect())
}

/// The first five cells of a row; code marks count for nothing.
fn row(line: &str) -> Option<Right> {
    let line = line.replace('`', "");
    let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
    let mut next = || cells.next();
    Some([next()?, next()?, next()?, next()?, next()?])
}

fn rendered(documents: &[Document], component: &str) -> BTreeSet<Right> {
    let is_of = |document: &&Document| document.text("/metadata/labels/app.kubernetes.io~1component") == component;
    let mut rights = BTreeSet::new();
    for document in documents.iter().filter(is_of) {
        let place = match (document.kind(), document.text("/metadata/namespace")) {
            ("ClusterRole", _) => "cluster",
            ("Role", "propylon-system") => "release",
            ("Role", other) => other,
            _ => continue,
        };
        for rule in rules(document) {
            let cell = |field| strings(rule, field).join(", ");
            let group = match cell("apiGroups") {
                core if core.is_empty() => "core".to_owned(),
                other => other,
            };
            rights.insert([
                place.to_owned(),
                group,
                cell("resources"),
                cell("resourceNames"),
                cell("verbs"),
            ]);
        }
    }
    rights
}

fn rules(document: &Document) -> &[Value] {
    list(&document.value, "rules")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings(value: &Value, field: &str) -> Vec<String> {
    list(value, field)
        .iter()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "kind: ClusterRole\nmetadata: {name: a, labels: {app.kubernetes.io/component: controller}}\n\
                        rules: [{apiGroups: [''], resources: [pods, services], verbs: [get, list]}]\n";

    fn parse(text: &str) -> Vec<Document> {
        super::super::documents::parse(text).expect("YAML")
    }

    #[test]
    fn a_table_is_held_against_the_roles() {
        let section = Section::of("controller", "default");
        let page = |row: &str| format!("<!-- rights: controller default -->\n\n| a | b |\n|---|---|\n{row}\n\ntext");
        let right = page("| cluster | core | `pods`, `services` |  | get, list | why |");
        assert_eq!(faults(&right, &section, &parse(ROLE), &[]), [""; 0]);
        let wrong = faults(
            &page("| cluster | core | pods |  | get | why |"),
            &section,
            &parse(ROLE),
            &[],
        );
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert_eq!(
            faults("", &section, &parse(ROLE), &[]),
            ["docs/rbac.md, controller default: there is no table"]
        );
    }

    #[test]
    fn too_much_is_found() {
        let text = "kind: ClusterRole\nmetadata: {name: a}\nrules: [{apiGroups: ['*'], resources: [secrets], verbs: [bind]}]\n---\n\
                    kind: RoleBinding\nmetadata: {name: b}\nsubjects: [{name: propylon-proxy}]\n---\n\
                    kind: DaemonSet\nmetadata: {name: c}\nspec: {template: {metadata: {labels: {app.kubernetes.io/component: proxy}}, \
                    spec: {volumes: [{projected: {sources: [{serviceAccountToken: {path: t}}]}}]}}}\n";
        assert_eq!(
            excess(&parse(text)),
            [
                "ClusterRole a: everything of a kind",
                "ClusterRole a: the verb bind",
                "ClusterRole a: Secrets of all namespaces",
                "RoleBinding b: the proxy has rights",
                "DaemonSet c: the token of its account is mounted",
                "DaemonSet c: a token is mounted that is not for the controller",
            ]
        );
    }
}

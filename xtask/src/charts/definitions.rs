//! The templates of `charts/propylon-crds`, from the types of `propylon-crds`.

/// File and text of each template: the definition, and the annotation that keeps it when the release goes.
pub(super) fn templates() -> Vec<(String, String)> {
    let definitions = propylon_crds::definitions().into_iter();
    definitions.map(|(file, text)| (file, template(&text))).collect()
}

/// The definition with the labels and annotations that the chart adds; where it has template actions of its own (`{{` in a
/// description), they stay text.
fn template(definition: &str) -> String {
    let escaped = definition.replace("{{", "{{ \"{{\" }}");
    let (before, after) = escaped.split_once("\nmetadata:\n").unwrap_or((&escaped, ""));
    let (comment, before) = before.split_once('\n').unwrap_or(("", before));
    let from = comment.split_once(':').map_or(comment, |(from, _)| from);
    format!("{from}: cargo xtask charts --write\n{before}\nmetadata:\n{METADATA}{after}")
}

const METADATA: &str = r#"  labels:
    {{- include "propylon-crds.labels" . | nindent 4 }}
  {{- if .Values.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_gets_labels_and_keeps_its_name() {
        let text = template(
            "# Generated from crds/src: how\napiVersion: v1\nkind: C\nmetadata:\n  name: a\nspec:\n  doc: \"{{x}}\"\n",
        );
        assert!(
            text.starts_with("# Generated from crds/src: cargo xtask charts --write\napiVersion: v1\n"),
            "{text}"
        );
        assert!(text.contains("metadata:\n  labels:\n"), "{text}");
        assert!(text.contains("  {{- end }}\n  name: a\nspec:\n"), "{text}");
        assert!(text.contains(r#"{{ "{{" }}x}}"#), "{text}");
    }
}

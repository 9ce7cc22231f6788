//! The lines on which the fields of a document stand.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::Document;

/// The lines of a document's fields.
///
/// # Cost
/// Making it reads the document once more; make it only for documents that there is something to say about.
#[derive(Clone, Debug)]
pub struct Lines {
    first: u64,
    root: Option<Spanned<Node>>,
}

/// A value with the lines of what it holds.
#[derive(Clone, Debug)]
enum Node {
    Map(BTreeMap<String, (u64, Self)>),
    Scalar,
    Sequence(Vec<(u64, Self)>),
}

impl Lines {
    /// Finds the lines of a document. Of one that does not parse, only the first line is known.
    pub fn of(document: &Document<'_>) -> Self {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000 },
            with_snippet: false,
        };
        let root = serde_saphyr::from_str_with_options(document.text, options).ok();
        Self {
            first: document.line,
            root,
        }
    }

    /// The line of a field such as `spec.rules[0].host` or `metadata.annotations[example.com/name]`, from 1 in the text
    /// that the document is of. Where there is no such field, that of the nearest one that should hold it.
    pub fn line(&self, path: &str) -> u64 {
        let Some(root) = &self.root else { return self.first };
        let mut node = &root.value;
        let mut line = match node {
            // Comments and the `---` before the first field are not what is meant.
            Node::Map(fields) => fields.values().map(|(line, _)| *line).min().unwrap_or(1),
            Node::Scalar | Node::Sequence(_) => root.referenced.line(),
        };
        for step in Steps(path) {
            let next = match node {
                Node::Map(fields) => fields.get(step),
                Node::Scalar => None,
                Node::Sequence(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            };
            let Some((at, below)) = next else { break };
            (line, node) = (*at, below);
        }
        self.first.saturating_add(line).saturating_sub(1)
    }
}

/// The steps of a path: the names between its dots, and what stands in its brackets.
struct Steps<'a>(&'a str);

impl<'a> Iterator for Steps<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches('.');
        if self.0.is_empty() {
            return None;
        }
        let (step, rest) = if let Some(inner) = self.0.strip_prefix('[') {
            inner.split_once(']').unwrap_or((inner, ""))
        } else {
            let end = self.0.find(['.', '[']).unwrap_or(self.0.len());
            self.0.split_at(end)
        };
        self.0 = rest;
        Some(step)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(Spanned { value, referenced, .. }) = sequence.next_element::<Spanned<Node>>()? {
            items.push((referenced.line(), value));
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(Spanned {
            value: name,
            referenced,
            ..
        }) = map.next_key::<Spanned<String>>()?
        {
            fields.insert(name, (referenced.line(), map.next_value()?));
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parse_documents, *};

    fn lines(text: &str) -> Vec<Lines> {
        parse_documents(text).iter().map(Lines::of).collect()
    }

    #[test]
    fn fields_are_found_in_block_and_flow_style() {
        let text = "# a comment\n---\n# another\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n    \
                    example.com/a.b: \"1\"\nspec:\n  ports:\n  - port: 80\n    name: http\n  - {port: 81,\n     name: other}\n";
        let lines = &lines(text)[0];
        for (path, line) in [
            ("", 4),
            ("kind", 5),
            ("metadata.annotations[example.com/a.b]", 9),
            ("spec.ports[0]", 12),
            ("spec.ports[0].name", 13),
            ("spec.ports[1].port", 14),
            ("spec.ports[1].name", 15),
        ] {
            assert_eq!(lines.line(path), line, "{path}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_is_on_the_line_of_what_should_hold_it() {
        let lines = &lines("apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - port: 80\n")[0];
        assert_eq!(lines.line("spec.ports[0].name"), 5);
        assert_eq!(lines.line("spec.ports[7].name"), 4);
        assert_eq!(lines.line("metadata.name"), 1);
    }

    #[test]
    fn lines_count_in_the_whole_text() {
        let text = "apiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n\
                    - apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n---\nbroken: [\n";
        let documents = parse_documents(text);
        let paths: Vec<Vec<&str>> = documents
            .iter()
            .map(|document| document.items.iter().map(|item| &*item.path).collect())
            .collect();
        assert_eq!(paths, [vec![""], vec!["items[0]", "items[1]"], vec![""]]);
        assert_eq!(lines("\n---\n\n# nothing\n- a\n")[0].line(""), 5);
        assert_eq!(lines("---\ntext\n")[0].line(""), 2);
        let lines = lines(text);
        assert_eq!(lines[1].line("items[0]"), 7);
        assert_eq!(lines[1].line("items[1].metadata.name"), 11);
        assert_eq!(lines[2].line("spec"), 12);
    }

    #[test]
    fn json_has_lines_too() {
        let text = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Service\",\n  \"spec\": {\n    \"ports\": [\n      \
                    {\"port\": 80}]}}\n{\"apiVersion\": \"v1\", \"kind\": \"Secret\"}";
        let lines = lines(text);
        assert_eq!(lines[0].line("spec.ports[0].port"), 6);
        assert_eq!(lines[1].line("kind"), 7);
    }

    #[test]
    fn aliases_and_tags_do_no_harm() {
        let lines = &lines("a: &x\n  b: 1\nc: *x\nd: !!binary AAAA\ne: !thing {f: ~}\ng: 1.5\n")[0];
        assert_eq!(lines.line("c.b"), 3);
        assert_eq!(lines.line("e.f"), 5);
        assert_eq!(lines.line("g"), 6);
    }
}

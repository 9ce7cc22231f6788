//! Which namespaces or Services a pool is for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses objects by name and by label; all parts that are given must hold. An empty selector chooses every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSelector {
    /// The object's name is one of these. Empty: any name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    pub names: Vec<String>,
    /// The object has all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// The object's labels meet all of these requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<Expression>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expression {
    /// The label's name.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// What is asked of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is not there.
    DoesNotExist,
    /// The label is there.
    Exists,
    /// The label is there with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
}

impl PoolSelector {
    /// Whether an object is chosen.
    pub fn chooses(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        (self.names.is_empty() || self.names.iter().any(|wanted| wanted == name))
            && self
                .match_labels
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.holds(labels))
    }
}

impl Expression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::DoesNotExist => value.is_none(),
            Operator::Exists => value.is_some(),
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("team".to_owned(), "a".to_owned()),
            ("tier".to_owned(), "edge".to_owned()),
        ])
    }

    fn chooses(json: serde_json::Value) -> bool {
        let selector: PoolSelector = serde_json::from_value(json).unwrap();
        selector.chooses("web", &labels())
    }

    #[test]
    fn all_parts_must_hold() {
        use serde_json::json;
        assert!(chooses(json!({})));
        assert!(chooses(json!({"names": ["db", "web"]})));
        assert!(!chooses(json!({"names": ["db"]})));
        assert!(chooses(json!({"names": ["web"], "matchLabels": {"team": "a"}})));
        assert!(!chooses(json!({"names": ["web"], "matchLabels": {"team": "b"}})));
        for (operator, values, holds) in [
            ("In", json!(["a", "b"]), true),
            ("In", json!(["b"]), false),
            ("NotIn", json!(["b"]), true),
            ("NotIn", json!(["a"]), false),
            ("Exists", json!([]), true),
            ("DoesNotExist", json!([]), false),
        ] {
            let expression = json!({"key": "team", "operator": operator, "values": values});
            assert_eq!(
                chooses(json!({"matchExpressions": [expression]})),
                holds,
                "{operator} {values}"
            );
        }
        assert!(chooses(
            json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]})
        ));
    }
}

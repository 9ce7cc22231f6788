//! The index over the rules of a crowded host.

use std::collections::HashMap;

use matchit::{InsertError, Router};

/// Positions of rules by path: a hash map for the exact ones, a tree for the prefixes.
pub(crate) struct Index {
    exact: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    prefixes: Router<usize>,
}

impl Index {
    /// Makes the index of rules in match order, the first `exact_count` of which are exact; each path once, prefixes
    /// without their trailing slash.
    ///
    /// # Errors
    /// When the tree does not take a path, which no path in normal form brings about. Not retryable.
    pub(crate) fn new(paths: &[&str], exact_count: usize) -> Result<Self, InsertError> {
        let mut index = Self {
            exact: HashMap::default(),
            prefixes: Router::new(),
        };
        for (position, path) in paths.iter().enumerate() {
            if position < exact_count {
                index.exact.insert((*path).into(), position);
            } else {
                index.insert_prefix(path, position)?;
            }
        }
        Ok(index)
    }

    /// Whether the index is worth its memory (1 KB for each prefix); below, a scan is as fast (measured).
    pub(crate) fn is_worthwhile(exact_count: usize, prefix_count: usize) -> bool {
        exact_count > MAX_EXACT_SCAN || prefix_count > MAX_PREFIX_SCAN
    }

    /// The position of the rule that matches: the exact one, else the longest prefix.
    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        let prefix = || self.prefixes.at(path).ok().map(|matched| *matched.value);
        self.exact.get(path).copied().or_else(prefix)
    }

    fn insert_prefix(&mut self, path: &str, position: usize) -> Result<(), InsertError> {
        // An unescaped brace would be a wildcard, and take another's traffic.
        let literal = path.replace('{', "{{").replace('}', "}}");
        self.prefixes.insert(format!("{literal}/"), position)?;
        self.prefixes.insert(format!("{literal}/{{*rest}}"), position)?;
        if literal.is_empty() {
            return Ok(());
        }
        self.prefixes.insert(literal, position)
    }
}

const MAX_EXACT_SCAN: usize = 8;
const MAX_PREFIX_SCAN: usize = 16;

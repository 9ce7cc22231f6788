//! The paths of one host: exact ones and element-wise prefixes.

use std::{collections::HashMap, sync::Arc};

use matchit::Router;

use crate::route::Route;

/// A path and its route.
pub(crate) struct Entry<T> {
    /// The whole path, or the prefix without its trailing slash.
    pub(crate) path: Arc<str>,
    /// The route.
    pub(crate) route: Arc<Route<T>>,
}

/// The `Exact` rules of a host.
pub(crate) struct ExactPaths<T> {
    entries: Box<[Entry<T>]>,
    /// Positions by path, where there are more than [`MAX_EXACT_SCAN`].
    index: Option<HashMap<Arc<str>, usize, foldhash::fast::RandomState>>,
}

impl<T> ExactPaths<T> {
    /// Takes entries with different paths, in the order in which they are to be listed.
    pub(crate) fn new(entries: Vec<Entry<T>>) -> Self {
        let index = (entries.len() > MAX_EXACT_SCAN).then(|| {
            let positions = entries.iter().enumerate();
            positions
                .map(|(position, entry)| (Arc::clone(&entry.path), position))
                .collect()
        });
        Self {
            entries: entries.into(),
            index,
        }
    }

    /// The route of the path.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route<T>>> {
        let entry = match &self.index {
            Some(index) => self.entries.get(*index.get(path)?),
            None => self.entries.iter().find(|entry| *entry.path == *path),
        };
        entry.map(|entry| &entry.route)
    }

    /// The entries in the given order.
    pub(crate) fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }
}

/// The `Prefix` rules of a host.
pub(crate) struct PrefixPaths<T> {
    entries: Box<[Entry<T>]>,
    /// Positions by path, where there are more than [`MAX_PREFIX_SCAN`].
    tree: Option<Box<Router<usize>>>,
}

impl<T> PrefixPaths<T> {
    /// Takes entries with different paths, the longest first.
    pub(crate) fn new(entries: Vec<Entry<T>>) -> Self {
        // A tree that cannot be built is no reason to lose a host: the scan gives the same answers.
        let tree = (entries.len() > MAX_PREFIX_SCAN)
            .then(|| tree_of(&entries).ok().map(Box::new))
            .flatten();
        Self {
            entries: entries.into(),
            tree,
        }
    }

    /// The route of the longest prefix of the path.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route<T>>> {
        let entry = match &self.tree {
            Some(tree) => self.entries.get(*tree.at(path).ok()?.value),
            None => self.entries.iter().find(|entry| is_prefix(&entry.path, path)),
        };
        entry.map(|entry| &entry.route)
    }

    /// The entries, the longest first.
    pub(crate) fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }
}

fn is_prefix(prefix: &str, path: &str) -> bool {
    path.as_bytes()
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
}

fn tree_of<T>(entries: &[Entry<T>]) -> Result<Router<usize>, matchit::InsertError> {
    let mut tree = Router::new();
    for (position, entry) in entries.iter().enumerate() {
        // An unescaped brace would be a wildcard, and take another's traffic.
        let literal = entry.path.replace('{', "{{").replace('}', "}}");
        tree.insert(format!("{literal}/"), position)?;
        tree.insert(format!("{literal}/{{*rest}}"), position)?;
        if !literal.is_empty() {
            tree.insert(literal, position)?;
        }
    }
    Ok(tree)
}

/// Up to here a scan is as fast as a hash map and smaller.
const MAX_EXACT_SCAN: usize = 8;

/// Up to here a scan is as fast as a tree (measured), which takes 1 KB for each rule.
const MAX_PREFIX_SCAN: usize = 16;

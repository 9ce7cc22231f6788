//! The requests that two tables cannot tell apart: hosts by pattern, paths by the rules' boundaries.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use propylon_model::{HostName, HostPattern, PathMatch};

use crate::table::RouteTable;

/// Hosts that every rule of both tables treats alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostClass {
    /// One host that a rule names.
    Exact(HostName),
    /// The hosts one label below a suffix that no rule names exactly.
    Wildcard(HostName),
    /// Every other host, and requests without one.
    Other,
}

/// The pattern, or `(any other host)`.
impl fmt::Display for HostClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name.as_str()),
            Self::Wildcard(suffix) => write!(formatter, "*.{suffix}"),
            Self::Other => formatter.write_str("(any other host)"),
        }
    }
}

/// Paths of one host that every rule of both tables treats alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathClass {
    /// One path that an `Exact` rule names.
    Exact(String),
    /// A prefix (without a trailing slash; empty for `/`) and what is below it, but for the other classes.
    Below(String),
    /// What no rule matches.
    Elsewhere,
}

/// `= /path`, `/path/*`, or `(any other path)`.
impl fmt::Display for PathClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(formatter, "= {path}"),
            Self::Below(prefix) => write!(formatter, "{prefix}/*"),
            Self::Elsewhere => formatter.write_str("(any other path)"),
        }
    }
}

/// One class of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// The hosts.
    pub host: HostClass,
    /// The paths.
    pub path: PathClass,
}

/// Every class of the requests of two tables. Each request is in exactly one; the requests of a class get the same route,
/// in either table.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    hosts: BTreeMap<HostClass, Boundaries>,
}

/// Where the rules that apply to a class of hosts divide the paths.
#[derive(Clone, Debug, Default)]
struct Boundaries {
    exact: BTreeSet<String>,
    /// Without trailing slashes.
    prefixes: BTreeSet<String>,
}

impl Classes {
    /// The classes of two tables.
    ///
    /// # Cost
    /// n log n in the rules of both; rules of wildcards and without a host count once for each table and pattern.
    pub fn of<T, U>(old: &RouteTable<T>, new: &RouteTable<U>) -> Self {
        let mut hosts: BTreeSet<HostClass> = BTreeSet::from([HostClass::Other]);
        hosts.extend(old.hosts().chain(new.hosts()).filter_map(|host| match host {
            HostPattern::Any => None,
            HostPattern::Exact(name) => Some(HostClass::Exact(name)),
            HostPattern::Wildcard(suffix) => Some(HostClass::Wildcard(suffix)),
        }));
        let mut classes = Self {
            hosts: hosts.iter().map(|host| (host.clone(), Boundaries::default())).collect(),
        };
        for host in hosts {
            let example = classes.host_example(&host);
            let mut boundaries = Boundaries::default();
            old.paths_of(&example).for_each(|path| boundaries.add(path));
            new.paths_of(&example).for_each(|path| boundaries.add(path));
            classes.hosts.insert(host, boundaries);
        }
        classes
    }

    /// The class of a request: a canonical host (empty for none) and a path in normal form.
    pub fn class_of(&self, host: &str, path: &str) -> Class {
        let host = self.host_class(host);
        let path = self
            .hosts
            .get(&host)
            .map_or(PathClass::Elsewhere, |boundaries| boundaries.class_of(path));
        Class { host, path }
    }

    /// Every class with a request of it: a host and a path in normal form, which no rule names for its own sake.
    pub fn examples(&self) -> impl Iterator<Item = (Class, String, String)> {
        self.hosts.iter().flat_map(|(host, boundaries)| {
            let example = self.host_example(host);
            boundaries.examples().map(move |(path, example_path)| {
                let class = Class {
                    host: host.clone(),
                    path,
                };
                (class, example.clone(), example_path)
            })
        })
    }

    fn host_class(&self, host: &str) -> HostClass {
        let known = |class: HostClass| self.hosts.contains_key(&class).then_some(class);
        let exact = || known(HostClass::Exact(HostName::parse(host).ok()?)).filter(|_| !host.ends_with('.'));
        let wildcard = || {
            let (label, suffix) = host.split_once('.')?;
            known(HostClass::Wildcard(HostName::parse(suffix).ok()?)).filter(|_| !label.is_empty())
        };
        exact().or_else(wildcard).unwrap_or(HostClass::Other)
    }

    /// A host of the class.
    fn host_example(&self, class: &HostClass) -> String {
        match class {
            HostClass::Exact(name) => name.as_str().to_owned(),
            // One of so many names is not among those that the rules name.
            HostClass::Wildcard(suffix) => (0..=self.hosts.len())
                .map(|number| format!("any{number}.{suffix}"))
                .find(|host| self.host_class(host) == *class)
                .unwrap_or_default(),
            // A request without a host is one of these, whatever the rules name.
            HostClass::Other => String::new(),
        }
    }
}

impl Boundaries {
    fn add(&mut self, path: &PathMatch) {
        match path {
            PathMatch::Exact(path) => self.exact.insert(path.as_str().to_owned()),
            PathMatch::Prefix(path) => self.prefixes.insert(path.without_trailing_slash().to_owned()),
        };
    }

    fn class_of(&self, path: &str) -> PathClass {
        if self.exact.contains(path) {
            return PathClass::Exact(path.to_owned());
        }
        // The prefixes of a path end where an element ends: the longest is looked for first.
        let ends = std::iter::once(path.len()).chain(path.rmatch_indices('/').map(|(end, _)| end));
        let prefix = ends
            .filter_map(|end| path.get(..end))
            .find(|prefix| self.prefixes.contains(*prefix));
        prefix.map_or(PathClass::Elsewhere, |prefix| PathClass::Below(prefix.to_owned()))
    }

    fn examples(&self) -> impl Iterator<Item = (PathClass, String)> {
        let exact = self
            .exact
            .iter()
            .map(|path| (PathClass::Exact(path.clone()), path.clone()));
        let fresh = self.fresh();
        let below = {
            let fresh = fresh.clone();
            self.prefixes
                .iter()
                .map(move |prefix| (PathClass::Below(prefix.clone()), format!("{prefix}/{fresh}")))
        };
        let elsewhere = (!self.prefixes.contains("")).then(|| (PathClass::Elsewhere, format!("/{fresh}")));
        exact.chain(below).chain(elsewhere)
    }

    /// An element that stands in no rule.
    fn fresh(&self) -> String {
        let texts = || self.exact.iter().chain(&self.prefixes);
        let longest = texts().map(String::len).max().unwrap_or(0);
        let short = ["any", "any-path", "any-other-path"].into_iter().map(str::to_owned);
        short
            .chain(std::iter::once("x".repeat(longest + 1)))
            .find(|element| texts().all(|text| !text.split('/').any(|other| other == element)))
            .unwrap_or_default()
    }
}

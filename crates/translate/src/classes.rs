//! Which Ingresses are served, by their class.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::networking::v1::{Ingress, IngressClass},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use propylon_model::{Kind, ObjectRef};

use crate::{
    reports::name_some,
    settings::Settings,
    world::{Key, Options, World},
};

/// The controller that an `IngressClass` of ours names.
const CONTROLLER: &str = "propylon.dev/ingress-controller";
pub(crate) const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
pub(crate) const LEGACY_CLASS: &str = "kubernetes.io/ingress.class";

/// An Ingress that is served.
pub(crate) struct Served<'a> {
    pub(crate) key: &'a Key,
    pub(crate) ingress: &'a Ingress,
    pub(crate) object: ObjectRef,
    pub(crate) created_unix_s: Option<i64>,
    /// The annotation for which every request is refused.
    pub(crate) restriction: Option<Arc<str>>,
    pub(crate) settings: Settings,
}

/// The Ingresses that are served by their class, oldest first; ties and undated ones by namespace and name. Their
/// annotations are not read.
pub(crate) fn served<'a>(world: &'a World, options: &'a Options) -> Vec<Served<'a>> {
    let classes = Classes::new(world, options);
    let ours = world.ingresses.iter();
    let ours = ours.filter(|(_, ingress)| classes.decide(ingress).is_ok());
    let mut served: Vec<Served<'_>> = ours
        .map(|(key, ingress)| Served {
            key,
            ingress,
            object: ObjectRef::new(Kind::Ingress, key.namespace.clone(), key.name.clone()),
            created_unix_s: created_unix_s(&ingress.metadata),
            restriction: None,
            settings: Settings::default(),
        })
        .collect();
    served.sort_by_key(|served| age(served.created_unix_s, served.key));
    served
}

/// How old an object is, in the order of "the oldest wins".
pub(crate) type Age = (bool, Option<i64>, Key);

/// Sort key of "the oldest wins": dated before undated, then by namespace and name.
pub(crate) fn age(created_unix_s: Option<i64>, key: &Key) -> Age {
    (created_unix_s.is_none(), created_unix_s, key.clone())
}

pub(crate) fn created_unix_s(metadata: &ObjectMeta) -> Option<i64> {
    metadata.creation_timestamp.as_ref().map(|time| time.0.as_second())
}

/// Whether an Ingress is served, as far as its class decides.
pub fn is_ours(ingress: &Ingress, classes: &BTreeMap<Key, Arc<IngressClass>>, options: &Options) -> bool {
    let classes = Classes { all: classes, options };
    classes.decide(ingress).is_ok()
}

/// The classes, and which of them are ours.
pub(crate) struct Classes<'a> {
    all: &'a BTreeMap<Key, Arc<IngressClass>>,
    options: &'a Options,
}

impl<'a> Classes<'a> {
    pub(crate) const fn new(world: &'a World, options: &'a Options) -> Self {
        Self {
            all: &world.ingress_classes,
            options,
        }
    }

    /// Whether the Ingress is served; if not, why.
    pub(crate) fn decide(&self, ingress: &Ingress) -> Result<(), String> {
        if self.all.is_empty() && self.options.ingress_classes.is_empty() {
            return Ok(());
        }
        let field = ingress
            .spec
            .as_ref()
            .and_then(|spec| spec.ingress_class_name.as_deref());
        let legacy = ingress
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(LEGACY_CLASS))
            .map(String::as_str);
        let given = field
            .map(|name| ("spec.ingressClassName".to_owned(), name))
            .or_else(|| legacy.map(|name| (format!("metadata.annotations[{LEGACY_CLASS}]"), name)))
            .filter(|(_, name)| !name.is_empty());
        match given {
            Some((place, name)) => self.decide_class(name).map_err(|why| format!("{place}: {why}")),
            None => match self.default_class() {
                Some(name) => self
                    .decide_class(name)
                    .map_err(|why| format!("spec.ingressClassName is not set, so the default applies: {why}")),
                None => Err(format!(
                    "spec.ingressClassName is not set and no IngressClass is the default; name one of {}, or annotate one \
                     with {DEFAULT_CLASS}: \"true\"",
                    name_some(self.ours())
                )),
            },
        }
    }

    fn decide_class(&self, name: &str) -> Result<(), String> {
        let wanted = &self.options.ingress_classes;
        if !wanted.is_empty() {
            let named = wanted.iter().any(|class| class == name);
            let why = || {
                format!(
                    "class '{name}' is not among those of --ingress-class ({}), so it is not served",
                    name_some(wanted)
                )
            };
            return if named { Ok(()) } else { Err(why()) };
        }
        match self.all.get(&Key::new("", name)) {
            None => Err(format!(
                "IngressClass '{name}' does not exist, so the Ingress is not served; the classes of {CONTROLLER} are {}",
                name_some(self.ours())
            )),
            Some(class) => match controller(class) {
                CONTROLLER => Ok(()),
                other => Err(format!(
                    "IngressClass '{name}' belongs to the controller {other}, not to {CONTROLLER}"
                )),
            },
        }
    }

    /// The default class as the API server's admission chooses it: the newest, ties by name.
    fn default_class(&self) -> Option<&str> {
        let is_default = |class: &IngressClass| {
            class
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(DEFAULT_CLASS))
                .is_some_and(|value| value == "true")
        };
        let defaults = self.all.iter().filter(|(_, class)| is_default(class));
        defaults
            .min_by_key(|(key, class)| (Reverse(created_unix_s(&class.metadata)), *key))
            .map(|(key, _)| &*key.name)
    }

    fn ours(&self) -> Vec<&str> {
        if !self.options.ingress_classes.is_empty() {
            return self.options.ingress_classes.iter().map(String::as_str).collect();
        }
        self.all
            .iter()
            .filter(|(_, class)| controller(class) == CONTROLLER)
            .map(|(key, _)| &*key.name)
            .collect()
    }
}

fn controller(class: &IngressClass) -> &str {
    class
        .spec
        .as_ref()
        .and_then(|spec| spec.controller.as_deref())
        .unwrap_or_default()
}

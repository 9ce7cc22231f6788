//! One compiled route.

use propylon_model::{Action, HostPattern, ObjectRef, PathMatch, RoutePolicy, RulePosition};

/// What is done with the requests of one rule, or of one default backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<T> {
    /// The object that it comes from.
    pub source: ObjectRef,
    /// The host of the rule.
    pub host: HostPattern,
    /// What the rule matches; none for a default backend.
    pub path: Option<PathMatch>,
    /// Where the rule stands in the object; none for a default backend.
    pub position: Option<RulePosition>,
    /// What is done.
    pub action: Action,
    /// Timeouts.
    pub policy: RoutePolicy,
    /// Whether plain HTTP is answered with 308 to HTTPS.
    pub redirect_https: bool,
    /// What the caller of the compiler made for the action: the proxy's handle of the pool.
    pub target: T,
}

/// What a target is made for, beside its group: one rule of the group, or its default backend.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What the rule matches; none for a default backend.
    pub path: Option<&'a PathMatch>,
    /// What is done.
    pub action: &'a Action,
}

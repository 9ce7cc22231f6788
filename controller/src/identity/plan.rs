//! When the certificate authority is made, published, and replaced: a function of what is known and of the time.
//!
//! An authority lives through four states: published (the proxies are told to trust it), signing, retired (it signs no more,
//! and what it signed is still trusted), forgotten. [`decide`] gives the next step of the leader; each step is one write
//! that is safe to repeat and to be interrupted after.

use std::{collections::BTreeSet, time::Duration};

/// SHA-256 of an authority's certificate.
pub type Fingerprint = [u8; 32];

/// How long things last. Defaults: an authority 1 year, replaced with a third of it left; overlap 1 h; leaves 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long an authority is valid.
    pub authority: Duration,
    /// How long a new authority is published before it signs: longer than a kubelet takes to bring a changed `ConfigMap` to
    /// the pods (up to about 2 minutes).
    pub overlap: Duration,
    /// How long the certificates that it signs are valid.
    pub leaf: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            authority: Duration::from_hours(365 * 24),
            overlap: Duration::from_hours(1),
            leaf: Duration::from_hours(24),
        }
    }
}

impl Times {
    /// How long before the end of an authority the next one is made: a third of its life.
    pub fn lead(&self) -> Duration {
        self.authority / 3
    }
}

/// An authority's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// The last second of its validity.
    pub not_after_unix_s: i64,
}

/// The authority that will sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its certificate.
    pub root: Root,
    /// Since when the proxies can know it; none until it has been published.
    pub published_unix_s: Option<i64>,
}

/// An authority that signs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Its certificate.
    pub root: Root,
    /// Until when certificates of it may be in use.
    pub until_unix_s: i64,
}

/// What the Secret of the authority says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The one that signs.
    pub signing: Root,
    /// The one that will.
    pub next: Option<Next>,
    /// Those that did.
    pub retired: Vec<Retired>,
    /// Whether somebody asked for a new one.
    pub is_rotation_requested: bool,
}

impl State {
    /// Everything that proxies and controllers are to trust.
    pub fn trusted(&self) -> BTreeSet<Fingerprint> {
        let others = self.retired.iter().map(|retired| retired.root.fingerprint);
        let next = self.next.iter().map(|next| next.root.fingerprint);
        others.chain(next).chain([self.signing.fingerprint]).collect()
    }
}

/// What the leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the next authority, beside the one that signs.
    BeginNext,
    /// Make the first authority.
    Create,
    /// Drop the retired authorities whose time has come.
    Forget,
    /// Note that the next authority is published from now on.
    MarkPublished,
    /// Let the next authority sign.
    Promote,
    /// Write what is to be trusted to the `ConfigMap`.
    PublishTrust,
    /// Make another authority in place of one that has expired; what it signed has expired too.
    Replace,
    /// Nothing until then, Unix seconds.
    Wait(i64),
}

/// The next step. `published` is what the `ConfigMap` holds; none where there is none.
pub fn decide(
    state: Option<&State>,
    published: Option<&BTreeSet<Fingerprint>>,
    now_unix_s: i64,
    times: &Times,
) -> Step {
    let Some(state) = state else { return Step::Create };
    let has_expired = now_unix_s >= state.signing.not_after_unix_s;
    // Nothing that it signs is believed; waiting for the overlap would help nobody.
    if has_expired {
        return match &state.next {
            Some(next) if now_unix_s < next.root.not_after_unix_s => Step::Promote,
            _ => Step::Replace,
        };
    }
    if published != Some(&state.trusted()) {
        return Step::PublishTrust;
    }
    if state.retired.iter().any(|retired| retired.until_unix_s <= now_unix_s) {
        return Step::Forget;
    }
    let forget = state.retired.iter().map(|retired| retired.until_unix_s).min();
    let rotate = match &state.next {
        None => {
            let due = state.signing.not_after_unix_s.saturating_sub(seconds(times.lead()));
            if due <= now_unix_s || state.is_rotation_requested {
                return Step::BeginNext;
            }
            due
        }
        Some(Next {
            published_unix_s: None, ..
        }) => return Step::MarkPublished,
        Some(Next {
            published_unix_s: Some(since),
            ..
        }) => {
            // A clock that was set back must not put it off for longer than the overlap.
            let since = (*since).min(now_unix_s);
            let due = since.saturating_add(seconds(times.overlap));
            if due <= now_unix_s {
                return Step::Promote;
            }
            due
        }
    };
    Step::Wait(
        forget
            .map_or(rotate, |forget| forget.min(rotate))
            .min(state.signing.not_after_unix_s),
    )
}

/// Until when what the signing authority signed may be in use, where it retires now: a replica that has not heard of it yet
/// may sign with it for as long as the overlap.
pub fn retired_until(now_unix_s: i64, times: &Times) -> i64 {
    now_unix_s
        .saturating_add(seconds(times.leaf))
        .saturating_add(seconds(times.overlap))
}

/// When a certificate that was made then is renewed: after two thirds of its life.
pub const fn renewal(made_unix_s: i64, not_after_unix_s: i64) -> i64 {
    let life = not_after_unix_s.saturating_sub(made_unix_s);
    made_unix_s.saturating_add(life / 3 * 2)
}

/// A duration in whole seconds.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

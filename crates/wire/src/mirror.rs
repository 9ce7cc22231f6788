//! The proxy's end of the stream, without I/O: what it has seen, what of it is live, and what is on its way.

mod plan;
mod staged;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use propylon_model::{Delta, Resources};
use thiserror::Error;

use self::staged::Staged;
use crate::{
    encoded::Encoded,
    key::{ResourceKey, ResourceKind},
    message::{self, request},
    proxy::Rejection,
    session::{MAX_REJECTED, PROTOCOL, shorten},
    value::{self, Value},
    version::{ContentVersion, Generation, StateVersion},
};

/// What a mirror brings to life.
pub trait Apply {
    /// Applies a delta, all at once, and returns what of it could not be applied. Of a resource that is returned here the
    /// last value must stay in force that was applied before; if there was none, it must be as if it had not come.
    fn apply(&mut self, delta: &Delta) -> Vec<Rejection>;

    /// Called after each transaction, when everything that could be applied is live: the place to store a snapshot.
    fn committed(&mut self, mirror: &Mirror) {
        let _ = mirror;
    }
}

/// Why a message of the controller could not be used; the stream is to be ended and begun again.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// A part of one transaction inside another. Not retryable with this controller.
    #[error("part of transaction {0} before the end of transaction {1}")]
    Interleaved(u64, u64),
    /// A version that has not 16 bytes. Not retryable with this controller.
    #[error("a version has {0} bytes, not 16")]
    Length(usize),
    /// After the transaction the state would not be the controller's; retryable: the next stream compares all versions.
    #[error("transaction {transaction} does not lead to the controller's state; all versions are compared again")]
    State {
        /// The number of the transaction.
        transaction: u64,
    },
    /// A transaction that is larger than a proxy can hold. Not retryable with this controller.
    #[error("a transaction of more than {0} bytes")]
    TooLarge(usize),
}

/// The state of a proxy by name and version: what it has seen, and what of it is live.
///
/// What was seen and what is live differ where the proxy did not take a resource (the last one that it took stays live),
/// and where something is gone that a resource of that kind still needs (it stays until that one changes).
#[derive(Debug, Default)]
pub struct Mirror {
    resources: Resources,
    seen: HashMap<ResourceKey, ContentVersion>,
    /// Versions of kinds that this release does not know.
    foreign: HashMap<(u32, Arc<str>), ContentVersion>,
    state: StateVersion,
    generation: Generation,
    rejected: BTreeMap<ResourceKey, String>,
    /// Rejected for the lack of something else, and taken when that comes.
    waiting: BTreeMap<ResourceKey, Value>,
    withheld: BTreeSet<ResourceKey>,
    staged: Option<Staged>,
    /// Whether the versions are to be compared one by one.
    is_doubtful: bool,
}

impl Mirror {
    /// A mirror that has nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A mirror of resources that are already live, such as those of a snapshot.
    ///
    /// # Cost
    /// Encodes and hashes every resource.
    pub fn of(resources: Resources) -> Self {
        let mut mirror = Self::default();
        for (key, value) in value::all(&resources) {
            if let Ok(encoded) = Encoded::new(key, &value) {
                mirror.state.add(encoded.version);
                mirror.seen.insert(encoded.key, encoded.version);
            }
        }
        mirror.resources = resources;
        mirror
    }

    /// Starts a stream: forgets what was on its way, and returns the first message.
    pub fn greet(&mut self, release: &str) -> message::Request {
        self.staged = None;
        let state = if self.is_doubtful {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(&self.state.to_bytes())
        };
        request(request::Kind::Hello(message::Hello {
            protocol: PROTOCOL,
            release: release.to_owned(),
            state,
            rejected: self.rejected_messages(),
        }))
    }

    /// Takes a message of the controller, applies what it completes, and returns the answers.
    ///
    /// # Errors
    /// When the message breaks the protocol; the stream is to be ended, and what is live stays.
    pub fn receive(
        &mut self,
        response: message::Response,
        apply: &mut impl Apply,
    ) -> Result<Vec<message::Request>, MirrorError> {
        if response.ask_versions {
            self.is_doubtful = false;
            return Ok(self.list());
        }
        let transaction = response.transaction;
        let commit = response.commit.clone();
        let overtakes = self.staged.as_ref().is_some_and(|open| open.transaction != transaction);
        if overtakes && commit.is_none() {
            let open = self.staged.as_ref().map_or(0, |open| open.transaction);
            return Err(MirrorError::Interleaved(transaction, open));
        }
        let mut staged = if overtakes {
            Staged::new(transaction)
        } else {
            self.staged.take().unwrap_or_else(|| Staged::new(transaction))
        };
        staged.add(response)?;
        let Some(commit) = commit else {
            self.staged = Some(staged);
            return Ok(Vec::new());
        };
        if let Some(open) = &mut self.staged {
            open.supersede(&staged);
        }
        self.commit(staged, &commit, apply)?;
        let ack = message::Ack {
            transaction,
            rejected: self.rejected_messages(),
        };
        Ok(vec![request(request::Kind::Ack(ack))])
    }

    /// What is live.
    pub const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The version of the state that was seen last, as the controller counts it.
    pub const fn state(&self) -> StateVersion {
        self.state
    }

    /// The generation that was applied last; it is that of the controller that sent it.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What was seen and not taken, and why.
    pub fn rejected(&self) -> impl Iterator<Item = Rejection> + '_ {
        self.rejected.iter().map(|(key, message)| Rejection {
            key: key.clone(),
            message: message.clone(),
        })
    }

    /// What is gone but still needed by something live.
    pub const fn withheld(&self) -> &BTreeSet<ResourceKey> {
        &self.withheld
    }

    fn commit(
        &mut self,
        mut staged: Staged,
        commit: &message::Commit,
        apply: &mut impl Apply,
    ) -> Result<(), MirrorError> {
        let transaction = staged.transaction;
        self.check(&staged, commit)?;
        self.see(&staged);
        let mut delta = staged.take_delta();
        for key in &self.withheld {
            if !staged.puts(key) {
                value::put(&mut delta, key, None);
            }
        }
        self.reject(std::mem::take(&mut staged.unreadable));
        for (key, value) in std::mem::take(&mut self.waiting) {
            self.rejected.remove(&key);
            value::put(&mut delta, &key, Some(&value));
        }
        let homeless = plan::without_pools(&self.resources, &delta);
        self.put_off(&mut delta, homeless);
        self.withheld.clear();
        if plan::may_break(&delta, !self.rejected.is_empty()) {
            self.withheld = plan::withhold(&self.resources, &mut delta);
        }
        self.bring_to_life(delta, apply);
        self.generation = Generation(commit.generation);
        tracing::debug!(transaction, generation = commit.generation, "transaction applied");
        apply.committed(self);
        Ok(())
    }

    /// Applies a delta, then undoes what rests on something that was not taken.
    fn bring_to_life(&mut self, mut delta: Delta, apply: &mut impl Apply) {
        if delta.is_empty() {
            return;
        }
        let rejections = apply.apply(&delta);
        if rejections.is_empty() {
            self.resources.apply(&delta);
            return;
        }
        let rejections = rejections
            .into_iter()
            .map(|rejection| (rejection.key, rejection.message));
        self.refuse(&mut delta, rejections.collect());
        let mut repair = Delta::default();
        let homeless = plan::without_pools(&self.resources, &delta);
        for (key, _) in &homeless {
            value::put(&mut repair, key, value::find(&self.resources, key).as_ref());
        }
        self.put_off(&mut delta, homeless);
        for key in plan::withhold(&self.resources, &mut delta) {
            value::put(&mut repair, &key, value::find(&self.resources, &key).as_ref());
            self.withheld.insert(key);
        }
        self.resources.apply(&delta);
        if !repair.is_empty() {
            // Values that were live before: what cannot be applied again was reported above.
            drop(apply.apply(&repair));
        }
    }

    /// Takes resources out of a delta that are not taken, and remembers why.
    fn refuse(&mut self, delta: &mut Delta, refused: Vec<(ResourceKey, String)>) {
        for (key, _) in &refused {
            value::take_out(delta, key);
        }
        self.reject(refused);
    }

    /// As [`Mirror::refuse`], until what they lack comes.
    fn put_off(&mut self, delta: &mut Delta, homeless: Vec<(ResourceKey, String)>) {
        for (key, _) in &homeless {
            if let Some(group) = delta.groups.get(&*key.name).and_then(Option::as_ref) {
                self.waiting.insert(key.clone(), Value::RouteGroup(Arc::clone(group)));
            }
        }
        self.refuse(delta, homeless);
    }

    fn reject(&mut self, rejected: Vec<(ResourceKey, String)>) {
        for (key, message) in rejected {
            // Something that was never sent cannot be rejected.
            if self.seen.contains_key(&key) {
                tracing::warn!(resource = %key, error = %message, "resource not taken, the last good one stays");
                self.rejected.insert(key, shorten(&message).to_owned());
            }
        }
    }

    /// Whether the transaction leads to the state that the controller says.
    fn check(&mut self, staged: &Staged, commit: &message::Commit) -> Result<(), MirrorError> {
        if commit.state.is_empty() {
            return Ok(());
        }
        let expected = StateVersion::from_bytes(&commit.state).ok_or(MirrorError::Length(commit.state.len()))?;
        if self.state_after(staged) == expected {
            return Ok(());
        }
        self.is_doubtful = true;
        Err(MirrorError::State {
            transaction: staged.transaction,
        })
    }

    /// The version of what will be seen after a transaction.
    fn state_after(&self, staged: &Staged) -> StateVersion {
        let mut state = self.state;
        for (old, new) in staged.versions(&self.seen, &self.foreign) {
            if let Some(old) = old {
                state.subtract(old);
            }
            if let Some(new) = new {
                state.add(new);
            }
        }
        state
    }

    fn see(&mut self, staged: &Staged) {
        self.state = self.state_after(staged);
        staged.see(&mut self.seen, &mut self.foreign);
        for key in staged.keys() {
            self.rejected.remove(key);
            self.waiting.remove(key);
        }
    }

    /// All versions that were seen, in parts.
    fn list(&self) -> Vec<message::Request> {
        let known = self
            .seen
            .iter()
            .map(|(key, version)| (key.kind.number(), &key.name, *version));
        let foreign = self
            .foreign
            .iter()
            .map(|((kind, name), version)| (*kind, name, *version));
        let entries = known.chain(foreign).map(|(kind, name, version)| message::Name {
            kind,
            name: name.as_ref().to_owned(),
            version: Bytes::copy_from_slice(&version.to_bytes()),
        });
        let entries: Vec<_> = entries.collect();
        let mut parts: Vec<_> = entries
            .chunks(NAMES_OF_A_PART)
            .map(|entries| message::Versions {
                entries: entries.to_vec(),
                is_last: false,
            })
            .collect();
        match parts.last_mut() {
            Some(last) => last.is_last = true,
            None => parts.push(message::Versions {
                entries: Vec::new(),
                is_last: true,
            }),
        }
        parts
            .into_iter()
            .map(|part| request(request::Kind::Versions(part)))
            .collect()
    }

    fn rejected_messages(&self) -> Vec<message::Rejected> {
        let rejected = self.rejected.iter().take(MAX_REJECTED);
        rejected
            .map(|(key, text)| message::Rejected {
                kind: key.kind.number(),
                name: key.name.as_ref().to_owned(),
                message: text.clone(),
            })
            .collect()
    }
}

/// Names of one message of versions; about 1 MiB.
const NAMES_OF_A_PART: usize = 10_000;

const fn request(kind: request::Kind) -> message::Request {
    message::Request { kind: Some(kind) }
}

/// The kind of a number, and the name.
fn key_of(kind: u32, name: &str) -> Result<ResourceKey, (u32, Arc<str>)> {
    let name: Arc<str> = name.into();
    match ResourceKind::from_number(kind) {
        Some(kind) => Ok(ResourceKey { kind, name }),
        None => Err((kind, name)),
    }
}

//! The controller's end of one stream, without I/O.
//!
//! A session sends *transactions*: the changes between two generations, cut at one moment, in parts of bounded size, of
//! which the last one commits. One transaction is under way at a time; what changes meanwhile waits behind the session's
//! cursor, each name once, so that a slow proxy gets the newest state and never a backlog. Endpoints that change while a
//! transaction is under way overtake it in transactions of their own (the *lane*).

mod cut;
mod limits;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

pub(crate) use self::limits::{Limits, MAX_REJECTED, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, shorten};
use self::{cut::Item, limits::MAX_LISTED};
use crate::{
    key::{ResourceKey, ResourceKind},
    message::{self, request},
    proxy::Rejection,
    publisher::store::Store,
    version::{ContentVersion, Generation, StateVersion},
};

/// Version of the protocol that this release speaks.
pub(crate) const PROTOCOL: u32 = 1;

/// What a session learned of its proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has applied a generation, but for the rejected resources.
    Acknowledged(Generation, StateVersion, Vec<Rejection>),
    /// Nothing.
    Nothing,
    /// These it has not taken.
    Rejected(Vec<Rejection>),
}

/// What a proxy must not send. Not retryable with the same message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    /// The number of a transaction that is not waiting for an answer.
    #[error("transaction {0} is not waiting for an acknowledgement")]
    Acknowledgement(u64),
    /// A message that this version does not know, or an empty one.
    #[error("unknown request; a newer proxy must not need it of a controller of protocol {PROTOCOL}")]
    Kind,
    /// A version that has not 16 bytes.
    #[error("a version has {0} bytes, not 16")]
    Length(usize),
    /// More names than a proxy can have.
    #[error("more than {MAX_LISTED} names")]
    Listed,
    /// A message that does not belong here.
    #[error("{0} was not asked for")]
    Order(&'static str),
    /// A protocol that this version does not speak.
    #[error("protocol {0} is not spoken here, only {PROTOCOL}")]
    Protocol(u32),
}

/// The controller's end of one stream.
#[derive(Debug)]
pub(crate) struct Session {
    limits: Limits,
    phase: Phase,
    /// Everything up to here is sent, or in the open transaction.
    cursor: Generation,
    /// Endpoints up to here have been considered for the lane.
    lane_cursor: Generation,
    /// The proxy has applied everything up to here.
    applied: Generation,
    bulk: Option<Bulk>,
    lane: Option<u64>,
    /// Endpoints that overtook since the last cut.
    overtook: HashMap<ResourceKey, ContentVersion>,
    /// Whether the proxy is to hear that it is up to date.
    must_confirm: bool,
    last_transaction: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing has come yet.
    Silent,
    /// The proxy has said what it has seen; none: it wants to be asked.
    Greeted(Option<StateVersion>),
    /// The proxy was asked for names and versions.
    Listing(HashMap<(u32, String), ContentVersion>),
    /// The names and versions are complete.
    Listed(HashMap<(u32, String), ContentVersion>),
    /// The cursor is right.
    Streaming,
}

/// The transaction that is under way.
#[derive(Debug)]
struct Bulk {
    transaction: u64,
    generation: Generation,
    state: StateVersion,
    items: VecDeque<Item>,
    is_committed: bool,
    is_overtaken: bool,
}

impl Session {
    /// A session of which nothing is known yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Silent,
            cursor: Generation::default(),
            lane_cursor: Generation::default(),
            applied: Generation::default(),
            bulk: None,
            lane: None,
            overtook: HashMap::new(),
            must_confirm: true,
            last_transaction: 0,
        }
    }

    /// Takes a message of the proxy.
    ///
    /// # Errors
    /// When the message breaks the protocol; the stream is to be ended.
    pub(crate) fn receive(&mut self, request: message::Request) -> Result<Event, ProtocolError> {
        match request.kind.ok_or(ProtocolError::Kind)? {
            request::Kind::Ack(ack) => self.acknowledge(&ack),
            request::Kind::Hello(hello) => self.greet(&hello),
            request::Kind::Versions(versions) => self.list(versions),
        }
    }

    /// The next message to send; none where there is nothing to send until the store changes or the proxy says something.
    ///
    /// # Cost
    /// Linear in what changed since the last transaction, once; after that, in the message.
    pub(crate) fn poll(&mut self, store: &Store) -> Option<message::Response> {
        if store.generation() == Generation::default() {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Streaming) {
            Phase::Greeted(state) => self.resume(store, state),
            Phase::Listed(versions) => {
                self.compare(store, versions);
                self.transact(store)
            }
            Phase::Streaming => self.transact(store),
            phase @ (Phase::Listing(_) | Phase::Silent) => {
                self.phase = phase;
                None
            }
        }
    }

    /// Whether the proxy owes an answer.
    pub(crate) const fn is_owed(&self) -> bool {
        let is_committed = matches!(&self.bulk, Some(bulk) if bulk.is_committed);
        is_committed || self.lane.is_some() || matches!(self.phase, Phase::Silent | Phase::Listing(_))
    }

    fn greet(&mut self, hello: &message::Hello) -> Result<Event, ProtocolError> {
        if !matches!(self.phase, Phase::Silent) {
            return Err(ProtocolError::Order("a second greeting"));
        }
        if hello.protocol != PROTOCOL {
            return Err(ProtocolError::Protocol(hello.protocol));
        }
        let state = match hello.state.len() {
            0 => None,
            length => Some(StateVersion::from_bytes(&hello.state).ok_or(ProtocolError::Length(length))?),
        };
        self.phase = Phase::Greeted(state);
        Ok(Event::Rejected(rejections(&hello.rejected)))
    }

    fn list(&mut self, versions: message::Versions) -> Result<Event, ProtocolError> {
        let Phase::Listing(listed) = &mut self.phase else {
            return Err(ProtocolError::Order("a list of versions"));
        };
        if listed.len() + versions.entries.len() > MAX_LISTED {
            return Err(ProtocolError::Listed);
        }
        for entry in versions.entries {
            let length = entry.version.len();
            let version = ContentVersion::from_bytes(&entry.version).ok_or(ProtocolError::Length(length))?;
            listed.insert((entry.kind, entry.name), version);
        }
        if versions.is_last {
            self.phase = Phase::Listed(std::mem::take(listed));
        }
        Ok(Event::Nothing)
    }

    fn acknowledge(&mut self, ack: &message::Ack) -> Result<Event, ProtocolError> {
        let rejected = rejections(&ack.rejected);
        if self.lane == Some(ack.transaction) {
            self.lane = None;
            return Ok(Event::Rejected(rejected));
        }
        let acknowledged = self
            .bulk
            .take_if(|bulk| bulk.is_committed && bulk.transaction == ack.transaction);
        let bulk = acknowledged.ok_or(ProtocolError::Acknowledgement(ack.transaction))?;
        self.applied = bulk.generation;
        Ok(Event::Acknowledged(bulk.generation, bulk.state, rejected))
    }

    /// Finds where the proxy stands, or asks it.
    fn resume(&mut self, store: &Store, state: Option<StateVersion>) -> Option<message::Response> {
        let known = match state {
            Some(StateVersion::EMPTY) => Some(Generation::default()),
            Some(state) => store
                .generation_of(state)
                .filter(|generation| store.reaches(*generation)),
            None => None,
        };
        let Some(generation) = known else {
            return Some(self.ask());
        };
        self.cursor = generation;
        self.applied = generation;
        self.transact(store)
    }

    fn ask(&mut self) -> message::Response {
        self.phase = Phase::Listing(HashMap::new());
        message::Response {
            ask_versions: true,
            ..message::Response::default()
        }
    }

    fn transact(&mut self, store: &Store) -> Option<message::Response> {
        if self.bulk.is_some() {
            return self.overtake(store).or_else(|| self.part());
        }
        // The state without resources needs no tombstones.
        if !store.reaches(self.cursor) && self.cursor != Generation::default() {
            return Some(self.ask());
        }
        if self.cursor == store.generation() && !self.must_confirm {
            return None;
        }
        let items = cut::changed(store, self.cursor, &self.overtook);
        self.begin(store, items);
        self.part()
    }

    /// Compares with what the proxy has seen.
    fn compare(&mut self, store: &Store, versions: HashMap<(u32, String), ContentVersion>) {
        let items = cut::difference(store, versions);
        self.applied = Generation::default();
        self.begin(store, items);
    }

    fn begin(&mut self, store: &Store, items: VecDeque<Item>) {
        self.cursor = store.generation();
        self.lane_cursor = self.cursor;
        self.overtook.clear();
        self.must_confirm = false;
        self.bulk = Some(Bulk {
            transaction: self.number(),
            generation: self.cursor,
            state: store.state(),
            items,
            is_committed: false,
            is_overtaken: false,
        });
    }

    fn number(&mut self) -> u64 {
        self.last_transaction += 1;
        self.last_transaction
    }

    /// The next part of the open transaction.
    fn part(&mut self) -> Option<message::Response> {
        let bulk = self.bulk.as_mut().filter(|bulk| !bulk.is_committed)?;
        let mut response = message::Response {
            transaction: bulk.transaction,
            ..message::Response::default()
        };
        let mut size = 0;
        while let Some(item) = bulk
            .items
            .pop_front_if(|item| size == 0 || size + item.size() <= self.limits.part_bytes)
        {
            size += item.size();
            item.write(&mut response);
        }
        if bulk.items.is_empty() {
            bulk.is_committed = true;
            let state = if bulk.is_overtaken {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(&bulk.state.to_bytes())
            };
            response.commit = Some(message::Commit {
                generation: bulk.generation.0,
                state,
            });
        }
        Some(response)
    }

    /// Endpoints that changed while a transaction is under way and that the proxy is known to have.
    fn overtake(&mut self, store: &Store) -> Option<message::Response> {
        if self.lane.is_some() || self.applied == Generation::default() || self.lane_cursor == store.generation() {
            return None;
        }
        let mut response = message::Response::default();
        let mut size = 0;
        for (key, entry) in store.after(self.lane_cursor) {
            let Some(encoded) = entry.encoded.as_ref().filter(|_| key.kind == ResourceKind::Endpoints) else {
                continue;
            };
            let item = Item::Put(std::sync::Arc::clone(encoded));
            if entry.born > self.applied || (size > 0 && size + item.size() > self.limits.part_bytes) {
                continue;
            }
            size += item.size();
            item.write(&mut response);
            self.overtook.insert(key.clone(), encoded.version);
        }
        self.lane_cursor = store.generation();
        if response.resources.is_empty() {
            return None;
        }
        // What the proxy has when it reads this.
        let mut generation = self.bulk.as_ref().map_or(self.applied, |bulk| bulk.generation);
        if let Some(bulk) = self.bulk.as_mut().filter(|bulk| !bulk.is_committed) {
            generation = self.applied;
            bulk.is_overtaken = true;
            let overtook = &self.overtook;
            bulk.items.retain(|item| !item.is_put_of(overtook));
        }
        response.transaction = self.number();
        response.commit = Some(message::Commit {
            generation: generation.0,
            state: Bytes::new(),
        });
        self.lane = Some(response.transaction);
        Some(response)
    }
}

/// The rejections of a message, with bounds; kinds that are not known are left out.
fn rejections(rejected: &[message::Rejected]) -> Vec<Rejection> {
    let rejected = rejected.iter().take(MAX_REJECTED).filter_map(|rejected| {
        Some(Rejection {
            key: ResourceKey::new(ResourceKind::from_number(rejected.kind)?, rejected.name.as_str()),
            message: shorten(&rejected.message).to_owned(),
        })
    });
    rejected.collect()
}

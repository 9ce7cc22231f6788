//! `sessionAffinity: ClientIP`: which endpoint each client was sent to last, and when.
//!
//! What it is: one [`Clients`] per list of endpoints, shared by all workers and by HTTP and layer 4, made with the first
//! client of a policy that asks for it. It survives every change of the configuration.
//!
//! What it is not: it chooses nothing. A client that it does not know is sent where consistent hashing leads, as every other
//! worker and replica would do; what the table adds is that a client stays there when other endpoints join.
//!
//! Room is limited: [`MOST`] clients. Where a place is wanted that others hold, the one who was silent for longest is
//! forgotten, and is hashed again when he comes back.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

/// The clients of one list of endpoints.
#[derive(Debug)]
pub(crate) struct Clients {
    state: RandomState,
    shards: [Mutex<Box<[Bucket]>>; SHARDS],
}

/// Clients whose hashes are alike; a free place has the time 0.
type Bucket = [Entry; WAYS];

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    client: u128,
    /// [`crate::balance::hash::endpoint`] of where he was sent.
    endpoint: u64,
    /// When he was there last, plus one, in milliseconds of the clock of the process.
    used_ms: u64,
}

impl Entry {
    const fn is(&self, client: u128) -> bool {
        self.used_ms != 0 && self.client == client
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            state: RandomState::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Clients {
    /// The identity of the endpoint that a client is bound to; none where he was silent for `timeout_ms`.
    ///
    /// # Cost
    /// Constant; one lock that one in [`SHARDS`] clients shares.
    pub(crate) fn find(&self, client: IpAddr, now_ms: u64, timeout_ms: u64) -> Option<u64> {
        let client = number(client);
        let (shard, place) = self.place(client);
        let entry = *shard.get(place)?.iter().find(|entry| entry.is(client))?;
        (now_ms.saturating_sub(entry.used_ms - 1) < timeout_ms).then_some(entry.endpoint)
    }

    /// Binds a client, or notes that he was there again.
    ///
    /// # Cost
    /// As [`Clients::find`].
    pub(crate) fn bind(&self, client: IpAddr, endpoint: u64, now_ms: u64) {
        let client = number(client);
        let (mut shard, place) = self.place(client);
        if shard.is_empty() {
            *shard = vec![Bucket::default(); BUCKETS].into_boxed_slice();
        }
        let Some(bucket) = shard.get_mut(place) else { return };
        let known = bucket.iter().position(|entry| entry.is(client));
        let oldest = || (0..WAYS).min_by_key(|way| bucket.get(*way).map(|entry| entry.used_ms));
        if let Some(entry) = known.or_else(oldest).and_then(|way| bucket.get_mut(way)) {
            *entry = Entry {
                client,
                endpoint,
                used_ms: now_ms + 1,
            };
        }
    }

    fn place(&self, client: u128) -> (MutexGuard<'_, Box<[Bucket]>>, usize) {
        let hash = usize::try_from(self.state.hash_one(client) >> 32).unwrap_or(0);
        let (shard, bucket) = (hash % SHARDS, hash / SHARDS % BUCKETS);
        #[expect(clippy::indexing_slicing, reason = "a remainder by the length of the array")]
        let shard = &self.shards[shard];
        (shard.lock().unwrap_or_else(PoisonError::into_inner), bucket)
    }
}

/// An IPv4 address and the same address mapped into IPv6 are one client.
const fn number(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const SHARDS: usize = 64;
const BUCKETS: usize = 128;
const WAYS: usize = 8;
/// Clients that are remembered at most, in about 2 MiB.
#[cfg(test)]
const MOST: usize = SHARDS * BUCKETS * WAYS;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_client_is_known_until_he_was_silent_for_the_timeout() {
        let clients = Clients::default();
        assert_eq!(clients.find(CLIENT, 0, 1_000), None);
        clients.bind(CLIENT, 7, 0);
        assert_eq!(clients.find(CLIENT, 999, 1_000), Some(7));
        assert_eq!(clients.find(CLIENT, 1_000, 1_000), None);
        clients.bind(CLIENT, 7, 999);
        assert_eq!(clients.find(CLIENT, 1_998, 1_000), Some(7));
        assert_eq!(clients.find(CLIENT, 1_999, 1_000), None);
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into();
        assert_eq!(clients.find(mapped, 1_998, 1_000), Some(7));
        clients.bind(mapped, 8, 1_998);
        assert_eq!(clients.find(CLIENT, 1_998, 1_000), Some(8));
    }

    #[test]
    fn a_flood_of_clients_takes_no_more_room_and_leaves_who_comes_often() {
        let clients = Clients::default();
        for stranger in 0..u128::try_from(MOST * 2).unwrap() {
            let now_ms = u64::try_from(stranger).unwrap();
            clients.bind(Ipv6Addr::from_bits(1 << 120 | stranger).into(), 1, now_ms);
            if stranger % 64 == 0 {
                clients.bind(CLIENT, 9, now_ms);
            }
        }
        let known: usize = clients
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().as_flattened().len())
            .sum();
        assert_eq!(known, MOST);
        assert_eq!(
            clients.find(CLIENT, u64::try_from(MOST * 2).unwrap(), u64::MAX),
            Some(9)
        );
    }
}

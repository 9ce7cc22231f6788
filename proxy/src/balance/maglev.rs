//! Consistent hashing by a lookup table: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016, section 3.4, with weights.
//!
//! The table is a function of the endpoints alone (their addresses and weights, in any order), so that all workers and
//! all replicas agree. When an endpoint goes, its keys are spread over the others and few other keys move.

use std::net::SocketAddr;

use super::hash;

/// A table from hashes to places of a list of endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Maglev {
    slots: Box<[u16]>,
}

impl std::fmt::Debug for Maglev {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Maglev")
            .field("slots", &self.slots.len())
            .finish()
    }
}

impl Maglev {
    /// Builds the table of a list of endpoints with their weights (0 counts as 1). Those beyond the first 65,535 get no key.
    ///
    /// # Cost
    /// A few milliseconds, and 128 KiB (1.3 MB with more than 3,000 endpoints): not for a data-plane thread.
    pub fn new(endpoints: &[(SocketAddr, u16)]) -> Self {
        let endpoints = endpoints
            .get(..endpoints.len().min(MOST_ENDPOINTS))
            .unwrap_or(endpoints);
        let size = if endpoints.len() > MANY { LARGE } else { SMALL };
        let mut turns: Vec<Turn> = endpoints
            .iter()
            .zip(0_u16..)
            .map(|((address, weight), index)| Turn::new(*address, *weight, index, size))
            .collect();
        // The order in which endpoints take turns must not depend on the order of the list.
        turns.sort_unstable_by_key(|turn| (turn.offset, turn.skip, turn.index));
        let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(1);
        Self {
            slots: populate(&mut turns, heaviest, size),
        }
    }

    /// The place in the list that a hash leads to; none where the list is empty.
    ///
    /// # Cost
    /// Constant.
    pub fn get(&self, hash: u64) -> Option<usize> {
        let size = self.slots.len() as u64;
        let slot = hash.checked_rem(size)?;
        self.slots
            .get(usize::try_from(slot).ok()?)
            .map(|index| usize::from(*index))
    }

    /// The place that a hash leads to among those that `usable` accepts. The keys of one that is not usable are spread
    /// over all others, and no other key moves. None where nothing is usable.
    ///
    /// # Cost
    /// Constant, but linear where hardly any is usable.
    pub fn find(&self, hash: u64, count: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut hash = hash;
        for _ in 0..TRIES {
            let index = self.get(hash)?;
            if usable(index) {
                return Some(index);
            }
            hash = hash::next(hash);
        }
        let start = self.get(hash)?;
        (0..count)
            .map(|offset| (start + offset) % count)
            .find(|index| usable(*index))
    }

    /// How many slots each of `count` endpoints has, and how many there are.
    pub fn shares(&self, count: usize) -> (Vec<u32>, u32) {
        let mut shares = vec![0_u32; count];
        for index in &self.slots {
            if let Some(share) = shares.get_mut(usize::from(*index)) {
                *share += 1;
            }
        }
        (shares, u32::try_from(self.slots.len()).unwrap_or(u32::MAX))
    }
}

/// One endpoint's walk through the table.
struct Turn {
    index: u16,
    weight: u64,
    offset: usize,
    skip: usize,
    /// Where it looks next.
    next: usize,
    /// The share of turns that it has not used, in parts of the heaviest weight.
    credit: u64,
}

impl Turn {
    fn new(address: SocketAddr, weight: u16, index: u16, size: usize) -> Self {
        let offset = reduce(hash::endpoint(address, OFFSET_SEED), size);
        Self {
            index,
            weight: u64::from(weight.max(1)),
            offset,
            skip: reduce(hash::endpoint(address, SKIP_SEED), size - 1) + 1,
            next: offset,
            credit: 0,
        }
    }
}

fn populate(turns: &mut [Turn], heaviest: u64, size: usize) -> Box<[u16]> {
    if turns.is_empty() {
        return Box::default();
    }
    let mut slots = vec![FREE; size];
    let mut filled = 0;
    loop {
        for turn in &mut *turns {
            turn.credit += turn.weight;
            if turn.credit < heaviest {
                continue;
            }
            turn.credit -= heaviest;
            take_next_free(&mut slots, turn);
            filled += 1;
            if filled == size {
                return slots.into_boxed_slice();
            }
        }
    }
}

/// The next slot of the endpoint's permutation that nobody has; as the size is prime, it comes by all of them.
fn take_next_free(slots: &mut [u16], turn: &mut Turn) {
    let size = slots.len();
    for _ in 0..size {
        let slot = turn.next;
        turn.next += turn.skip;
        if turn.next >= size {
            turn.next -= size;
        }
        if let Some(free) = slots.get_mut(slot)
            && *free == FREE
        {
            *free = turn.index;
            return;
        }
    }
}

fn reduce(hash: u64, size: usize) -> usize {
    usize::try_from(hash % (size.max(1) as u64)).unwrap_or(0)
}

/// Slots of a table, a prime. The size does not follow the number of endpoints: another size would move every key.
const SMALL: usize = 65_537;
/// Slots where there are more than [`MANY`] endpoints, a prime.
const LARGE: usize = 655_373;
/// Up to here the small table is even to 5 %.
const MANY: usize = 3_000;
const MOST_ENDPOINTS: usize = 65_535;
const FREE: u16 = u16::MAX;
const TRIES: usize = 16;
const OFFSET_SEED: u64 = 0x6f66_6673_6574;
const SKIP_SEED: u64 = 0x736b_6970;

#[cfg(test)]
mod tests;

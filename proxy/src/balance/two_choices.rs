//! Power of two choices with weights: two endpoints are drawn by weight, the better one is taken.

/// Two different endpoints, drawn at random; the same one twice where there is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Drawn first: it is taken unless the other is better.
    pub first: usize,
    /// Drawn among the others.
    pub second: usize,
}

impl Pair {
    /// Two of `count` (at least 2), each as likely as the other. `random` must be uniform over all 64 bits.
    pub fn uniform(count: usize, random: u64) -> Self {
        let first = scale(random >> 32, count);
        let second = (first + 1 + scale(random & 0xffff_ffff, count - 1)) % count;
        Self { first, second }
    }

    /// The same two, the other way round.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self {
            first: self.second,
            second: self.first,
        }
    }
}

/// One of a pair, by `decide`; in place of one that is not usable the next usable one of `count` takes part.
///
/// # Cost
/// Constant, but linear where one of the pair is not usable.
pub fn of_two(
    pair: Pair,
    count: usize,
    usable: impl Fn(usize) -> bool,
    decide: impl FnOnce(Pair) -> usize,
) -> Option<usize> {
    let next = |from: usize, except: Option<usize>| {
        (0..count)
            .map(|offset| (from + offset) % count)
            .find(|index| Some(*index) != except && usable(*index))
    };
    let pair = match (usable(pair.first), usable(pair.second)) {
        (true, true) => pair,
        (true, false) => match next(pair.second, Some(pair.first)) {
            Some(second) => Pair { second, ..pair },
            None => return Some(pair.first),
        },
        (false, true) => match next(pair.first, Some(pair.second)) {
            Some(first) => Pair { first, ..pair },
            None => return Some(pair.second),
        },
        (false, false) => {
            let first = next(pair.first, None)?;
            match next(pair.second, Some(first)) {
                Some(second) => Pair { first, second },
                None => return Some(first),
            }
        }
    };
    Some(decide(pair))
}

/// The weights of a list of endpoints, as running sums: drawing by weight is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    sums: Box<[u64]>,
}

impl Shares {
    /// Running sums; a weight of 0 counts as 1.
    pub fn new(weights: impl IntoIterator<Item = u16>) -> Self {
        let mut total = 0_u64;
        let sums = weights.into_iter().map(|weight| {
            total += u64::from(weight.max(1));
            total
        });
        Self { sums: sums.collect() }
    }

    /// How many endpoints there are.
    pub const fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The sum of all weights.
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// The weight of an endpoint; 0 where there is no such one.
    pub fn weight(&self, index: usize) -> u64 {
        let before = self.before(index);
        self.sums.get(index).map_or(0, |sum| sum - before)
    }

    /// Two endpoints: the first by weight, the second by weight among the others. `random` must be uniform over all 64
    /// bits; none where the list is empty.
    ///
    /// # Cost
    /// Two binary searches.
    pub fn draw(&self, random: u64) -> Option<Pair> {
        let first = self.at(scale_u64(random >> 32, self.total()))?;
        let weight = self.weight(first);
        let rest = self.total() - weight;
        if rest == 0 {
            return Some(Pair { first, second: first });
        }
        let mut point = scale_u64(random & 0xffff_ffff, rest);
        if point >= self.before(first) {
            point += weight;
        }
        Some(Pair {
            first,
            second: self.at(point)?,
        })
    }

    fn before(&self, index: usize) -> u64 {
        index
            .checked_sub(1)
            .and_then(|index| self.sums.get(index))
            .copied()
            .unwrap_or(0)
    }

    fn at(&self, point: u64) -> Option<usize> {
        let index = self.sums.partition_point(|sum| *sum <= point);
        (index < self.sums.len()).then_some(index)
    }
}

/// What one endpoint has to do, as far as least-request is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests in flight.
    pub active: u32,
    /// Its weight, at least 1.
    pub weight: u16,
}

impl Load {
    /// Whether the request goes to `self` although `incumbent` was drawn first: only if that leaves `self`, the request
    /// included, no busier for its weight than `incumbent` is without it. With equal weights that is "has fewer requests
    /// in flight"; with unequal ones idle endpoints are taken by weight alone.
    pub fn beats(self, incumbent: Self) -> bool {
        (u64::from(self.active) + 1) * u64::from(incumbent.weight.max(1))
            <= u64::from(incumbent.active) * u64::from(self.weight.max(1))
    }
}

/// Takes the better one of a pair, as `beats(second, first)` says; one that is still warming up (`warmth` below 1, see
/// [`super::slow_start`]) is kept only in proportion to the other's. `random` must be uniform over all 32 bits.
pub fn warm_contest(
    pair: Pair,
    random: u32,
    beats: impl Fn(usize, usize) -> bool,
    warmth: impl Fn(usize) -> f32,
) -> usize {
    let Pair {
        first: winner,
        second: loser,
    } = if beats(pair.second, pair.first) {
        pair.swapped()
    } else {
        pair
    };
    if f64::from(random) < keep(warmth(winner), warmth(loser)) * TWO_TO_32 {
        winner
    } else {
        loser
    }
}

/// How likely it is that the winner of a contest keeps the request: 1 unless it is the colder of the two.
pub fn keep(winner: f32, loser: f32) -> f64 {
    if winner >= loser || loser <= 0.0 {
        1.0
    } else {
        f64::from(winner) / f64::from(loser)
    }
}

/// Maps 32 random bits to `0..count` (Lemire's multiplication).
pub(crate) fn scale(random: u64, count: usize) -> usize {
    usize::try_from((random.wrapping_mul(count as u64)) >> 32).unwrap_or(0)
}

fn scale_u64(random: u64, count: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(count)) >> 32).unwrap_or(0)
}

const TWO_TO_32: f64 = 4_294_967_296.0;

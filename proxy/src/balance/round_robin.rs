//! Round robin: in turn where all weights are equal, else smooth weighted round robin (nginx's algorithm), which spreads
//! the turns of a heavy endpoint evenly among those of the others.

use std::cell::Cell;

/// The next of `count` that `usable` accepts, and the place behind it for the next call; none where nothing is usable.
pub fn in_turn(count: usize, cursor: usize, usable: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    (0..count)
        .map(|offset| (cursor % count + offset) % count)
        .find(|index| usable(*index))
        .map(|index| (index, index + 1))
}

/// Smooth weighted round robin over `count` endpoints: `weight` says the share of each (0: no turn this time, as for one
/// that cannot be used), `credit` is where its state is kept. None where no weight is above 0.
///
/// # Cost
/// Linear.
pub fn smooth<'a>(
    count: usize,
    weight: impl Fn(usize) -> u32,
    credit: impl Fn(usize) -> Option<&'a Cell<i64>>,
) -> Option<usize> {
    let mut total = 0_i64;
    let mut best: Option<(usize, &Cell<i64>)> = None;
    for index in 0..count {
        let (share, Some(cell)) = (i64::from(weight(index)), credit(index)) else {
            continue;
        };
        if share == 0 {
            continue;
        }
        total = total.saturating_add(share);
        // Bounded: what a list that changes all the time leaves behind must not add up.
        cell.set(cell.get().saturating_add(share).clamp(-MOST_CREDIT, MOST_CREDIT));
        if best.is_none_or(|(_, present)| cell.get() > present.get()) {
            best = Some((index, cell));
        }
    }
    let (index, cell) = best?;
    cell.set(cell.get().saturating_sub(total));
    Some(index)
}

const MOST_CREDIT: i64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], rounds: usize) -> Vec<usize> {
        let credits: Vec<Cell<i64>> = weights.iter().map(|_| Cell::new(0)).collect();
        (0..rounds)
            .map(|_| smooth(weights.len(), |index| weights[index], |index| credits.get(index)).unwrap())
            .collect()
    }

    #[test]
    fn turns_are_exact_by_weight_and_spread_out() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        let picks = turns(&[3, 2, 5], 1_000);
        let count = |wanted| picks.iter().filter(|pick| **pick == wanted).count();
        assert_eq!((count(0), count(1), count(2)), (300, 200, 500));
    }

    #[test]
    fn one_that_is_left_out_gives_its_turns_to_all_others() {
        let weights = [Cell::new(1_u32), Cell::new(1), Cell::new(1), Cell::new(1)];
        let credits = [const { Cell::new(0_i64) }; 4];
        let mut counts = [0_u32; 4];
        weights[1].set(0);
        for _ in 0..900 {
            counts[smooth(4, |index| weights[index].get(), |index| credits.get(index)).unwrap()] += 1;
        }
        assert_eq!(counts, [300, 0, 300, 300]);
        assert_eq!(smooth(4, |_| 0, |index| credits.get(index)), None);
    }

    #[test]
    fn equal_weights_go_in_turn() {
        let mut cursor = 0;
        let mut picks = Vec::new();
        for _ in 0..6 {
            let (index, next) = in_turn(4, cursor, |index| index != 2).unwrap();
            cursor = next;
            picks.push(index);
        }
        assert_eq!(picks, [0, 1, 3, 0, 1, 3]);
        assert_eq!(in_turn(0, 5, |_| true), None);
        assert_eq!(in_turn(3, 7, |_| false), None);
    }
}

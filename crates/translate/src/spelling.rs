//! What a name that is not known was probably meant to be.

/// The candidate nearest to an unknown name, the first by name where several are; none where all are other words.
pub(crate) fn nearest<'a>(unknown: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (edits, name) = candidates
        .map(|candidate| (distance(unknown, candidate), candidate))
        .min()?;
    // More than a third of the letters wrong is another word.
    (edits <= (unknown.len() / 3).max(1)).then_some(name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two texts (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, left_char) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut right_before = None;
        for (column, right_char) in right.iter().copied().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&previous, column) + usize::from(left_char != right_char);
            let mut best = replaced
                .min(at(&previous, column + 1) + 1)
                .min(at(&current, column) + 1);
            if left_before == Some(right_char) && right_before == Some(left_char) {
                best = best.min(at(&before_previous, column.wrapping_sub(1)) + 1);
            }
            current.push(best);
            right_before = Some(right_char);
        }
        before_previous = std::mem::replace(&mut previous, current);
        left_before = Some(left_char);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("abc", "axcd"), 2);
    }
}

//! The name that somebody probably meant.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
///
/// A candidate that `word` begins, or that begins `word`, is near; otherwise one letter in three
/// may be wrong, missing, superfluous or swapped with its neighbour.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are nobody's typing error, and the comparison takes their square in time.
    const WORD_MAX: usize = 64;
    let length = word.chars().count();
    if length == 0 || length > WORD_MAX {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let cut = length >= 3 && (candidate.starts_with(word) || word.starts_with(candidate));
            let far = if cut { 1 } else { distance(word, candidate) };
            (far <= 1.max(length / 3)).then_some((far, candidate))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added, removed or swapped to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = last[j] + usize::from(from != to);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1];
            if swapped {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        let names = [
            "--vdev",
            "--proc-type",
            "--file-prefix",
            "--no-huge",
            "--huge-dir",
        ];
        assert_eq!(nearest("--vdve", names), Some("--vdev"));
        assert_eq!(nearest("--proctype", names), Some("--proc-type"));
        assert_eq!(nearest("--prok-typ", names), Some("--proc-type"));
        assert_eq!(nearest("--file", names), Some("--file-prefix"));
        assert_eq!(nearest("--nohuge", names), Some("--no-huge"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("--colour", ["--vdev", "--proc-type"]), None);
        assert_eq!(nearest("", ["-l"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["-l"]), None);
    }

    #[test]
    fn distance_counts_changes_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

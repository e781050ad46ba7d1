//! What a full outbox does: one coarser message instead of many fine ones, never silence.
//!
//! Keys become the longest prefixes that few enough share; where that is not enough, everything becomes `all`.
//! A coarser invalidation costs misses; a lost one would cost the promise.

use std::collections::HashSet;

use super::batch::{Batch, Sizes};
use super::Limits;

/// The most prefixes and keys that keys collapse to: a receiver looks at all its entries for each prefix.
const MAX_PREFIXES: usize = 16;

/// One message that says at least what `batches` say, and stands for all their numbers. There must be one batch.
pub(super) fn collapse(batches: impl Iterator<Item = Batch>, sizes: &Sizes, limits: &Limits) -> Batch {
    let mut merged = Batch { first: u64::MAX, ..Batch::default() };
    for batch in batches {
        merged.first = merged.first.min(batch.first);
        merged.seq = merged.seq.max(batch.seq);
        merged.keys.extend(batch.keys);
        merged.versioned.extend(batch.versioned);
        merged.tags.extend(batch.tags);
        merged.prefixes.extend(batch.prefixes);
        merged.all |= batch.all;
    }
    let (first, seq) = (merged.first, merged.seq);
    // Half the limit leaves room, so that the next push does not collapse again.
    let most = (limits.limit / 2).max(1);
    let fits = |batch: &Batch| batch.len() <= most.min(limits.max_ops) && batch.size <= limits.max_payload;
    deduplicate(&mut merged);
    let all = || Batch { first, all: true, ..Batch::new(seq, sizes.empty()) };
    let mut versions = Batch { versioned: merged.versioned.clone(), ..all() };
    versions.size += sizes.versions(&versions.versioned);
    let prefixes = |keep_versions| coarser(&merged, keep_versions, sizes, most, fits).filter(|_| !merged.all);
    // Versions last longest: what is said too coarsely costs misses, but a version that is not said lets a lagging
    // replica's value in.
    prefixes(true).or_else(|| Some(versions).filter(fits)).or_else(|| prefixes(false)).unwrap_or_else(all)
}

fn deduplicate(batch: &mut Batch) {
    for names in [&mut batch.keys, &mut batch.tags, &mut batch.prefixes] {
        names.sort_unstable();
        names.dedup();
    }
    // The highest version of a key says all that the lower ones say.
    batch.versioned.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    batch.versioned.dedup_by(|later, kept| later.0 == kept.0);
}

/// `merged` with its keys as prefixes, as long as possible for the result to fit; tags cannot be coarsened.
fn coarser(
    merged: &Batch,
    keep_versions: bool,
    sizes: &Sizes,
    most: usize,
    fits: impl Fn(&Batch) -> bool,
) -> Option<Batch> {
    let kept: HashSet<&str> = merged.versioned.iter().filter(|_| keep_versions).map(|(key, _)| key.as_str()).collect();
    let mut names: Vec<Name> = Vec::with_capacity(merged.keys.len() + merged.prefixes.len());
    // A key that is also kept with a version needs another form here; as a prefix it says a little more.
    names.extend(merged.keys.iter().map(|key| Name { text: key, prefix: kept.contains(key.as_str()) }));
    names.extend(merged.prefixes.iter().map(|prefix| Name { text: prefix, prefix: true }));
    if !keep_versions {
        names.extend(merged.versioned.iter().map(|(key, _)| Name { text: key, prefix: false }));
    }
    names.sort_unstable_by(|a, b| a.text.cmp(b.text));
    // For each name but the first, the bytes that it shares with the one before.
    let shared: Vec<usize> = names.windows(2).map(|pair| shared_prefix(pair[0].text, pair[1].text)).collect();
    let mut lengths = shared.clone();
    lengths.sort_unstable();
    lengths.dedup();
    // A group ends where fewer than `least` bytes are shared: the higher `least`, the more and the finer the groups.
    for least in lengths.into_iter().rev().filter(|&least| least > 0) {
        let groups = 1 + shared.iter().filter(|&&s| s < least).count();
        if groups > MAX_PREFIXES.min(most) {
            continue;
        }
        let mut coarse = Batch { first: merged.first, ..Batch::new(merged.seq, sizes.empty()) };
        coarse.tags = merged.tags.clone();
        if keep_versions {
            coarse.versioned = merged.versioned.clone();
        }
        for group in groups_of(&names, &shared, least) {
            match group {
                [one] if !one.prefix => coarse.keys.push(one.text.to_owned()),
                // Sorted, so what the first and the last share all of them share.
                [one, .., other] => coarse.prefixes.push(one.text[..shared_prefix(one.text, other.text)].to_owned()),
                [one] => coarse.prefixes.push(one.text.to_owned()),
                [] => {}
            }
        }
        coarse.size +=
            coarse.keys.iter().chain(&coarse.tags).chain(&coarse.prefixes).map(|name| sizes.name(name)).sum::<usize>();
        coarse.size += sizes.versions(&coarse.versioned);
        if fits(&coarse) {
            return Some(coarse);
        }
    }
    None
}

struct Name<'a> {
    text: &'a str,
    prefix: bool,
}

fn groups_of<'a, 'b>(names: &'a [Name<'b>], shared: &'a [usize], least: usize) -> impl Iterator<Item = &'a [Name<'b>]> {
    let cuts = shared.iter().enumerate().filter(move |(_, &s)| s < least).map(|(i, _)| i + 1);
    let mut start = 0;
    cuts.chain([names.len()]).map(move |end| {
        let group = &names[start..end];
        start = end;
        group
    })
}

/// The bytes that both start with, whole characters only.
fn shared_prefix(a: &str, b: &str) -> usize {
    let bytes = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=bytes).rev().find(|&at| a.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collapsed(keys: &[&str], versioned: &[(&str, u64)], limits: Limits) -> Batch {
        let batch = Batch {
            keys: keys.iter().map(|key| key.to_string()).collect(),
            versioned: versioned.iter().map(|(key, version)| (key.to_string(), *version)).collect(),
            ..Batch::new(1, 0)
        };
        collapse([batch].into_iter(), &Sizes::new(&"src".into()), &limits)
    }

    fn limit(limit: usize) -> Limits {
        Limits { limit, ..Limits::default() }
    }

    #[test]
    fn keys_collapse_to_their_longest_common_prefixes() {
        let keys = ["user:1", "user:2", "user:3", "product:10", "product:11", "alone"];
        let coarse = collapsed(&keys, &[], limit(6));
        assert_eq!(
            (&coarse.keys[..], &coarse.prefixes[..]),
            (&["alone".to_owned()][..], &["product:1".to_owned(), "user:".to_owned()][..])
        );
        assert!(!coarse.all);
    }

    #[test]
    fn keys_with_nothing_in_common_collapse_to_all() {
        let coarse = collapsed(&["a", "b", "c", "d"], &[], limit(2));
        assert!(coarse.all && coarse.len() == 1 && coarse.seq == 1);
    }

    #[test]
    fn what_is_coarse_fits_into_one_message() {
        let keys = ["user:1", "user:2", "product:10", "product:11"];
        let coarse = collapsed(&keys, &[], Limits { max_ops: 2, ..limit(100) });
        assert_eq!(coarse.prefixes, ["product:1", "user:"]);
        let coarse = collapsed(&keys, &[], Limits { max_ops: 1, ..limit(100) });
        assert!(coarse.all && coarse.len() == 1);
        let coarse = collapsed(&keys, &[], Limits { max_payload: 150, ..limit(100) });
        assert!(!coarse.all && coarse.size <= 150 && coarse.prefixes.contains(&"user:".to_owned()));
    }

    #[test]
    fn prefixes_end_at_whole_characters() {
        // The two differ in the second byte of one character.
        let coarse = collapsed(&["k\u{e9}1", "k\u{e8}1", "k\u{e9}2"], &[], limit(2));
        assert_eq!(coarse.prefixes, ["k"]);
    }

    #[test]
    fn versions_are_kept_while_they_fit_and_then_give_way() {
        let keys = ["u:1", "u:2", "u:3", "u:4", "v:9"];
        let coarse = collapsed(&keys, &[("v:9", 4), ("v:9", 7)], limit(6));
        assert_eq!(coarse.versioned, [("v:9".to_owned(), 7)]);
        assert_eq!(coarse.prefixes, ["u:", "v:9"]);
        let coarse = collapsed(&["a", "b", "c", "d"], &[("v:9", 4)], limit(4));
        assert_eq!((coarse.all, coarse.versioned.len()), (true, 1));
        let coarse = collapsed(&[], &[("u:1", 1), ("u:2", 2), ("u:3", 3)], limit(2));
        assert_eq!((coarse.versioned.len(), &coarse.prefixes[..]), (0, &["u:".to_owned()][..]));
    }
}

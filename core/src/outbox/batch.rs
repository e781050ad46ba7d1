//! One message that waits, and how many bytes it will take.

use std::sync::Arc;

use crate::message::{encode, encoded_len, Message, Operations, Stamp, MAX_INTEGER};

/// A message's worth of operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub first: u64,
    pub seq: u64,
    pub keys: Vec<String>,
    /// Keys with a version, apart from those without: one key cannot be both in one message.
    pub versioned: Vec<(String, u64)>,
    pub tags: Vec<String>,
    pub prefixes: Vec<String>,
    pub all: bool,
    /// An upper limit of the encoded length.
    pub size: usize,
}

impl Batch {
    pub fn new(seq: u64, size: usize) -> Batch {
        Batch { first: seq, seq, size, ..Batch::default() }
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.keys.len() + self.versioned.len() + self.tags.len() + self.prefixes.len() + usize::from(self.all)
    }

    /// Makes this `all`, and returns what is thereby said already.
    pub fn cover_all(&mut self) -> Batch {
        self.all = true;
        Batch {
            seq: self.seq,
            keys: std::mem::take(&mut self.keys),
            tags: std::mem::take(&mut self.tags),
            prefixes: std::mem::take(&mut self.prefixes),
            ..Batch::default()
        }
    }

    pub fn message(&self, src: &Arc<str>) -> Message {
        let mut keys: Vec<_> = self.keys.iter().map(|key| (key.clone(), None)).collect();
        keys.extend(self.versioned.iter().map(|(key, version)| (key.clone(), Some(*version))));
        let ops = Operations { keys, tags: self.tags.clone(), prefixes: self.prefixes.clone(), all: self.all };
        let stamp = Stamp { src: src.clone(), first: self.first, seq: self.seq };
        Message { stamp: Some(stamp), ops, ..Message::default() }
    }
}

/// Bytes per part of a message, known without encoding it. Integers count at their longest, so that a version may
/// be raised in place.
#[derive(Debug)]
pub(super) struct Sizes {
    empty: usize,
}

impl Sizes {
    pub fn new(src: &Arc<str>) -> Sizes {
        let stamp = Stamp { src: src.clone(), first: MAX_INTEGER - 1, seq: MAX_INTEGER };
        let envelope = encode(&Message { stamp: Some(stamp), ..Message::default() }).len();
        let fields = r#","keys":[],"versions":{},"tags":[],"prefixes":[],"all":true"#.len();
        Sizes { empty: envelope + fields }
    }

    /// An envelope without operations, all fields there.
    pub fn empty(&self) -> usize {
        self.empty
    }

    /// A key, tag or prefix with its comma.
    pub fn name(&self, name: &str) -> usize {
        encoded_len(name) + 1
    }

    /// A key with a version: once in `keys`, once in `versions`.
    pub fn versioned(&self, key: &str) -> usize {
        const LONGEST_INTEGER: usize = 16;
        2 * self.name(key) + 1 + LONGEST_INTEGER
    }

    /// All keys with a version.
    pub fn versions(&self, versioned: &[(String, u64)]) -> usize {
        versioned.iter().map(|(key, _)| self.versioned(key)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_upper_limits_and_close_ones() {
        let src: Arc<str> = "src".into();
        let sizes = Sizes::new(&src);
        let mut batch = Batch { first: MAX_INTEGER - 1, all: true, ..Batch::new(MAX_INTEGER, sizes.empty()) };
        for i in 0..10 {
            let (key, versioned, tag, prefix) =
                (format!("k\"{i}"), format!("v\u{1}{i}"), format!("t{i}"), format!("p\n{i}"));
            batch.size += sizes.name(&key) + sizes.versioned(&versioned) + sizes.name(&tag) + sizes.name(&prefix);
            batch.keys.push(key);
            batch.versioned.push((versioned, MAX_INTEGER));
            batch.tags.push(tag);
            batch.prefixes.push(prefix);
            let length = encode(&batch.message(&src)).len();
            // One comma too many per list.
            assert_eq!(batch.size, length + 4);
        }
        assert_eq!(sizes.versions(&batch.versioned), 10 * sizes.versioned("v\u{1}0"));
    }
}

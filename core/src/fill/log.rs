//! What was invalidated while loads are open, so that tags and dependencies that a load names at its end can be checked.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::store::{Extra, Key};

/// A longer history fences all open loads instead of growing.
const MAX_ITEMS: usize = 10_000;

/// The history, as positions that only grow.
#[derive(Default)]
pub(super) struct Log {
    end: u64,
    keys: HashMap<Key, u64, RandomState>,
    tags: HashMap<Key, u64, RandomState>,
    prefixes: Vec<(Key, u64)>,
    /// Loads that started before this position are fenced: what happened meanwhile was forgotten.
    forgotten: u64,
}

impl Log {
    /// Where the history stands; a load notes it when it starts.
    pub(super) fn position(&self) -> u64 {
        self.end
    }

    pub(super) fn note_key(&mut self, key: &str) {
        let at = self.next();
        note(&mut self.keys, key, at);
    }

    pub(super) fn note_tag(&mut self, tag: &str) {
        let at = self.next();
        note(&mut self.tags, tag, at);
    }

    pub(super) fn note_prefix(&mut self, prefix: &str) {
        let at = self.next();
        self.prefixes.push((prefix.into(), at));
    }

    fn next(&mut self) -> u64 {
        if self.keys.len() + self.tags.len() + self.prefixes.len() >= MAX_ITEMS {
            self.clear();
            self.forgotten = self.end + 1;
        }
        self.end += 1;
        self.end
    }

    /// Whether a load that started at `position` is fenced by what happened to its tags and dependencies since.
    pub(super) fn fences(&self, position: u64, extra: Option<&Extra>) -> bool {
        if position < self.forgotten {
            return true;
        }
        let Some(extra) = extra else { return false };
        let since = |at: Option<&u64>| at.is_some_and(|at| *at > position);
        extra.tags.iter().any(|tag| since(self.tags.get(tag)))
            || extra.depends_on.iter().any(|key| {
                since(self.keys.get(key)) || self.prefixes.iter().any(|(p, at)| *at > position && key.starts_with(&**p))
            })
    }

    /// Forgets the history; for when no load is open.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.tags.clear();
        self.prefixes.clear();
    }
}

fn note(items: &mut HashMap<Key, u64, RandomState>, name: &str, at: u64) {
    match items.get_mut(name) {
        Some(last) => *last = at,
        None => {
            items.insert(name.into(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_too_long_to_keep_fences_every_open_load() {
        let mut log = Log::default();
        let before = log.position();
        for i in 0..=MAX_ITEMS {
            log.note_key(&i.to_string());
        }
        assert!(log.fences(before, None));
        assert!(!log.fences(log.position(), None));
    }
}

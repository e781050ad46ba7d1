//! What a journal needs of an outbox, and an outbox again from that. Pure.
//!
//! A record is a message of the protocol under the outbox's own stream: one with operations says what was added to
//! that number, one without that every number up to its own was acknowledged. Reading a record twice changes nothing,
//! so a journal may begin again with [`Outbox::snapshot`] at any time, in a new file or in the same one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::batch::{Batch, Sizes};
use super::collapse;
use super::{Limits, Outbox};
use crate::message::{encode, Message, Operations};

impl Outbox {
    /// From now on additions are kept for [`Outbox::take_records`].
    pub fn keep_records(&mut self) {
        self.records.get_or_insert_default();
    }

    /// What was added since the last call, in the order of the additions: one record per number.
    pub fn take_records(&mut self) -> Vec<Vec<u8>> {
        let records = self.records.as_mut().map(std::mem::take).unwrap_or_default();
        records.iter().map(|batch| encode(&batch.message(&self.src))).collect()
    }

    /// Records that say all there is to know: what was acknowledged, and every message that was not.
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        let pending = self.in_flight.iter().chain(&self.waiting);
        self.heartbeat().into_iter().chain(pending.map(|batch| encode(&batch.message(&self.src)))).collect()
    }

    /// The outbox that a dead process left, from its records in their order. Its numbers stay; what was not
    /// acknowledged waits, as if it had never been handed out.
    ///
    /// A message that was in flight when the process died comes out with the same content under the same number. Only
    /// the first that waits can be that one, so only later ones are made into one where there are more than `limits`
    /// allow. A number of which no record tells anything is covered by the next one, as `all`.
    pub fn restore(src: Arc<str>, limits: Limits, bound_ns: u64, records: impl IntoIterator<Item = Message>) -> Outbox {
        let mut outbox = Outbox::new(src, limits, bound_ns);
        let mut batches: BTreeMap<u64, Batch> = BTreeMap::new();
        for message in records {
            let Some(stamp) = message.stamp.filter(|stamp| stamp.src == outbox.src) else { continue };
            if message.ops.is_empty() {
                outbox.acked = outbox.acked.max(stamp.seq);
                continue;
            }
            if stamp.first < stamp.seq {
                // Collapsed: it says what these said.
                batches.retain(|seq, _| !(stamp.first..=stamp.seq).contains(seq));
            }
            let batch = batches.entry(stamp.seq).or_insert_with(|| Batch::new(stamp.seq, 0));
            batch.first = batch.first.min(stamp.first);
            batch.merge(message.ops);
        }
        outbox.last = batches.last_key_value().map_or(0, |(seq, _)| *seq).max(outbox.acked);
        let mut expected = outbox.acked + 1;
        for (seq, mut batch) in batches.split_off(&expected) {
            if batch.first > expected {
                (batch.first, batch.all) = (expected, true);
            }
            expected = seq + 1;
            batch.settle(&outbox.sizes);
            let fits = batch.size <= outbox.limits.max_payload && batch.len() <= outbox.limits.max_ops;
            if !fits && batch.len() > 1 {
                batch = collapse::collapse([batch].into_iter(), &outbox.sizes, &outbox.limits);
            }
            outbox.waiting.push_back(batch);
        }
        let behind: usize = outbox.waiting.iter().skip(1).map(Batch::len).sum();
        if behind > outbox.limits.limit {
            let merged = collapse::collapse(outbox.waiting.drain(1..), &outbox.sizes, &outbox.limits);
            outbox.waiting.push_back(merged);
        }
        outbox.ops_waiting = outbox.waiting.iter().map(Batch::len).sum();
        outbox
    }

    /// Keeps an addition to number `seq`, if a journal wants it.
    pub(super) fn record(&mut self, seq: u64, add: impl FnOnce(&mut Batch)) {
        let Some(records) = &mut self.records else { return };
        if records.last().is_none_or(|record| record.seq != seq) {
            records.push(Batch::new(seq, 0));
        }
        if let Some(record) = records.last_mut() {
            add(record);
        }
    }
}

impl Batch {
    fn merge(&mut self, ops: Operations) {
        for (key, version) in ops.keys {
            match version {
                None => self.keys.push(key),
                Some(version) => self.versioned.push((key, version)),
            }
        }
        self.tags.extend(ops.tags);
        self.prefixes.extend(ops.prefixes);
        self.all |= ops.all;
    }

    /// What additions came to: nothing twice, in the order of the first, and the size of that.
    fn settle(&mut self, sizes: &Sizes) {
        if self.all {
            self.cover_all();
        }
        for names in [&mut self.keys, &mut self.tags, &mut self.prefixes] {
            let mut seen = HashSet::new();
            names.retain(|name| seen.insert(name.clone()));
        }
        let mut highest: HashMap<String, u64> = HashMap::new();
        for (key, version) in &self.versioned {
            let held = highest.entry(key.clone()).or_insert(*version);
            *held = (*version).max(*held);
        }
        // The key without a version says more, and one message cannot hold both.
        for key in &self.keys {
            highest.remove(key);
        }
        self.versioned.retain_mut(|(key, version)| highest.remove(key).map(|held| *version = held).is_some());
        let names = self.keys.iter().chain(&self.tags).chain(&self.prefixes);
        self.size = sizes.empty() + names.map(|name| sizes.name(name)).sum::<usize>() + sizes.versions(&self.versioned);
    }
}

#[cfg(test)]
mod tests;

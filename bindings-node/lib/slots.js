'use strict';
// The memory that a hit reads, which src/arena.rs writes from any thread. Offsets and sizes are the same there.
//
// A slot belongs to one value from `take` until the core drops its guard of it; then the slot is on the list of ended ones
// until `drain`, and free after that. So a slot never serves two values, and no counter can wrap around.

const native = require('./native.js');

/**
 * The board, at the start of the first chunk. As words of four bytes: the list of ended slots, the generation. As doubles: the
 * floor, the present (Infinity: unknown), and the horizons of 64 generations.
 */
const ENDED = 0;
const GENERATION = 1;
const FLOOR = 1;
const NOW = 2;
const HORIZONS = 3;
const CELLS = 64;
/** Where the records begin, in words of eight bytes. */
const RECORDS = 72;

/** A record: four words of eight bytes. The first holds two of four bytes: the state and the generation. */
const LOADED_AT = 1;
const YOUNG = 2;
const EXPIRES_AT = 3;
const BORN = 1;
const LIVE = -1;

/** The slots of one cache, and the values in them. */
class Slots {
  constructor(cache, memory, first) {
    this.cache = cache;
    /** The first chunk, which has all slots but those of very large caches, and how many. */
    this.words = new Int32Array(memory);
    this.times = new Float64Array(memory);
    this.first = first;
    /** All chunks. */
    this.chunks = [{ words: this.words, times: this.times }];
    this.size = first;
    this.next = 0;
    this.free = [];
    /** The slot of each key, and by slot the key and the value. */
    this.map = new Map();
    this.keys = [];
    this.values = [];
  }

  grow() {
    const memory = native.cacheGrow(this.cache);
    this.chunks.push({ words: new Int32Array(memory), times: new Float64Array(memory) });
    this.size += this.first * 2 ** (this.chunks.length - 1);
  }

  /** A slot to hand to the addon, which gives it back through the list of ended slots whatever becomes of it. */
  take() {
    if (this.free.length === 0) this.drain();
    if (this.free.length > 0) return this.free.pop();
    if (this.next === this.size) this.grow();
    // In this order, so that the arrays have no holes.
    this.keys.push(undefined);
    this.values.push(undefined);
    return this.next++;
  }

  /** Keeps the value of a slot that the core took. */
  keep(key, value, slot) {
    this.keys[slot] = key;
    this.values[slot] = value;
    this.map.set(key, slot);
  }

  /** Forgets the values of ended slots, and frees the slots. */
  drain() {
    if (this.words[ENDED] === 0) return;
    let link = Atomics.exchange(this.words, ENDED, 0);
    while (link !== 0) {
      const slot = link - 1;
      const [{ words }, at] = this.record(slot);
      link = words[2 * at];
      const key = this.keys[slot];
      if (key !== undefined) {
        this.keys[slot] = undefined;
        this.values[slot] = undefined;
        // Replaced, the key has another slot already.
        if (this.map.get(key) === slot) this.map.delete(key);
      }
      this.free.push(slot);
    }
  }

  /** The chunk of a slot's record, and its first word of eight bytes there. Each chunk is twice as large as the one before. */
  record(slot) {
    const chunk = 31 - Math.clz32(Math.floor(slot / this.first) + 1);
    return [this.chunks[chunk], RECORDS + 4 * (slot - this.first * (2 ** chunk - 1))];
  }

  /** Forgets all values; for a closed client. */
  clear() {
    this.map.clear();
    this.keys.fill(undefined);
    this.values.fill(undefined);
  }
}

/**
 * Whether the value in a slot may be served, by the rule of docs/guarantee.md: not ended, not loaded before the floor, not
 * expired, and either proved fresh or younger than the bound. A "no" is not final: the core decides, on an exact clock.
 */
function serves(slots, slot) {
  if (slot < slots.first) return servesAt(slots, slots.words, slots.times, RECORDS + 4 * slot);
  const [{ words, times }, at] = slots.record(slot);
  return servesAt(slots, words, times, at);
}

function servesAt(slots, words, times, at) {
  if (words[2 * at] !== LIVE) return false;
  // After the slot was found: design, rule 4. Unknown, it is Infinity, and nothing is served by it.
  const now = slots.times[NOW];
  const born = words[2 * at + BORN];
  if (
    now <= times[at + EXPIRES_AT] &&
    born === slots.words[GENERATION] &&
    now <= slots.times[HORIZONS + (born & (CELLS - 1))]
  ) {
    return true;
  }
  if (now === Infinity) {
    native.tick();
    return slots.times[NOW] !== Infinity && servesAt(slots, words, times, at);
  }
  return servesByAge(slots, times, at, now);
}

/** Without a proof. `YOUNG` does not lie behind `EXPIRES_AT`. */
function servesByAge(slots, times, at, now) {
  return times[at + LOADED_AT] >= slots.times[FLOOR] && now <= times[at + YOUNG];
}

module.exports = { Slots, serves };

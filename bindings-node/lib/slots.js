'use strict';
// The memory that a hit reads, which src/arena.rs writes from any thread. Offsets and sizes are the same there.
//
// A slot belongs to one value from `take` until the core drops its guard of it; then the slot is on the list of ended ones
// until `drain`, and free after that. So a slot never serves two values, and no counter can wrap around.

const native = require('./native.js');
const { clock } = require('./events.js');

/** The clock's memory: the present (Infinity: unknown), and where a call leaves a second result. */
const NOW = 0;
const SCRATCH = 1;

/** A record: four words of eight bytes. The first holds two of four bytes: the state and the generation. */
const WORDS = 8;
const BORN = 1;
const LOADED_AT = 1;
const YOUNG = 2;
const EXPIRES_AT = 3;
const LIVE = -1;
const FIRST_CHUNK = 1024;

/** The board: the list of ended slots and the generation (four bytes each), the floor, and horizons of 64 generations. */
const ENDED = 0;
const GENERATION = 1;
const FLOOR = 1;
const HORIZONS = 2;
const CELLS = 64;

/** A value and where its record is. */
class Entry {
  constructor(key, value, slot, chunk, at) {
    this.key = key;
    this.value = value;
    this.slot = slot;
    this.words = chunk.words;
    this.times = chunk.times;
    this.at = at;
  }
}

/** The slots of one cache. */
class Slots {
  constructor(cache, board) {
    this.cache = cache;
    this.words = new Int32Array(board);
    this.times = new Float64Array(board);
    this.chunks = [];
    this.size = 0;
    this.next = 0;
    this.free = [];
    /** The entry of each slot in use. */
    this.entries = [];
    this.map = new Map();
  }

  /** A slot to hand to the addon, which gives it back through the list of ended slots whatever becomes of it. */
  take() {
    if (this.free.length === 0) this.drain();
    if (this.free.length > 0) return this.free.pop();
    if (this.next === this.size) {
      const memory = native.cacheGrow(this.cache);
      this.chunks.push({ words: new Int32Array(memory), times: new Float64Array(memory) });
      this.size += FIRST_CHUNK << (this.chunks.length - 1);
    }
    return this.next++;
  }

  /** Keeps the value of a slot that the core took. */
  keep(key, value, slot) {
    const chunk = chunkOf(slot);
    const entry = new Entry(key, value, slot, this.chunks[chunk], indexIn(slot, chunk) * WORDS);
    this.entries[slot] = entry;
    this.map.set(key, entry);
  }

  /** Forgets the values of ended slots, and frees the slots. */
  drain() {
    if (this.words[ENDED] === 0) return;
    let link = Atomics.exchange(this.words, ENDED, 0);
    while (link !== 0) {
      const slot = link - 1;
      const chunk = chunkOf(slot);
      link = this.chunks[chunk].words[indexIn(slot, chunk) * WORDS];
      const entry = this.entries[slot];
      if (entry !== undefined) {
        this.entries[slot] = undefined;
        // Replaced, the key has another entry already.
        if (this.map.get(entry.key) === entry) this.map.delete(entry.key);
      }
      this.free.push(slot);
    }
  }

  /** Forgets all values; for a closed client. */
  clear() {
    this.map.clear();
    this.entries.length = 0;
  }
}

/** Chunk 0 has 1,024 slots, each further one twice as many. */
function chunkOf(slot) {
  return 31 - Math.clz32(Math.floor(slot / FIRST_CHUNK) + 1);
}

function indexIn(slot, chunk) {
  return slot - FIRST_CHUNK * ((1 << chunk) - 1);
}

/**
 * Whether a value may be served, by the rule of docs/guarantee.md: not ended, not loaded before the floor, not expired, and
 * either proved fresh or younger than the bound. A "no" is not final: the core decides, on an exact clock.
 */
function serves(entry, slots) {
  const { words, times, at } = entry;
  if (words[at] !== LIVE) return false;
  // After the entry was found: design, rule 4. Unknown, it is Infinity, and nothing is served by it.
  const now = clock[NOW];
  const born = words[at + BORN];
  if (
    born === slots.words[GENERATION] &&
    now <= times[(at >> 1) + EXPIRES_AT] &&
    now <= slots.times[HORIZONS + (born & (CELLS - 1))]
  ) {
    return true;
  }
  return now === Infinity ? native.tick() !== Infinity && serves(entry, slots) : servesByAge(entry, slots, now);
}

/** Without a proof. `YOUNG` does not lie behind `EXPIRES_AT`. */
function servesByAge({ times, at }, slots, now) {
  const record = at >> 1;
  return times[record + LOADED_AT] >= slots.times[FLOOR] && now <= times[record + YOUNG];
}

module.exports = { Slots, serves, clock, SCRATCH };

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

/** The board: the list of ended slots and the generation (four bytes each), the floor, and horizons of 64 generations. */
const ENDED = 0;
const GENERATION = 1;
const FLOOR = 1;
const HORIZONS = 2;
const CELLS = 64;

/** The slots of one cache, and the values in them. */
class Slots {
  constructor(cache, board, first) {
    this.cache = cache;
    /** The board. */
    this.board = new Int32Array(board);
    this.limits = new Float64Array(board);
    /** The records of the first chunk, which holds all but those of very large caches. */
    this.first = first;
    this.words = undefined;
    this.times = undefined;
    this.chunks = [];
    this.size = 0;
    this.next = 0;
    this.free = [];
    /** The slot of each key, and by slot the key and the value. */
    this.map = new Map();
    this.keys = [];
    this.values = [];
    this.grow();
  }

  grow() {
    const memory = native.cacheGrow(this.cache);
    this.chunks.push({ words: new Int32Array(memory), times: new Float64Array(memory) });
    this.size += this.first * 2 ** (this.chunks.length - 1);
    ({ words: this.words, times: this.times } = this.chunks[0]);
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
    if (this.board[ENDED] === 0) return;
    let link = Atomics.exchange(this.board, ENDED, 0);
    while (link !== 0) {
      const slot = link - 1;
      const [{ words }, at] = this.record(slot);
      link = words[at];
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

  /** The chunk of a slot's record, and its first word there. Each chunk is twice as large as the one before. */
  record(slot) {
    const chunk = 31 - Math.clz32(Math.floor(slot / this.first) + 1);
    return [this.chunks[chunk], (slot - this.first * (2 ** chunk - 1)) * WORDS];
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
  if (slot < slots.first) return servesAt(slots, slots.words, slots.times, slot * WORDS);
  const [{ words, times }, at] = slots.record(slot);
  return servesAt(slots, words, times, at);
}

function servesAt(slots, words, times, at) {
  if (words[at] !== LIVE) return false;
  // After the slot was found: design, rule 4. Unknown, it is Infinity, and nothing is served by it.
  const now = clock[NOW];
  const born = words[at + BORN];
  if (
    born === slots.board[GENERATION] &&
    now <= times[(at >> 1) + EXPIRES_AT] &&
    now <= slots.limits[HORIZONS + (born & (CELLS - 1))]
  ) {
    return true;
  }
  if (now === Infinity) {
    native.tick();
    return clock[NOW] !== Infinity && servesAt(slots, words, times, at);
  }
  return servesByAge(slots, times, at >> 1, now);
}

/** Without a proof. `YOUNG` does not lie behind `EXPIRES_AT`. */
function servesByAge(slots, times, record, now) {
  return times[record + LOADED_AT] >= slots.limits[FLOOR] && now <= times[record + YOUNG];
}

module.exports = { Slots, serves, clock, SCRATCH };

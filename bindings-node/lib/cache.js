'use strict';

const native = require('./native.js');
const { attachCache, scratch } = require('./events.js');
const { UnstaleError, invalid, kindOf } = require('./error.js');
const { configJson, terms } = require('./options.js');
const { MADE, mustBeMade } = require('./made.js');
const { Receipt, Lease } = require('./receipt.js');
const { Slots, serves } = require('./slots.js');
const { Source } = require('./source.js');

// As in src/cache.rs and src/load.rs.
const NONE = -1;
const LEAD = -2;
const STORED = 1;
const LATE = 2;

/** Hits that are remembered for the eviction policy; a power of two. More are forgotten: popular keys come again. */
const RING = 32;

/** One namespace of live values. Made by `client.cache`. */
class Cache extends Source {
  #number;
  #namespace;
  #slots;
  #map;
  #values;
  #loadTimeout;
  /** Promises of the loads that were begun here, by the core's number of each. */
  #flights = new Map();
  /** The load whose loader is being called just now. */
  #calling;
  /** Slots of the last hits, and how many hits there were since the core was told. */
  #ring = new Uint32Array(RING);
  #recent = 0;
  /** Hits before those. */
  #hits = 0;

  constructor(made, client, namespace, config) {
    mustBeMade(made, 'a cache is opened by `client.cache(namespace)`');
    super();
    const opened = native.cacheOpen(client, namespace, configJson(config));
    this.#number = opened.number;
    this.#namespace = namespace;
    this.#loadTimeout = opened.loadTimeout ?? undefined;
    this.#slots = new Slots(opened.number, opened.memory, opened.firstChunk);
    this.#map = this.#slots.map;
    this.#values = this.#slots.values;
    attachCache(opened.number, this);
  }

  /** The namespace; empty for none. */
  get namespace() {
    return this.#namespace;
  }

  /** Entries held, expired ones not yet replaced included. */
  get size() {
    return native.cacheLen(this.#number);
  }

  get(key) {
    const slot = this.#map.get(key);
    if (slot !== undefined && serves(this.#slots, slot)) {
      this.#ring[this.#recent++ & (RING - 1)] = slot;
      return this.#values[slot];
    }
    const found = native.cacheGet(this.#number, key);
    return found === NONE ? undefined : this.#values[found];
  }

  has(key) {
    const slot = this.#map.get(key);
    return (slot !== undefined && serves(this.#slots, slot)) || native.cacheHas(this.#number, key);
  }

  set(key, value, options) {
    const stored = this.#store(native.cacheSet, key, value, options);
    if (stored.result) this.#slots.keep(key, value, stored.slot);
    return stored.result;
  }

  update(key, value, options) {
    const stored = this.#store(native.cacheUpdate, key, value, options);
    const receipt = new Receipt(MADE, stored.result);
    if (receipt.stored) this.#slots.keep(key, value, stored.slot);
    return receipt;
  }

  #store(call, key, value, options) {
    if (value === undefined || value === null) {
      throw invalid(`\`value\` must not be ${value}, which means "not found"; use \`invalidate\` or \`evict\` to remove`);
    }
    const given = terms(options);
    const slot = this.#slots.take();
    return { slot, result: call(this.#number, key, slot, given, this.#touched()) };
  }

  getOrLoad(key, loader, options) {
    const slot = this.#map.get(key);
    if (slot !== undefined && serves(this.#slots, slot)) {
      this.#ring[this.#recent++ & (RING - 1)] = slot;
      return Promise.resolve(this.#values[slot]);
    }
    return this.#readThrough(key, loader, options);
  }

  async #readThrough(key, loader, options) {
    if (typeof loader !== 'function') throw invalid(`\`loader\` must be a function, not ${kindOf(loader)}`);
    const given = terms(options);
    for (;;) {
      const step = native.cacheBegin(this.#number, key, given);
      if (step === NONE) return undefined;
      if (step >= 0) return this.#values[step];
      const load = scratch[0];
      if (step === LEAD) return this.#lead(load, key, loader);
      const { value, late } = await this.#join(load, key);
      // A value that took longer than the bound may be staler than the one who joined may be given.
      if (!late) return value;
    }
  }

  async #lead(load, key, loader) {
    let settle;
    const flight = new Promise((resolve, reject) => (settle = { resolve, reject }));
    // Before the loader runs, which may itself read through this cache. Its failure is reported by this very call.
    this.#flights.set(load, flight);
    flight.catch(() => {});
    try {
      const value = (await this.#loaded(load, key, loader)) ?? undefined;
      const slot = value === undefined ? NONE : this.#slots.take();
      const ended = native.cacheFinish(this.#number, key, load, slot, this.#touched());
      if (slot !== NONE && (ended & STORED) !== 0) this.#slots.keep(key, value, slot);
      settle.resolve({ value, late: (ended & LATE) !== 0 });
      return value;
    } catch (error) {
      settle.reject(error);
      throw error;
    } finally {
      this.#flights.delete(load);
    }
  }

  async #loaded(load, key, loader) {
    try {
      return await this.#call(load, key, loader);
    } catch (error) {
      native.cacheFail(this.#number, load);
      throw error;
    }
  }

  #call(load, key, loader) {
    const before = this.#calling;
    this.#calling = load;
    try {
      return loader(key);
    } finally {
      this.#calling = before;
    }
  }

  async #join(load, key) {
    if (load === this.#calling) {
      throw invalid(`the loader of ${JSON.stringify(key)} asks for that very key, and would wait for itself`);
    }
    const flight = this.#flights.get(load);
    if (this.#loadTimeout === undefined) return flight;
    let timer;
    const expired = new Promise((_, reject) => {
      const message = `another caller's load of ${JSON.stringify(key)} did not end within \`loadTimeout\``;
      timer = setTimeout(() => reject(new UnstaleError('Timeout', message)), Math.min(this.#loadTimeout, 2 ** 31 - 1));
    });
    try {
      return await Promise.race([flight, expired]);
    } finally {
      clearTimeout(timer);
    }
  }

  wrap(fn, options) {
    if (typeof fn !== 'function') throw invalid(`\`fn\` must be a function, not ${kindOf(fn)}`);
    const { key, ...rest } = options ?? {};
    if (typeof key !== 'function') throw invalid('`key` must be a function that makes the key from the arguments');
    terms(rest);
    const cache = this;
    async function wrapped(...args) {
      return cache.getOrLoad(key.apply(this, args), () => fn.apply(this, args), rest);
    }
    Object.defineProperty(wrapped, 'name', { value: fn.name, configurable: true });
    Object.defineProperty(wrapped, 'length', { value: fn.length, configurable: true });
    wrapped.key = key;
    wrapped.invalidate = (...args) => cache.invalidate(key(...args));
    return wrapped;
  }

  lease(key) {
    return new Lease(MADE, key, native.cacheLease(this.#number, key));
  }

  invalidate(key, options) {
    const { version, ...unknown } = options ?? {};
    if (Object.keys(unknown).length > 0) throw invalid(`unknown option \`${Object.keys(unknown)[0]}\`; possible is version`);
    return new Receipt(MADE, native.cacheInvalidate(this.#number, key, known(version)));
  }

  invalidateMany(keys) {
    if (typeof keys !== 'object' || keys === null) {
      throw invalid('`keys` must be an iterable of keys, or a Map or object of keys and versions');
    }
    const names = [];
    const versions = [];
    const pairs = keys instanceof Map ? keys : typeof keys[Symbol.iterator] === 'function' ? undefined : Object.entries(keys);
    for (const [key, version] of pairs ?? unversioned(keys)) {
      names.push(key);
      versions.push(known(version) ?? -1);
    }
    return new Receipt(MADE, native.cacheInvalidateMany(this.#number, names, versions));
  }

  invalidateTags(tags) {
    return new Receipt(MADE, native.cacheInvalidateTags(this.#number, list('tags', tags)));
  }

  invalidatePrefix(prefix) {
    return new Receipt(MADE, native.cacheInvalidatePrefix(this.#number, prefix));
  }

  invalidateAll() {
    return new Receipt(MADE, native.cacheInvalidateAll(this.#number));
  }

  evict(key) {
    return native.cacheEvict(this.#number, key);
  }

  clearLocal() {
    native.cacheClear(this.#number);
  }

  stats() {
    const stats = camelCased(native.cacheStats(this.#number));
    stats.hits += this.#hits + this.#recent;
    return stats;
  }

  /** The last hits served here, as keys joined by NUL, which no key holds. */
  #touched() {
    if (this.#recent === 0) return undefined;
    const slots = new Set(this.#ring.subarray(0, Math.min(this.#recent, RING)));
    this.#hits += this.#recent;
    this.#recent = 0;
    const keys = [];
    for (const slot of slots) {
      const key = this.#slots.keys[slot];
      if (key !== undefined) keys.push(key);
    }
    return keys.length === 0 ? undefined : keys.join('\0');
  }

  _wanted(event, wanted) {
    if (event === 'invalidated') native.cacheListen(this.#number, wanted);
  }

  _drain() {
    this.#slots.drain();
  }

  _closed() {
    this.#slots.clear();
  }
}

function* unversioned(keys) {
  for (const key of keys) yield [key, undefined];
}

function known(version) {
  if (version === undefined || version === null) return undefined;
  // -1 is how the addon is told that there is none.
  if (typeof version !== 'number' || version < 0) {
    const given = typeof version === 'number' ? version : kindOf(version);
    throw invalid(`\`version\` must be an integer from 0 to 2^53 - 1, not ${given}`);
  }
  return version;
}

function list(name, value) {
  if (typeof value !== 'object' || value === null || typeof value[Symbol.iterator] !== 'function') {
    throw invalid(`\`${name}\` must be an iterable of strings, not ${kindOf(value)}`);
  }
  return [...value];
}

/** The core's JSON with its names in JavaScript's spelling; names inside of values are data. */
function camelCased(json) {
  const spelled = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(JSON.parse(json)).map(([name, value]) => [spelled(name), value]));
}

module.exports = { Cache, camelCased };

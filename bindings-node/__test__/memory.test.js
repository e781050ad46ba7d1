'use strict';
// Eviction, and what becomes of the objects: nothing that was dropped is served, and nothing that was dropped is kept.

const assert = require('node:assert/strict');
const test = require('node:test');
const unstale = require('unstale');
const { clients, memory, run, until } = require('./helpers.js');

async function open(t, options, config) {
  const client = await clients(t, unstale)(memory(), config);
  return client.cache('c', options);
}

test('maxEntries holds, and an evicted entry is a miss', async (t) => {
  const cache = await open(t, { maxEntries: 100 });
  for (let i = 0; i < 10_000; i++) cache.set(`k${i}`, { i });
  assert.ok(cache.size <= 100);
  let held = 0;
  for (let i = 0; i < 10_000; i++) {
    const value = cache.get(`k${i}`);
    if (value !== undefined) {
      held++;
      assert.equal(value.i, i);
    }
  }
  assert.equal(held, cache.size);
  assert.ok(cache.stats().evictions >= 9_900);
});

test('any mixture of calls agrees with a model', async (t) => {
  const cache = await open(t, { maxEntries: 10_000, ttlJitter: 0 });
  const model = new Map();
  let seed = 12345;
  const random = (n) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n;
  for (let step = 0; step < 100_000; step++) {
    const key = `k${random(3_000)}`;
    const choice = random(100);
    if (choice < 40) assert.equal(cache.get(key), model.get(key), `step ${step}`);
    else if (choice < 80) {
      const value = { step };
      cache.set(key, value);
      model.set(key, value);
    } else if (choice < 90) {
      cache.invalidate(key);
      model.delete(key);
    } else if (choice < 99) {
      cache.evict(key);
      model.delete(key);
    } else if (random(50) === 0) {
      cache.invalidateAll();
      model.clear();
    }
    // Turns of the loop, so that ended slots are also collected by the wake-up.
    if (step % 10_000 === 0) await new Promise(setImmediate);
  }
  for (const [key, value] of model) assert.equal(cache.get(key), value);
});

test('frequently read entries outlive a scan', async (t) => {
  const cache = await open(t, { maxEntries: 1_000 });
  const hot = Array.from({ length: 200 }, (_, i) => `hot${i}`);
  hot.forEach((key) => cache.set(key, key));
  for (let i = 0; i < 20_000; i++) {
    for (let j = 0; j < 4; j++) cache.get(hot[(i * 4 + j) % hot.length]);
    cache.set(`scan${i}`, i);
  }
  const held = hot.filter((key) => cache.get(key) !== undefined).length;
  assert.ok(held >= 190, `${held} of 200 hot entries are held`);
});

test('objects are released after an invalidation, an eviction, a replacement and a clear', async () => {
  const source = `
    const { connect } = require('unstale');
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    (async () => {
      const client = await connect('memory://');
      const cache = client.cache('c', { maxEntries: 10 });
      const other = client.cache('d');
      const refs = {};
      const put = (to, name, how) => {
        const value = { name, big: new Uint8Array(1e5) };
        to.set(name, value);
        refs[name] = new WeakRef(value);
        how?.(name);
      };
      put(other, 'invalidated', (name) => other.invalidate(name));
      put(other, 'evicted', (name) => other.evict(name));
      put(other, 'replaced', (name) => other.set(name, 1));
      put(other, 'cleared', () => other.clearLocal());
      for (let i = 0; i < 100; i++) put(cache, 'x' + i);
      const kept = {};
      other.set('kept', kept);
      const end = Date.now() + 15000;
      let left;
      do {
        await sleep(20);
        gc();
        left = Object.keys(refs).filter((name) => refs[name].deref() !== undefined && !cache.has(name));
      } while (left.length > 0 && Date.now() < end);
      console.log(JSON.stringify({ left, kept: other.get('kept') === kept, held: cache.size }));
      await client.close();
    })();`;
  const { printed, errors, code } = await run(source, [], { flags: ['--expose-gc'] });
  assert.deepEqual([code, errors], [0, '']);
  assert.deepEqual(printed, [{ left: [], kept: true, held: 10 }]);
});

test('a closed client and its caches are released', async () => {
  const source = `
    const { connect } = require('unstale');
    (async () => {
      let refs = [];
      for (let i = 0; i < 20; i++) {
        const client = await connect('memory://' + i);
        const cache = client.cache('c');
        const value = { big: new Uint8Array(1e6) };
        cache.set('k', value);
        refs.push(new WeakRef(client), new WeakRef(cache), new WeakRef(value));
        await client.close();
      }
      const end = Date.now() + 15000;
      let left;
      do {
        await new Promise((resolve) => setTimeout(resolve, 20));
        gc();
        left = refs.filter((ref) => ref.deref() !== undefined).length;
      } while (left > 3 && Date.now() < end);
      console.log(JSON.stringify(left));
    })();`;
  const { printed, errors, code } = await run(source, [], { flags: ['--expose-gc'] });
  assert.deepEqual([code, errors], [0, '']);
  assert.ok(printed[0] <= 3, `${printed[0]} of 60 are left`);
});

test('slots are used again', async (t) => {
  const cache = await open(t, { maxEntries: 50 });
  const before = process.memoryUsage().external + process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 200_000; i++) cache.set(`k${i}`, i);
  const grown = process.memoryUsage().external + process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 1e6, `${grown} bytes more`);
  await until(() => cache.size <= 50);
});

'use strict';
// Every method, on one client without a network.

const assert = require('node:assert/strict');
const test = require('node:test');
const unstale = require('unstale');
const { clients, memory, pair, until } = require('./helpers.js');

async function open(t, options) {
  const client = await clients(t, unstale)(memory());
  return { client, cache: client.cache('things', options) };
}

test('a hit is the very object that was stored', async (t) => {
  const { cache } = await open(t);
  const value = { price: 1 };
  assert.equal(cache.get('a'), undefined);
  assert.equal(cache.set('a', value), true);
  for (let i = 0; i < 100; i++) assert.equal(cache.get('a'), value);
  assert.equal(cache.has('a'), true);
  assert.equal(cache.has('b'), false);
  assert.equal(cache.size, 1);
  assert.equal(cache.namespace, 'things');
});

test('values of every type but "not found" are cached', async (t) => {
  const { cache } = await open(t);
  const values = ['', 0, -0, false, NaN, 1n, Symbol('s'), () => 1, [], new Map(), Promise.resolve(1)];
  values.forEach((value, i) => assert.equal(cache.set(`k${i}`, value), true));
  values.forEach((value, i) => assert.ok(Object.is(cache.get(`k${i}`), value), `value ${i}`));
});

test('a replaced value is never seen again', async (t) => {
  const { cache } = await open(t);
  for (let i = 0; i < 5_000; i++) {
    cache.set('a', i);
    assert.equal(cache.get('a'), i);
  }
  assert.equal(cache.size, 1);
});

test('an entry ends with its ttl', async (t) => {
  const { cache } = await open(t, { ttlJitter: 0 });
  cache.set('short', 1, { ttl: 60 });
  cache.set('long', 1);
  assert.equal(cache.get('short'), 1);
  await until(() => cache.get('short') === undefined, 'the entry expires');
  assert.equal(cache.get('long'), 1);
});

test('a ttl also ends within one turn of the event loop', async (t) => {
  const { cache } = await open(t, { ttlJitter: 0, ttl: '80ms' });
  cache.set('a', 1);
  const end = process.hrtime.bigint() + 10_000_000_000n;
  while (cache.get('a') === 1) assert.ok(process.hrtime.bigint() < end, 'it never expired');
});

test('invalidate removes here at once', async (t) => {
  const { cache } = await open(t);
  cache.set('a', 1);
  const receipt = cache.invalidate('a');
  assert.equal(cache.get('a'), undefined);
  assert.match(receipt.token, /^u1:[A-Za-z0-9_-]+:1:things$/);
  assert.equal(receipt.stored, false);
  assert.equal(await receipt.delivered(5_000), true);
  assert.deepEqual(JSON.parse(JSON.stringify(receipt)), { token: receipt.token, stored: false });
});

test('tags, dependencies, prefixes and all', async (t) => {
  const { cache } = await open(t);
  const fill = () => {
    cache.set('user:1', 'u1', { tags: ['eu'] });
    cache.set('user:2', 'u2', { tags: ['us', 'new'] });
    cache.set('page', 'p', { dependsOn: ['user:1'] });
    cache.set('other', 'o');
  };
  const held = () => ['user:1', 'user:2', 'page', 'other'].filter((key) => cache.has(key));
  fill();
  cache.invalidateTags(['new']);
  assert.deepEqual(held(), ['user:1', 'page', 'other']);
  fill();
  cache.invalidate('user:1');
  assert.deepEqual(held(), ['user:2', 'other']);
  fill();
  cache.invalidatePrefix('user:');
  assert.deepEqual(held(), ['other']);
  fill();
  cache.invalidateTags(new Set(['eu', 'us']));
  assert.deepEqual(held(), ['other']);
  fill();
  cache.invalidateAll();
  assert.deepEqual(held(), []);
  fill();
  assert.equal(held().length, 4, 'what is stored after it stays');
});

test('several keys at once, as an iterable, a Map or an object', async (t) => {
  const { cache } = await open(t);
  const fill = () => ['a', 'b', 'c'].forEach((key) => cache.set(key, key, { version: 3 }));
  const held = () => ['a', 'b', 'c'].filter((key) => cache.get(key) !== undefined);
  fill();
  cache.invalidateMany(['a', 'b']);
  assert.deepEqual(held(), ['c']);
  cache.clearLocal();
  fill();
  cache.invalidateMany(new Map([['a', 3], ['b', 4], ['c', undefined]]));
  assert.deepEqual(held(), ['a'], 'version 3 is current for a');
  cache.clearLocal();
  cache.invalidateMany({ d: 7 });
  assert.equal(cache.set('d', 'old', { version: 6 }), false);
  assert.equal(cache.set('d', 'new', { version: 7 }), true);
  assert.equal(cache.get('d'), 'new');
});

test('versions', async (t) => {
  const { cache } = await open(t);
  assert.equal(cache.set('a', 'v2', { version: 2 }), true);
  assert.equal(cache.set('a', 'v1', { version: 1 }), false);
  assert.equal(cache.get('a'), 'v2');
  cache.invalidate('a', { version: 2 });
  assert.equal(cache.get('a'), 'v2');
  cache.invalidate('a', { version: 3 });
  assert.equal(cache.get('a'), undefined);
  const receipt = cache.update('a', 'v4', { version: 4 });
  assert.equal(receipt.stored, true);
  assert.equal(cache.get('a'), 'v4');
  assert.equal(cache.update('a', 'v3', { version: 3 }).stored, false);
  assert.equal(cache.get('a'), 'v4');
});

test('leases', async (t) => {
  const { cache } = await open(t);
  const lease = cache.lease('a');
  assert.equal(lease.key, 'a');
  assert.equal(cache.set('a', 1, { lease }), true);
  assert.equal(cache.set('a', 2, { lease }), false, 'a lease is used up');
  assert.equal(cache.get('a'), 1);
  const late = cache.lease('a');
  cache.invalidate('a');
  assert.equal(cache.set('a', 3, { lease: late }), false);
  assert.equal(cache.get('a'), undefined);
  const write = cache.lease('a');
  assert.equal(cache.update('a', 4, { lease: write }).stored, true);
  assert.equal(cache.get('a'), 4);
  assert.throws(() => cache.update('a', 5), { code: 'InvalidArgument', message: /lease.*version/ });
  assert.equal(cache.get('a'), 4);
  const given = cache.lease('b');
  assert.equal(cache.stats().openLoads, 1);
  given.release();
  given.release();
  assert.equal(cache.stats().openLoads, 0);
  assert.throws(() => cache.set('b', 1, { lease: given }), { code: 'InvalidArgument', message: /released/ });
});

test('evict and clearLocal are local', async (t) => {
  const { two, a, b } = await pair(t, unstale, memory());
  a.set('k', 1);
  b.set('k', 1);
  b.set('l', 1);
  assert.equal(a.evict('k'), true);
  assert.equal(a.evict('k'), false);
  a.set('k', 2);
  a.clearLocal();
  assert.equal(a.get('k'), undefined);
  const { token } = a.invalidate('l');
  assert.equal(await two.waitFor(token, 5_000), true);
  assert.equal(b.get('l'), undefined);
  assert.equal(b.get('k'), 1);
});

test('one client invalidates, the other reads its writes', async (t) => {
  const { two, a, b } = await pair(t, unstale, memory());
  b.set('k', 'old');
  b.set('u', 'old');
  assert.equal(await two.waitFor(a.invalidate('k').token, 5_000), true);
  assert.equal(b.get('k'), undefined);
  const receipt = a.update('u', 'new', { version: 1 });
  assert.equal(await two.waitFor(receipt.token, 5_000), true);
  assert.equal(a.get('u'), 'new');
  assert.equal(b.get('u'), undefined);
  assert.equal(await two.waitFor('u1:nobody:1:elsewhere', 1), true, 'no cache of that namespace is here');
  assert.equal(await two.waitFor('u1:nobody:1:c', 30), false);
});

test("'invalidated' tells what was applied, also to listeners that come and go", async (t) => {
  const { a, b } = await pair(t, unstale, memory());
  const seen = [];
  const listener = (event) => seen.push(event);
  b.on('invalidated', listener);
  const { token } = a.invalidateMany(['x', 'y']);
  b.invalidateTags(['t']);
  await until(() => seen.length === 2);
  const remote = seen.find((event) => event.origin === 'remote');
  const [, src, seq] = token.split(':');
  assert.deepEqual(remote, {
    namespace: 'c', keys: ['x', 'y'], tags: [], prefixes: [], all: false, origin: 'remote', src, seq: Number(seq),
  });
  const local = seen.find((event) => event.origin === 'local');
  assert.deepEqual([local.tags, local.src, local.seq], [['t'], null, null]);
  b.off('invalidated', listener);
  b.invalidate('z');
  const once = [];
  b.once('invalidated', (event) => once.push(event.prefixes));
  b.invalidatePrefix('p');
  await until(() => once.length > 0);
  assert.deepEqual(once, [['p']]);
  assert.equal(seen.length, 2);
  b.on('invalidated', listener);
  b.removeAllListeners();
  b.on('invalidated', listener);
  b.invalidateAll();
  await until(() => seen.length === 3);
  assert.equal(seen[2].all, true);
});

test("a listener's error is the program's, and costs no other event", async (t) => {
  const { cache } = await open(t);
  const seen = [];
  cache.on('invalidated', ({ keys }) => {
    seen.push(keys[0]);
    if (keys[0] === 'bad') throw new Error('from the listener');
  });
  const uncaught = [];
  // The runner has a listener of its own, which would take this for a failure of the test.
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.once('uncaughtException', (error) => {
    others.forEach((other) => process.on('uncaughtException', other));
    uncaught.push(error.message);
  });
  cache.invalidate('bad');
  cache.invalidate('good');
  await until(() => uncaught.length > 0);
  assert.deepEqual(uncaught, ['from the listener']);
  await until(() => seen.includes('good'));
});

test('stats count what happened, hits in JavaScript included', async (t) => {
  const { cache } = await open(t);
  cache.get('a');
  cache.set('a', 1);
  for (let i = 0; i < 1_000; i++) cache.get('a');
  await cache.getOrLoad('b', () => 2);
  await cache.getOrLoad('b', () => 2);
  cache.invalidate('a');
  const stats = cache.stats();
  assert.equal(stats.hits, 1_001);
  assert.equal(stats.misses, 2);
  assert.equal(stats.loads, 1);
  assert.equal(stats.sets, 1);
  assert.equal(stats.invalidationsLocal, 1);
  assert.equal(stats.entries, 1);
});

test("status and its event, to the client's end", async (t) => {
  const client = await unstale.connect(memory(), { app: 'shop' });
  const status = client.status();
  assert.equal(status.state, 'live');
  assert.equal(status.transport, 'memory');
  assert.equal(status.stalenessBoundMs, 30_000);
  assert.match(status.src, /^shop-/);
  const states = [];
  client.on('status', ({ state }) => states.push(state));
  client.cache('c');
  await until(() => client.status().caches === 1);
  assert.equal(await client.close(), 0);
  await until(() => states.at(-1) === 'closed');
  assert.equal(client.status().state, 'closed');
  assert.equal(await client.close(), 0, 'a second close is the same');
});

test('a closed client serves nothing and says so', async () => {
  const client = await unstale.connect(memory());
  const cache = client.cache('c');
  cache.set('a', 1);
  const lease = cache.lease('b');
  const closing = client.close();
  const calls = {
    get: () => cache.get('a'),
    has: () => cache.has('a'),
    set: () => cache.set('a', 1),
    leased: () => cache.set('b', 1, { lease }),
    lease: () => cache.lease('a'),
    update: () => cache.update('a', 1, { version: 1 }),
    invalidate: () => cache.invalidate('a'),
    all: () => cache.invalidateAll(),
    evict: () => cache.evict('a'),
    clear: () => cache.clearLocal(),
    open: () => client.cache('d'),
  };
  for (const [name, call] of Object.entries(calls)) assert.throws(call, { code: 'Closed', kind: 7 }, name);
  await assert.rejects(cache.getOrLoad('a', () => 1), { code: 'Closed' });
  await assert.rejects(client.waitFor('u1:x:1:c', 1), { code: 'Closed' });
  await closing;
  for (const [name, call] of Object.entries(calls)) assert.throws(call, { code: 'Closed' }, name);
});

test('await using closes', async () => {
  const client = await unstale.connect(memory());
  const dispose = client[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')];
  assert.equal(await dispose.call(client), undefined);
  assert.equal(client.status().state, 'closed');
});

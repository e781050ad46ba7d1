'use strict';
// Read-through: one load for many, failures, and invalidations that arrive while a load is under way.

const assert = require('node:assert/strict');
const test = require('node:test');
const { AsyncLocalStorage } = require('node:async_hooks');
const unstale = require('unstale');
const { clients, memory, pair, until } = require('./helpers.js');

async function open(t, options, config) {
  const client = await clients(t, unstale)(memory(), config);
  return { client, cache: client.cache('things', options) };
}

/** A loader whose calls end when the test says so. */
function held() {
  const calls = [];
  const loader = (key) => new Promise((resolve, reject) => calls.push({ key, resolve, reject }));
  return { calls, loader };
}

test('callers at the same time share one load', async (t) => {
  const { cache } = await open(t);
  const { calls, loader } = held();
  const all = Array.from({ length: 50 }, () => cache.getOrLoad('a', loader));
  assert.equal(calls.length, 1);
  assert.equal(calls[0].key, 'a');
  const value = {};
  calls[0].resolve(value);
  for (const got of await Promise.all(all)) assert.equal(got, value);
  assert.equal(cache.get('a'), value);
  assert.equal(await cache.getOrLoad('a', loader), value);
  assert.equal(calls.length, 1);
  assert.equal(cache.stats().joins, 49);
});

test('a loader may return a plain value', async (t) => {
  const { cache } = await open(t);
  assert.equal(await cache.getOrLoad('a', (key) => key.toUpperCase()), 'A');
  assert.equal(cache.get('a'), 'A');
});

test("a loader's own error reaches every caller unchanged, and nothing is stored", async (t) => {
  const { cache } = await open(t);
  const { calls, loader } = held();
  const all = Array.from({ length: 5 }, () => cache.getOrLoad('a', loader));
  class DatabaseError extends Error {}
  const error = new DatabaseError('gone');
  calls[0].reject(error);
  for (const one of await Promise.allSettled(all)) assert.equal(one.reason, error);
  assert.equal(cache.get('a'), undefined);
  assert.equal(await cache.getOrLoad('a', () => 1), 1);
  assert.equal(cache.stats().loadFailures, 1);
  const thrown = Symbol('thrown synchronously');
  const sync = () => {
    throw thrown;
  };
  assert.equal(await cache.getOrLoad('b', sync).catch((e) => e), thrown);
});

test('a failed load that nobody joined is no unhandled rejection', async (t) => {
  const { cache } = await open(t);
  const unhandled = [];
  const note = (error) => unhandled.push(error);
  process.on('unhandledRejection', note);
  t.after(() => process.off('unhandledRejection', note));
  await assert.rejects(cache.getOrLoad('a', () => Promise.reject(new Error('x'))), /x/);
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(unhandled, []);
});

test('"not found" is not stored unless negativeTtl is set', async (t) => {
  const client = await clients(t, unstale)(memory());
  const [plain, negative] = [client.cache('plain'), client.cache('negative', { negativeTtl: '1m' })];
  for (const nothing of [undefined, null]) {
    let loads = 0;
    const loader = () => (loads++, nothing);
    assert.equal(await plain.getOrLoad(`k${nothing}`, loader), undefined);
    assert.equal(await plain.getOrLoad(`k${nothing}`, loader), undefined);
    assert.equal(loads, 2);
    assert.equal(await negative.getOrLoad(`k${nothing}`, loader), undefined);
    assert.equal(await negative.getOrLoad(`k${nothing}`, loader), undefined);
    assert.equal(loads, 3);
    assert.equal(negative.get(`k${nothing}`), undefined);
    assert.equal(negative.has(`k${nothing}`), false);
    negative.invalidate(`k${nothing}`);
    assert.equal(await negative.getOrLoad(`k${nothing}`, () => 'found'), 'found');
    assert.equal(negative.get(`k${nothing}`), 'found');
  }
});

const RACES = {
  key: (cache) => cache.invalidate('a'),
  many: (cache) => cache.invalidateMany(['z', 'a']),
  tag: (cache) => cache.invalidateTags(['t']),
  dependency: (cache) => cache.invalidate('input'),
  prefix: (cache) => cache.invalidatePrefix('a'),
  'prefix of a dependency': (cache) => cache.invalidatePrefix('inp'),
  all: (cache) => cache.invalidateAll(),
  'clearLocal, locally': (cache) => cache.clearLocal(),
  'evict, locally': (cache) => cache.evict('a'),
};

for (const [name, invalidate] of Object.entries(RACES)) {
  const options = { tags: ['t'], dependsOn: ['input'] };
  const remotely = !name.endsWith('locally');

  test(`a value loaded before an invalidation (${name}) is not stored after it`, async (t) => {
    const { one: here, a: cache, b: other } = await pair(t, unstale, memory());
    for (const from of remotely ? [cache, other] : [cache]) {
      const { calls, loader } = held();
      const waiting = [cache.getOrLoad('a', loader, options), cache.getOrLoad('a', loader, options)];
      const receipt = invalidate(from);
      if (from === other) assert.equal(await here.waitFor(receipt.token, 5_000), true);
      const after = cache.getOrLoad('a', loader, options);
      assert.equal(calls.length, 2, 'who asks after the invalidation starts a new load');
      calls[0].resolve('old');
      assert.deepEqual(await Promise.all(waiting), ['old', 'old'], 'those who waited get it');
      assert.equal(cache.get('a'), undefined);
      calls[1].resolve('new');
      assert.equal(await after, 'new');
      assert.equal(cache.get('a'), 'new');
      cache.evict('a');
    }
  });

  test(`a lease taken before an invalidation (${name}) stores nothing after it`, async (t) => {
    const { cache } = await open(t);
    const lease = cache.lease('a');
    invalidate(cache);
    assert.equal(cache.set('a', 'old', { ...options, lease }), false);
    assert.equal(cache.get('a'), undefined);
  });
}

test('an invalidation is seen by a loop that never returns to the event loop', async (t) => {
  const { a: mine, b: other } = await pair(t, unstale, memory());
  for (let round = 0; round < 200; round++) {
    mine.set('k', round);
    assert.equal(mine.get('k'), round);
    // Applied here by the link's thread.
    other.invalidate('k');
    const end = Date.now() + 10_000;
    while (mine.get('k') !== undefined) if (Date.now() > end) assert.fail(`not seen in round ${round}`);
  }
});

test('a set during a load wins over the load', async (t) => {
  const { cache } = await open(t);
  const { calls, loader } = held();
  const waiting = cache.getOrLoad('a', loader);
  cache.set('a', 'written');
  calls[0].resolve('read before');
  assert.equal(await waiting, 'read before');
  assert.equal(cache.get('a'), 'written');
});

test('who joined a load that took longer than the bound loads again', async (t) => {
  const { cache } = await open(t, {}, { stalenessBound: 500 });
  const { calls, loader } = held();
  const [leader, joiner] = [cache.getOrLoad('a', loader), cache.getOrLoad('a', loader)];
  const end = Date.now() + 700;
  await until(() => Date.now() > end);
  calls[0].resolve('old');
  assert.equal(await leader, 'old');
  assert.equal(cache.get('a'), undefined, 'it is too old to be stored');
  await until(() => calls.length === 2);
  calls[1].resolve('new');
  assert.equal(await joiner, 'new');
  assert.equal(cache.get('a'), 'new');
});

test('loadTimeout ends the wait for another caller only', async (t) => {
  const { cache } = await open(t, { loadTimeout: 50 });
  const { calls, loader } = held();
  const leader = cache.getOrLoad('a', loader);
  await assert.rejects(cache.getOrLoad('a', loader), { code: 'Timeout', message: /"a".*loadTimeout/ });
  calls[0].resolve(1);
  assert.equal(await leader, 1);
  assert.equal(await cache.getOrLoad('a', loader), 1);
});

test('options go with the loaded value', async (t) => {
  const { cache } = await open(t);
  await cache.getOrLoad('a', () => 1, { tags: ['t'], version: 5 });
  assert.equal(cache.set('a', 2, { version: 4 }), false);
  cache.invalidateTags(['t']);
  assert.equal(cache.get('a'), undefined);
});

test('a load keeps its context', async (t) => {
  const { cache } = await open(t);
  const storage = new AsyncLocalStorage();
  const { calls, loader } = held();
  const leader = cache.getOrLoad('a', loader);
  const joiner = storage.run('joiner', async () => {
    await cache.getOrLoad('a', loader);
    return storage.getStore();
  });
  calls[0].resolve(1);
  await leader;
  assert.equal(await joiner, 'joiner');
  assert.equal(await storage.run('leader', () => cache.getOrLoad('b', async () => storage.getStore())), 'leader');
});

test('a loader may read through the same cache', async (t) => {
  const { cache } = await open(t);
  const page = () => cache.getOrLoad('user', () => 'ann').then((user) => `page of ${user}`);
  assert.equal(await cache.getOrLoad('page', page, { dependsOn: ['user'] }), 'page of ann');
  cache.invalidate('user');
  assert.equal(cache.get('page'), undefined);
});

test('a loader that asks for its own key is told so', async (t) => {
  const { cache } = await open(t);
  const loader = (key) => cache.getOrLoad(key, loader);
  await assert.rejects(cache.getOrLoad('a', loader), { code: 'InvalidArgument', message: /"a".*itself/ });
  assert.equal(await cache.getOrLoad('a', () => 1), 1);
});

test('a client that is closed during a load still gives the value to those who wait', async () => {
  const client = await unstale.connect(memory());
  const cache = client.cache('c');
  const { calls, loader } = held();
  const waiting = [cache.getOrLoad('a', loader), cache.getOrLoad('a', loader)];
  await client.close();
  calls[0].resolve(1);
  assert.deepEqual(await Promise.all(waiting), [1, 1]);
});

test('wrap reads through, with helpers', async (t) => {
  const { cache } = await open(t);
  class Users {
    loads = 0;
    find = cache.wrap(this.load, { key: (id, lang = 'en') => `user:${id}:${lang}`, tags: ['users'] });
    async load(id) {
      this.loads++;
      return { id };
    }
  }
  const users = new Users();
  assert.deepEqual(await users.find(1), { id: 1 });
  assert.equal(await users.find(1), await users.find(1));
  assert.equal(users.loads, 1);
  assert.equal(users.find.key(1), 'user:1:en');
  assert.equal(users.find.name, 'load');
  assert.equal(users.find.length, 1);
  users.find.invalidate(1);
  await users.find(1);
  assert.equal(users.loads, 2);
  cache.invalidateTags(['users']);
  await users.find(1);
  assert.equal(users.loads, 3);
  const broken = cache.wrap(() => 1, { key: () => { throw new Error('no key'); } });
  await assert.rejects(broken(), /no key/);
});

test('thousands of loads at once', async (t) => {
  const { cache } = await open(t, { maxEntries: 20_000 });
  const all = Array.from({ length: 10_000 }, (_, i) => cache.getOrLoad(`k${i}`, async (key) => key));
  (await Promise.all(all)).forEach((value, i) => assert.equal(value, `k${i}`));
  for (let i = 0; i < 10_000; i++) assert.equal(cache.get(`k${i}`), `k${i}`);
});

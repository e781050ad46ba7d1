'use strict';
// Section by section: what is refused, with which kind, and that nothing changed.

const assert = require('node:assert/strict');
const test = require('node:test');
const unstale = require('unstale');
const { memory } = require('./helpers.js');

const { UnstaleError } = unstale;
const LONE = 'half \ud83d pair';
const NOT_STRINGS = [undefined, null, 1, 1n, true, Symbol('s'), {}, [], () => {}, new String('a'), Buffer.from('a')];
const BAD_NAMES = ['', 'x'.repeat(1025), 'é'.repeat(513), 'a\0b', LONE, ...NOT_STRINGS];
const BAD_DURATIONS = [-1, NaN, Infinity, -Infinity, 1e300, '30s', true, {}, 1n];
const BAD_VERSIONS = [-1, 0.5, NaN, Infinity, 2 ** 53, 2 ** 64, '1', 1n, {}, true];
const show = (value) => (typeof value === 'string' ? JSON.stringify(value.slice(0, 12)) : String(value?.constructor?.name ?? value));

function refused(call, code, name) {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof UnstaleError && error instanceof Error, `${name}: ${error}`);
    assert.equal(error.code, code, `${name}: ${error.message}`);
    assert.equal(error.name, 'UnstaleError');
    assert.ok(error.message.length > 10 && error.message.length < 400, error.message);
    return error;
  }
  assert.fail(`${name} was accepted`);
}

async function rejected(promise, code, name) {
  const outcome = await promise.then((value) => ({ value }), (error) => ({ error }));
  refused(() => {
    if ('error' in outcome) throw outcome.error;
  }, code, name);
}

async function open(t) {
  const client = await unstale.connect(memory());
  const cache = client.cache('c');
  cache.set('held', 'value', { version: 1, tags: ['t'] });
  t.after(async () => {
    const value = cache.get('held');
    await client.close();
    assert.equal(value, 'value', 'nothing changed');
  });
  return { client, cache };
}

test('names: keys, tags, prefixes', async (t) => {
  const { cache } = await open(t);
  for (const bad of BAD_NAMES) {
    const calls = {
      get: () => cache.get(bad),
      has: () => cache.has(bad),
      set: () => cache.set(bad, 1),
      lease: () => cache.lease(bad),
      update: () => cache.update(bad, 1, { version: 1 }),
      invalidate: () => cache.invalidate(bad),
      many: () => cache.invalidateMany(['held', bad]),
      tags: () => cache.invalidateTags(['t', bad]),
      prefix: () => cache.invalidatePrefix(bad),
      evict: () => cache.evict(bad),
      tagged: () => cache.set('held', 2, { tags: ['a', bad] }),
      dependent: () => cache.set('held', 2, { dependsOn: [bad] }),
    };
    for (const [name, call] of Object.entries(calls)) refused(call, 'InvalidArgument', `${name}(${show(bad)})`);
    await rejected(cache.getOrLoad(bad, () => 1), 'InvalidArgument', `getOrLoad(${show(bad)})`);
    await rejected(cache.getOrLoad('k', () => 1, { tags: [bad] }), 'InvalidArgument', `getOrLoad tags ${show(bad)}`);
  }
  assert.equal(cache.size, 1);
  assert.equal(cache.stats().openLoads, 0);
});

test('the longest key, and every character', async (t) => {
  const { cache } = await open(t);
  for (const key of ['x'.repeat(1024), 'é'.repeat(512), '😀'.repeat(256), '\u0001', ' ', '\ufffd', '{"v":1}', 'a\nb', '__proto__', 'constructor']) {
    assert.equal(cache.get(key), undefined);
    assert.equal(cache.set(key, key), true);
    assert.equal(cache.get(key), key);
    cache.invalidate(key);
    assert.equal(cache.get(key), undefined);
  }
});

test('the messages of errors name the argument and what to do', async (t) => {
  const { cache } = await open(t);
  assert.match(refused(() => cache.get(5), 'InvalidArgument').message, /`key`.*string.*number/);
  assert.match(refused(() => cache.set('a', 1, { tll: 5 }), 'InvalidArgument').message, /`tll`.*ttl/);
  assert.match(refused(() => cache.set('a', null), 'InvalidArgument').message, /invalidate/);
  const { stack, kind } = refused(() => cache.get(''), 'InvalidArgument');
  assert.equal(kind, 1);
  assert.match(stack, /bad-input\.test\.js/);
});

test('values', async (t) => {
  const { cache } = await open(t);
  for (const nothing of [undefined, null]) {
    refused(() => cache.set('held', nothing), 'InvalidArgument', 'set');
    refused(() => cache.update('held', nothing, { version: 9 }), 'InvalidArgument', 'update');
  }
});

test('options of a value', async (t) => {
  const { cache } = await open(t);
  const lease = cache.lease('held');
  for (const options of ['x', 5, true, [], Symbol('s'), () => {}]) {
    refused(() => cache.set('held', 2, options), 'InvalidArgument', `options ${show(options)}`);
    await rejected(cache.getOrLoad('k', () => 1, options), 'InvalidArgument', `options ${show(options)}`);
  }
  const bad = [
    ...BAD_DURATIONS.map((ttl) => ({ ttl })),
    { ttl: 0 },
    ...BAD_VERSIONS.map((version) => ({ version })),
    ...['t', 5, { 0: 't' }, [1], [undefined], ['a', null]].flatMap((tags) => [{ tags }, { dependsOn: tags }]),
    { tags: Array.from({ length: 1001 }, (_, i) => `t${i}`) },
    ...[1, 'lease', {}, Object.create(unstale.Lease.prototype), cache].map((lease) => ({ lease })),
    { lease: cache.lease('another key') },
    { staleness: 1 },
    { depends_on: [] },
    { __proto__: null, constructor: 1 },
  ];
  for (const options of bad) {
    refused(() => cache.set('held', 2, options), 'InvalidArgument', `set ${Object.keys(options)}: ${show(Object.values(options)[0])}`);
    refused(() => cache.update('held', 2, { version: 5, ...options }), 'InvalidArgument', `update ${Object.keys(options)}`);
    await rejected(cache.getOrLoad('k', () => 1, options), 'InvalidArgument', `getOrLoad ${Object.keys(options)}`);
  }
  await rejected(cache.getOrLoad('k', () => 1, { lease }), 'InvalidArgument', 'a read-through with a lease');
  for (const version of BAD_VERSIONS) {
    refused(() => cache.invalidate('held', { version }), 'InvalidArgument', `invalidate version ${show(version)}`);
    refused(() => cache.invalidateMany({ held: version }), 'InvalidArgument', `invalidateMany version ${show(version)}`);
  }
  refused(() => cache.invalidate('held', { ttl: 1 }), 'InvalidArgument', 'invalidate with an unknown option');
  assert.equal(cache.set('held', 'value', { lease, ttl: undefined, tags: null }), true, 'the lease was not used up by refusals');
});

test('lists', async (t) => {
  const { cache } = await open(t);
  for (const list of [undefined, null, 'held', 5, true, () => {}]) {
    refused(() => cache.invalidateMany(list), 'InvalidArgument', `invalidateMany ${show(list)}`);
    refused(() => cache.invalidateTags(list), 'InvalidArgument', `invalidateTags ${show(list)}`);
  }
  refused(() => cache.invalidateTags({ t: 1 }), 'InvalidArgument', 'an object is no list of tags');
  assert.ok(cache.invalidateMany([]).token, 'nothing to invalidate is fine');
  assert.ok(cache.invalidateTags([]).token);
});

test('functions', async (t) => {
  const { cache } = await open(t);
  for (const loader of [undefined, null, 'x', {}, Promise.resolve(1)]) {
    await rejected(cache.getOrLoad('k', loader), 'InvalidArgument', `loader ${show(loader)}`);
    refused(() => cache.wrap(loader, { key: () => 'k' }), 'InvalidArgument', `wrap ${show(loader)}`);
    refused(() => cache.wrap(() => 1, { key: loader }), 'InvalidArgument', `wrap key ${show(loader)}`);
  }
  refused(() => cache.wrap(() => 1), 'InvalidArgument', 'wrap without options');
  refused(() => cache.wrap(() => 1, { key: () => 'k', nonsense: 1 }), 'InvalidArgument', 'wrap with an unknown option');
  await rejected(cache.wrap(() => 1, { key: () => 5 })(), 'InvalidArgument', 'a key that is no string');
});

test('waits', async (t) => {
  const { client, cache } = await open(t);
  const receipt = cache.invalidate('k');
  for (const ms of [...BAD_DURATIONS, undefined, null]) {
    await rejected(receipt.delivered(ms), 'InvalidArgument', `delivered ${show(ms)}`);
    await rejected(client.waitFor(receipt.token, ms), 'InvalidArgument', `waitFor ${show(ms)}`);
    if (ms !== undefined) await rejected(client.close(ms), 'InvalidArgument', `close ${show(ms)}`);
  }
  for (const token of ['', 'u1', 'u2:a:1:c', 'u1:a:x:c', 'u1:a:-1:c', 'u1:a:1', 'u1:a b:1:c', LONE, ...NOT_STRINGS]) {
    await rejected(client.waitFor(token, 1), 'InvalidArgument', `waitFor ${show(token)}`);
  }
});

test('namespaces', async (t) => {
  const { client } = await open(t);
  for (const namespace of ['_x', 'a/b', 'a b', 'ä', 'x'.repeat(65), LONE, 'a\0', '+', '#', ...NOT_STRINGS]) {
    refused(() => client.cache(namespace), 'InvalidArgument', `namespace ${show(namespace)}`);
  }
  refused(() => client.cache('c'), 'InvalidArgument', 'a second cache of one namespace');
  assert.equal(client.cache('').namespace, '');
});

test('options of a cache', async (t) => {
  const { client } = await open(t);
  const bad = [
    { nonsense: 1 },
    { max_entries: 5 },
    { maxEntries: 0 },
    { maxEntries: -1 },
    { maxEntries: 1.5 },
    { maxEntries: NaN },
    { maxEntries: '10' },
    { maxEntries: 2 ** 24 },
    { ttl: -1 },
    { ttl: 0 },
    { ttl: NaN },
    { ttl: Infinity },
    { ttl: 1e30 },
    { ttl: 'soon' },
    { ttl: {} },
    { ttl: () => 1 },
    { ttl: 1n },
    { ttl: Symbol('s') },
    { ttl: new Date() },
    { ttlJitter: 2 },
    { ttl: LONE },
    { idleTtl: 5 },
    { maxBytes: 5 },
    { staleWhileRevalidate: 5 },
    { staleIfError: 5 },
    'x',
    5,
    [],
    () => {},
  ];
  for (const config of bad) refused(() => client.cache('d', config), 'Config', `cache ${show(config)} ${Object.keys(config)} ${show(Object.values(config)[0])}`);
  assert.ok(client.cache('d', { ttl: undefined, negativeTtl: null }), 'the namespace is still free');
});

test('options of a client', async () => {
  const bad = [
    [5, undefined, 'InvalidArgument'],
    [Symbol('s'), undefined, 'InvalidArgument'],
    ['', undefined, 'Config'],
    ['nonsense', undefined, 'Config'],
    ['ftp://host', undefined, 'Config'],
    ['awsiot://endpoint/path', undefined, 'Config'],
    ['mqtt://host:99999', undefined, 'Config'],
    [LONE, undefined, 'InvalidArgument'],
    ['memory://', 'x', 'Config'],
    ['memory://', [], 'Config'],
    ['memory://', { nonsense: 1 }, 'Config'],
    ['memory://', { staleness_bound: 1 }, 'Config'],
    ['memory://', { stalenessBound: 499 }, 'Config'],
    ['memory://', { stalenessBound: '2h' }, 'Config'],
    ['memory://', { stalenessBound: NaN }, 'Config'],
    ['memory://', { lazy: 'yes' }, 'Config'],
    ['memory://', { tls: { nonsense: 1 } }, 'Config'],
    ['memory://', { tls: 5 }, 'Config'],
    ['memory://', { topic: '#' }, 'Config'],
    ['memory://', { app: 'a b' }, 'Config'],
    ['memory://?nonsense=1', undefined, 'Config'],
  ];
  for (const [url, config, code] of bad) await rejected(unstale.connect(url, config), code, `connect(${show(url)}, ${JSON.stringify(config)})`);
  await rejected(unstale.connect({ nonsense: 1 }), 'Config', 'options as the only argument');
});

test('objects that were not made by the library', async (t) => {
  const { cache } = await open(t);
  for (const method of ['get', 'set', 'invalidate', 'stats']) {
    assert.throws(() => unstale.Cache.prototype[method].call({}, 'a', 1), TypeError);
    assert.throws(() => unstale.Cache.prototype[method].call(Object.create(cache), 'a', 1), TypeError);
  }
  for (const name of ['Client', 'Cache', 'Receipt', 'Lease']) {
    refused(() => new unstale[name](), 'InvalidArgument', name);
    refused(() => new unstale[name](0, 'x'), 'InvalidArgument', name);
  }
  assert.throws(() => Object.create(unstale.Receipt.prototype).token, TypeError);
  assert.throws(() => Object.create(unstale.Lease.prototype).key, TypeError);
});

test('calls from within callbacks', async (t) => {
  const { client, cache } = await open(t);
  const seen = [];
  cache.on('invalidated', ({ keys }) => {
    // Re-entrancy from an event.
    if (keys[0] === 'first') {
      cache.set('from a listener', 1);
      cache.invalidate('second');
      cache.removeAllListeners('invalidated');
      seen.push(cache.get('from a listener'), client.status().state);
    }
  });
  cache.invalidate('first');
  const end = Date.now() + 10_000;
  while (seen.length === 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(seen, [1, 'live']);
  const value = await cache.getOrLoad('outer', () => {
    cache.invalidate('outer');
    cache.set('inner', 1);
    return 'loaded';
  });
  assert.equal(value, 'loaded');
  assert.equal(cache.get('outer'), undefined, 'its own loader invalidated it');
});

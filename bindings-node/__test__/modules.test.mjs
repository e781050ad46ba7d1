// `import` and `require` give the same library.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';

import unstale, { Cache, Client, connect, Lease, Receipt, UnstaleError } from 'unstale';

test('import and require are one library', () => {
  const required = createRequire(import.meta.url)('unstale');
  assert.equal(unstale, required);
  assert.deepEqual({ ...required }, { Cache, Client, connect, Lease, Receipt, UnstaleError });
});

test('a first program', async () => {
  const client = await connect('memory://modules');
  const cache = client.cache('users', { ttl: '1m' });
  assert.deepEqual(await cache.getOrLoad('user:1', async () => ({ id: 1 })), { id: 1 });
  assert.ok(client instanceof Client && cache instanceof Cache);
  assert.ok(cache.invalidate('user:1') instanceof Receipt);
  assert.ok(cache.lease('user:1') instanceof Lease);
  assert.equal(cache.get('user:1'), undefined);
  await client.close();
  assert.throws(() => cache.get('user:1'), UnstaleError);
});

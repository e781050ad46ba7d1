'use strict';
// Against a real mosquitto.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const tls = require('node:tls');
const unstale = require('unstale');
const { Broker, clients, folder, freePort, pair, until } = require('./helpers.js');

let broker;
test.before(async () => (broker = await Broker.start()));
test.after(() => broker.stop());

test('an invalidation reaches the other client', async (t) => {
  const { two, a, b } = await pair(t, unstale, broker.url, 'basic');
  b.set('k', 'old');
  const receipt = a.invalidate('k');
  assert.equal(await receipt.delivered(10_000), true);
  assert.equal(await two.waitFor(receipt.token, 10_000), true);
  assert.equal(b.get('k'), undefined);
});

test('tags, prefixes, all and update reach the other client', async (t) => {
  const { two, a, b } = await pair(t, unstale, broker.url, 'kinds');
  const steps = [
    [() => a.invalidateTags(['t']), 'tagged'],
    [() => a.invalidatePrefix('p:'), 'p:1'],
    [() => a.update('u', 'new', { lease: a.lease('u') }), 'u'],
    [() => a.invalidateAll(), 'rest'],
  ];
  b.set('tagged', 1, { tags: ['t'] });
  ['p:1', 'u', 'rest'].forEach((key) => b.set(key, 1));
  for (const [call, key] of steps) {
    assert.equal(b.get(key), 1);
    assert.equal(await two.waitFor(call().token, 10_000), true);
    assert.equal(b.get(key), undefined, key);
  }
  assert.equal(a.get('u'), undefined, 'the last step was all');
});

test('a stranger invalidates by a plain key, and an unreadable message is logged', async (t) => {
  const { two, b } = await pair(t, unstale, broker.url, 'plain');
  const lines = [];
  two.on('log', (line) => lines.push(line));
  b.set('k', 1);
  broker.publish('cache/invalidate/plain', 'k');
  await until(() => b.get('k') === undefined);
  broker.publish('cache/invalidate/plain', '{"v":1,');
  const line = await until(() => lines.find(({ message }) => /cannot be read/.test(message)));
  assert.equal(line.level, 'warn');
  assert.equal(b.stats().malformed, 1);
});

test('no invalidation of 10,000 is lost', async (t) => {
  const { two, a, b } = await pair(t, unstale, broker.url, 'many');
  for (let i = 0; i < 10_000; i++) b.set(`k${i}`, i);
  let receipt;
  for (let i = 0; i < 10_000; i++) receipt = a.invalidate(`k${i}`);
  assert.equal(await two.waitFor(receipt.token, 20_000), true);
  for (let i = 0; i < 10_000; i++) assert.equal(b.get(`k${i}`), undefined);
});

test('what was invalidated without a broker is delivered when it is back', async (t) => {
  const own = await Broker.start();
  t.after(() => own.stop());
  const { one, two, a, b } = await pair(t, unstale, own.url, 'outage', { stalenessBound: '2s' });
  const states = [];
  one.on('status', ({ state }) => states.push(state));
  await own.kill();
  b.set('k', 'old');
  await until(() => one.status().state === 'degraded');
  const receipt = a.invalidate('k');
  assert.equal(await receipt.delivered(50), false);
  await own.resume();
  assert.equal(await receipt.delivered(20_000), true);
  await until(() => b.get('k') === undefined, 'the other client drops it, at the latest by its age');
  await until(() => one.status().state === 'live' && two.status().state === 'live');
  await until(() => states.includes('degraded') && states.at(-1) === 'live');
});

test('a broker that is not there is a Connect error, or a lazy client', async (t) => {
  const url = `mqtt://127.0.0.1:${await freePort()}`;
  const error = await unstale.connect(url, { connectTimeout: 1_000 }).catch((e) => e);
  assert.equal(error.code, 'Connect');
  assert.match(error.message, /127\.0\.0\.1/);
  assert.match(error.stack, /mqtt\.test\.js/, 'the stack leads to who waited');
  const client = await clients(t, unstale)(url, { lazy: true });
  const cache = client.cache('c');
  cache.set('a', 1);
  assert.equal(cache.get('a'), 1);
  assert.equal(client.status().state, 'connecting');
  const lines = [];
  await until(() => client.status().reason !== '');
  client.on('log', (line) => lines.push(line));
  await until(() => lines.some(({ level }) => level === 'warn'), 'what was logged before is told to a late listener');
  cache.invalidate('a');
  assert.ok((await client.close(100)) > 0, 'it could not be sent');
});

test('a wrong password is an Auth error', async (t) => {
  const dir = folder();
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const file = path.join(dir, 'passwords');
  execFileSync('mosquitto_passwd', ['-b', '-c', file, 'ann', 'right']);
  fs.chmodSync(file, 0o644);
  fs.chmodSync(dir, 0o755);
  const own = await Broker.start(['allow_anonymous false', `password_file ${file}`]);
  t.after(() => own.stop());
  const error = await unstale.connect(own.url, { username: 'ann', password: 'wrong' }).catch((e) => e);
  assert.equal(error.code, 'Auth');
  assert.doesNotMatch(error.message, /wrong/);
  const client = await clients(t, unstale)(own.url, { username: 'ann', password: 'right' });
  await until(() => client.status().state === 'live');
});

test("TLS works beside Node's own, before and after", async (t) => {
  const dir = folder();
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const file = (name) => path.join(dir, name);
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'ignore' });
  for (const authority of ['ca', 'other']) {
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${authority}`,
      '-keyout', file(`${authority}.key`), '-out', file(`${authority}.pem`));
  }
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-keyout', file('server.key'), '-out', file('server.csr'));
  fs.writeFileSync(file('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl('x509', '-req', '-in', file('server.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial',
    '-days', '2', '-extfile', file('san'), '-out', file('server.pem'));
  fs.readdirSync(dir).forEach((name) => fs.chmodSync(file(name), 0o644));
  fs.chmodSync(dir, 0o755);
  const own = await Broker.start(['allow_anonymous true', `certfile ${file('server.pem')}`, `keyfile ${file('server.key')}`]);
  t.after(() => own.stop());
  const url = `mqtts://localhost:${own.port}`;

  const nodes = () =>
    new Promise((resolve, reject) => {
      const socket = tls.connect({ host: 'localhost', port: own.port, ca: fs.readFileSync(file('ca.pem')) });
      socket.once('error', reject);
      socket.once('secureConnect', () => (socket.end(), resolve(socket.authorized)));
    });
  assert.equal(await nodes(), true);
  const config = { tls: { caFile: file('ca.pem') } };
  const { two, a, b } = await pair(t, unstale, url, 'tls', config);
  assert.equal(await nodes(), true);
  b.set('k', 1);
  assert.equal(await two.waitFor(a.invalidate('k').token, 10_000), true);
  assert.equal(b.get('k'), undefined);
  await assert.rejects(unstale.connect(url, { tls: { caFile: file('other.pem') } }), { code: 'Tls' });
  await assert.rejects(unstale.connect(url, { tls: { caFile: file('none.pem') } }), (e) => ['Tls', 'Config'].includes(e.code));
  assert.equal(await nodes(), true);
});

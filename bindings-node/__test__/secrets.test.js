'use strict';
// A password or a key that was handed to a client shows in nothing that the client prints. tests/tls looks at all that is said on the
// way to a broker; here is what a program gets to print by itself.

const assert = require('node:assert/strict');
const test = require('node:test');
const util = require('node:util');
const unstale = require('unstale');

const SECRET = 'pl4nted7351';
const HEX = Buffer.from(SECRET).toString('hex');
const KEY = `k:${HEX.repeat(3)}`; // 32 bytes and more
const AWS = { accessKeyId: 'AKIA', secretAccessKey: SECRET, sessionToken: SECRET, region: 'eu-central-1' };
const print = (value) => `${util.inspect(value, { depth: 9, showHidden: true, getters: true })} ${JSON.stringify(value)} ${value}`;
const isHidden = (text) => assert.ok(!text.includes(SECRET) && !text.includes(HEX), text);

test('a client prints no secret', async () => {
  for (const [url, options] of [
    [`mqtt://user:${SECRET}@127.0.0.1:1`, {}],
    [`mqtt://127.0.0.1:1?username=user&password=${SECRET}`, {}],
    ['mqtt://127.0.0.1:1', { username: 'user', password: SECRET, signingKey: KEY }],
    ['awsiot://127.0.0.1:1', { aws: AWS }],
    ['awsiot://127.0.0.1:1', { aws: { token: SECRET, tokenKeyName: 't', authorizer: 'a' }, password: SECRET }],
  ]) {
    const client = await unstale.connect(url, { lazy: true, ...options });
    const said = [];
    client.on('log', (record) => said.push(print(record)));
    client.on('status', (status) => said.push(print(status)));
    const cache = client.cache('things');
    cache.set('k', 1);
    const receipt = cache.invalidate('k');
    said.push(...[client, cache, receipt, client.status(), cache.stats()].map(print));
    await client.close(0);
    assert.ok(said.some((text) => text.includes('127.0.0.1')), 'the URL is there');
    said.forEach(isHidden);
  }
});

test('an error prints no secret', async () => {
  for (const [url, options] of [
    [undefined, { password: [SECRET] }],
    [undefined, { password: Buffer.from(SECRET) }],
    [undefined, { signingKey: SECRET }],
    [undefined, { signingKey: { k: SECRET } }],
    [undefined, { signingKey: [KEY, `short:${SECRET}`] }],
    [undefined, { aws: SECRET }],
    [undefined, { aws: [SECRET] }],
    [undefined, { aws: { secretAccessKey: [SECRET] } }],
    [undefined, { aws: { sessionToken: { [SECRET]: SECRET } } }],
    [undefined, { tls: SECRET }],
    [`mqttx://u:${SECRET}@h`, {}],
    [`mqtt://u:${SECRET}@h:99999999`, {}],
    [`mqtt://u:${SECRET}@h?foo=1`, {}],
    [`mqtt://u:${SECRET}@h`, { password: 'another' }],
    [`mqtt://u:/${SECRET}@h`, {}],
    [`mqtt://u:?${SECRET}@h`, {}],
  ]) {
    const error = await unstale.connect(url, options).then(() => assert.fail(`${url} was accepted`), (e) => e);
    assert.ok(error instanceof unstale.UnstaleError, error);
    isHidden(util.inspect({ ...error, message: error.message, cause: error.cause }, { depth: 9 }));
  }
});

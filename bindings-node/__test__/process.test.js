'use strict';
// The process around it: it ends by itself, quietly, with what was invalidated sent; workers; what the addon exports.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const unstale = require('unstale');
const { Broker, clients, freePort, memory, run, until } = require('./helpers.js');

let broker;
test.before(async () => (broker = await Broker.start()));
test.after(() => broker.stop());

test('a process ends by itself without a close, and prints nothing', async () => {
  const source = `
    const { connect } = require('unstale');
    connect(process.argv[1], { lazy: process.argv[2] === 'lazy' }).then((client) => {
      const cache = client.cache('ends');
      client.on('status', () => {});
      cache.on('invalidated', () => {});
      cache.set('a', {});
      cache.get('a');
      cache.getOrLoad('never', () => new Promise(() => {}));
      cache.invalidate('b');
    });`;
  for (const args of [[memory()], [broker.url], [`mqtt://127.0.0.1:${await freePort()}`, 'lazy']]) {
    for (let i = 0; i < 5; i++) {
      const { code, signal, errors, printed } = await run(source, args);
      assert.deepEqual({ code, signal, errors, printed }, { code: 0, signal: null, errors: '', printed: [] }, args[0]);
    }
  }
});

test('what was invalidated just before the end is sent', async (t) => {
  const client = await clients(t, unstale)(broker.url);
  const cache = client.cache('last');
  await until(() => client.status().state === 'live');
  for (const [end, expected] of [['', 0], ['process.exit(3);', 3], ["throw new Error('crash');", 1]]) {
    cache.set('k', 1);
    const source = `
      const { connect } = require('unstale');
      connect(process.argv[1]).then((client) => {
        const cache = client.cache('last');
        setTimeout(() => { cache.invalidate('k'); ${end} });
      });`;
    const { code, signal, errors } = await run(source, [broker.url]);
    assert.deepEqual({ code, signal }, { code: expected, signal: null }, errors);
    await until(() => cache.get('k') === undefined, `sent before ${end || 'the end'}`);
  }
});

test('an end waits a second for the broker, by whichever way it comes, and no longer', async () => {
  const url = `mqtt://127.0.0.1:${await freePort()}`;
  for (const [end, expected] of [['', 0], ['process.exit(3);', 3], ["throw new Error('crash');", 1]]) {
    const source = `
      const { connect } = require('unstale');
      connect(process.argv[1], { lazy: true }).then((client) => {
        client.cache('unsent').invalidate('k');
        setTimeout(() => { console.log(Date.now()); ${end} });
      });`;
    const { code, printed, errors } = await run(source, [url]);
    assert.equal(code, expected, errors);
    const took = Date.now() - printed[0];
    assert.ok(took >= 900 && took < 1_900, `${took} ms before ${end || 'the end'}`);
  }
});

test('what is awaited keeps the process alive', async () => {
  const source = `
    const { connect } = require('unstale');
    (async () => {
      const client = await connect(process.argv[1]);
      const cache = client.cache('waits');
      const receipt = cache.invalidate('k');
      console.log(JSON.stringify(await receipt.delivered(10_000)));
      console.log(JSON.stringify(await client.waitFor('u1:nobody:1:waits', 100)));
      console.log(JSON.stringify(await client.close()));
      console.log(JSON.stringify(client.status().state));
    })();`;
  const { code, printed, errors } = await run(source, [broker.url]);
  assert.deepEqual({ code, printed, errors }, { code: 0, printed: [true, false, 0, 'closed'], errors: '' });
});

test('workers have clients of their own, and end in any way', async () => {
  const source = `
    const { Worker } = require('node:worker_threads');
    const { connect } = require('unstale');
    const assert = require('node:assert');
    const url = process.argv[1];
    const code = (end) => \`
      const { parentPort } = require('node:worker_threads');
      const { connect } = require('unstale');
      (async () => {
        const client = await connect(\${JSON.stringify(url)});
        const cache = client.cache('workers');
        cache.set('k', 1);
        parentPort.postMessage('ready');
        cache.on('invalidated', () => {});
        while (cache.get('k') === 1) await new Promise((resolve) => setTimeout(resolve, 1));
        parentPort.postMessage('gone');
        for (let i = 0; i < 100; i++) cache.set('x' + i, {});
        \${end}
      })();\`;
    (async () => {
      const client = await connect(url);
      const cache = client.cache('workers');
      for (let round = 0; round < 4; round++) {
        const ends = ['await client.close();', '', 'process.exit(0);', "setInterval(() => cache.set('y' + Math.random(), {}), 1);"];
        const workers = ends.map((end) => new Worker(code(end), { eval: true }));
        const exits = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
        const gone = workers.map((worker) => new Promise((resolve, reject) => {
          worker.once('error', reject);
          worker.on('message', (message) => message === 'gone' && resolve());
        }));
        const all = Promise.all(gone);
        let over = false;
        all.finally(() => (over = true));
        while (!over) {
          cache.invalidate('k');
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        await all;
        // Values are dropped by the link's thread while the environment that owns them ends.
        const storm = setInterval(() => cache.invalidateAll(), 0);
        await workers[3].terminate();
        await Promise.all(exits);
        clearInterval(storm);
      }
      await client.close();
      console.log(JSON.stringify('done'));
    })();`;
  for (const url of [memory(), broker.url]) {
    const { code, signal, printed, errors } = await run(source, [url]);
    assert.deepEqual({ code, signal, printed, errors }, { code: 0, signal: null, printed: ['done'], errors: '' }, url);
  }
});

test('an addon that only a worker loaded outlives it', async () => {
  const source = `
    const { Worker } = require('node:worker_threads');
    const once = () => new Promise((resolve, reject) => {
      const worker = new Worker("require('unstale').connect('memory://').then((c) => c.cache('c').set('k', 1))", { eval: true });
      worker.once('error', reject);
      worker.once('exit', resolve);
    });
    (async () => {
      for (let i = 0; i < 5; i++) await once();
      console.log(JSON.stringify('done'));
    })();`;
  const { code, printed, errors } = await run(source);
  assert.deepEqual({ code, printed, errors }, { code: 0, printed: ['done'], errors: '' });
});

test('the addon exports its entry point and nothing else', { skip: process.platform !== 'linux' && 'ELF only' }, () => {
  const root = path.dirname(require.resolve('unstale/package.json'));
  const file = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'unstale.node');
  const symbols = (flag) => execFileSync('nm', ['-D', flag, file], { encoding: 'utf8' }).trim().split('\n');
  const exported = symbols('--defined-only').map((line) => line.split(' ').at(-1));
  assert.deepEqual(exported, ['napi_register_module_v1']);
  const borrowed = symbols('--undefined-only').filter((line) => /\b(SSL|EVP|X509|OPENSSL|CRYPTO|MQTT)/i.test(line));
  assert.deepEqual(borrowed, [], 'OpenSSL and Paho are inside');
  const needed = execFileSync('readelf', ['-d', file], { encoding: 'utf8' });
  assert.doesNotMatch(needed, /NEEDED.*(ssl|crypto|paho)/);
  assert.match(needed, /NODELETE/);
});

test('the package is complete', () => {
  const root = path.dirname(require.resolve('unstale/package.json'));
  const held = (file) => fs.statSync(path.join(root, file)).size > 0;
  for (const file of ['index.js', 'index.mjs', 'index.d.ts', 'index.d.mts', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE', 'LICENSE-THIRD-PARTY']) {
    assert.ok(held(file), file);
  }
  assert.match(fs.readFileSync(path.join(root, 'LICENSE-THIRD-PARTY'), 'utf8'), /OpenSSL[^]*Eclipse Public License|Eclipse Public License[^]*OpenSSL/);
});

test('a platform without an addon is told by name', async () => {
  const source = `
    Object.defineProperty(process, 'arch', { value: 'vax' });
    try { require('unstale'); } catch (error) { console.log(JSON.stringify([error.code, error.message])); }`;
  const { printed } = await run(source);
  assert.equal(printed[0][0], 'ERR_UNSTALE_PLATFORM');
  assert.match(printed[0][1], new RegExp(`${process.platform}-vax.*holds: ${process.platform}-`));
});

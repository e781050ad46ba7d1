'use strict';
// The bound: what is served, and what is not served any more, when nothing is heard of the broker.

const assert = require('node:assert/strict');
const test = require('node:test');
const unstale = require('unstale');
const { Broker, clients, start, until } = require('./helpers.js');

const BOUND = 600;
const config = { stalenessBound: BOUND };
/** Far longer than the bound, in a loop that does not return to the event loop. */
const STUCK = 10_000;

let broker;
test.before(async () => (broker = await Broker.start()));
test.after(() => broker.stop());

const now = () => Number(process.hrtime.bigint() / 1_000_000n);

test('with proofs, entries live on past the bound', async (t) => {
  const client = await clients(t, unstale)(broker.url, { stalenessBound: 2_000 });
  const cache = client.cache('proved');
  await until(() => client.status().state === 'live');
  cache.set('k', 1);
  const end = now() + 3 * 2_000;
  const before = cache.stats().misses;
  while (now() < end) {
    assert.equal(cache.get('k'), 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(cache.stats().misses, before);
});

for (const inOneTurn of [false, true]) {
  test(`without a broker, entries end with the bound${inOneTurn ? ', also in a loop that never yields' : ''}`, async (t) => {
    const own = await Broker.start();
    t.after(() => own.stop());
    const client = await clients(t, unstale)(own.url, config);
    const cache = client.cache('c');
    await until(() => client.status().state === 'live');
    cache.set('old', 1);
    await new Promise((resolve) => setTimeout(resolve, BOUND / 2));
    await own.kill();
    const set = now();
    cache.set('new', 1);
    const ended = {};
    const look = () => {
      const at = now();
      for (const key of ['old', 'new']) if (cache.get(key) === undefined) ended[key] ??= at;
      assert.ok(at - set < STUCK, 'they are served for ever');
      return ended.old && ended.new;
    };
    if (inOneTurn) while (!look());
    else await until(look);
    assert.ok(ended.new - set <= BOUND + 50, `the new entry ended ${ended.new - set} ms after it was stored`);
    assert.ok(ended.new - set >= BOUND / 2, `it was served for ${ended.new - set} ms`);
    assert.ok(ended.old - set <= BOUND, `the old entry ended ${ended.old - set} ms after the broker`);
    // A read-through asks an exact clock, and may serve the entry for some ms longer.
    await until(async () => (await cache.getOrLoad('new', () => 'loaded')) === 'loaded', 'it is loaded again', 100);
    assert.equal(cache.get('new'), 'loaded', 'it goes on as a cache by age');
  });
}

test('a process that was stopped serves nothing old, from its next turn on', async (t) => {
  const own = await Broker.start();
  t.after(() => own.stop());
  // It reads at every turn and prints what it served, with the time.
  const source = `
    const { connect } = require('unstale');
    const now = () => Number(process.hrtime.bigint() / 1000n) / 1000;
    (async () => {
      const client = await connect(process.argv[1], { stalenessBound: ${BOUND} });
      const cache = client.cache('c');
      let last = 0;
      setInterval(() => {
        const at = now();
        const value = cache.get('k');
        if (value !== undefined && at - value > ${BOUND} + 50) console.log(JSON.stringify({ stale: at - value }));
        if (at - last > 100) console.log(JSON.stringify({ stopped: at - last }));
        last = at;
        // A value that says when it was current; stored rarely, so that it is old most of the time.
        if (value === undefined) cache.set('k', at);
      }, 2);
      console.log(JSON.stringify('ready'));
    })();`;
  for (let round = 0; round < 5; round++) {
    const program = start(source, [own.url]);
    t.after(() => program.child.kill('SIGKILL'));
    while ((await program.line()) !== 'ready');
    await new Promise((resolve) => setTimeout(resolve, 100));
    program.child.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 3 * BOUND));
    program.child.kill('SIGCONT');
    const end = now() + 20_000;
    for (let resumed = false; !resumed; ) {
      const line = await program.line();
      assert.equal(line.stale, undefined, `a value of ${line.stale} ms ago was served`);
      resumed = line.stopped > 2 * BOUND;
      assert.ok(now() < end, 'it did not resume');
    }
    // The next lines would tell of anything old that was served in the turns after.
    program.child.stdin.end();
    program.child.kill('SIGTERM');
    for (let line; (line = await program.line().catch(() => undefined)) !== undefined; ) assert.equal(line.stale, undefined);
  }
});

// A hit in Node beside its peer, in one run: JSON lines for `make bench`.
import { LRUCache } from 'lru-cache';
import { connect } from 'unstale';

const KEYS = Array.from({ length: 1000 }, (_, i) => `user:${i}`);
const ROUNDS = 15;
const PASSES = 500;

const client = await connect('memory://bench');
const cache = client.cache('bench', { maxEntries: 10_000 });
const peer = new LRUCache({ max: 10_000, ttl: 300_000 });
for (const key of KEYS) {
  cache.set(key, { id: key });
  peer.set(key, { id: key });
}

let sink = 0;
function nanoseconds(get) {
  const start = process.hrtime.bigint();
  for (let pass = 0; pass < PASSES; pass++) for (const key of KEYS) sink += get(key).id.length;
  return Number(process.hrtime.bigint() - start) / PASSES / KEYS.length;
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const ours = [];
const theirs = [];
for (let round = 0; round < ROUNDS; round++) {
  ours.push(nanoseconds((key) => cache.get(key)));
  theirs.push(nanoseconds((key) => peer.get(key)));
  await new Promise(setImmediate); // the clock of a hit advances with the event loop
}
if (sink === 0) throw new Error('nothing was read');
const row = { what: 'Node `get` hit', ns: median(ours), peer: 'lru-cache with ttl', peer_ns: median(theirs), target: 0.9 };
console.log(JSON.stringify(row));
await client.close();

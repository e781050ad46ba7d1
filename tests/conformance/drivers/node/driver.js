'use strict';
// The conformance driver for Node: each command of ../../README.md becomes one call of the public API.

const readline = require('node:readline');
const { connect, UnstaleError } = require(process.argv[2]);

let client;
let logged = false;
const caches = new Map();
const leases = new Map();
const receipts = new Map();
const loads = new Map();
const events = new Map();

/** Errors that loaders here have thrown: only these very objects count as a loader's failure. */
const raised = new WeakSet();

class DriverError extends Error {}

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => '_' + letter.toLowerCase());
const orNull = (value) => value ?? null;

/** Renames the options of a configuration, nested ones too; values stay. */
function spelled(options, how) {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return options;
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [how(name), spelled(value, how)]));
}

function find(table, name) {
  if (!table.has(name)) throw new DriverError(`nothing is known as ${name}`);
  return table.get(name);
}

const cacheOf = (command) => find(caches, command.ns);

function terms({ ttl_ms, tags, depends_on, version, lease }) {
  return {
    ttl: ttl_ms ?? undefined,
    tags: tags ?? undefined,
    dependsOn: depends_on ?? undefined,
    version: version ?? undefined,
    lease: lease == null ? undefined : find(leases, lease),
  };
}

function kept(receipt) {
  receipts.set(receipt.token, receipt);
  return { token: receipt.token, stored: receipt.stored };
}

/** One `getOrLoad` whose loader ends with what `outcome` resolves to. */
class Load {
  constructor(command, outcome) {
    this.called = false;
    this.done = false;
    this.value = null;
    this.failed = null;
    const loader = async () => {
      this.called = true;
      const { value, fail } = await outcome;
      if (fail == null) return value;
      const error = new Error(fail);
      raised.add(error);
      throw error;
    };
    this.ended = this.run(cacheOf(command), command.key, loader, terms(command));
  }

  async run(cache, key, loader, options) {
    try {
      this.value = orNull(await cache.getOrLoad(key, loader, options));
    } catch (error) {
      if (raised.has(error)) this.failed = error.message;
      else this.error = error;
    }
    this.done = true;
  }

  state() {
    if (this.error !== undefined) throw this.error;
    const { called, done, value, failed } = this;
    return { called, done, value, failed };
  }
}

const commands = {
  hello: () => ({ language: 'node', protocol: 1 }),
  log() {
    logged = true;
    return null;
  },
  async connect({ url, options }) {
    client = await connect(url, spelled(options, camel));
    // Also what was logged before it, by clients that never were.
    if (logged) client.on('log', (line) => console.error(line));
    return null;
  },
  cache({ ns, options }) {
    caches.set(ns, client.cache(ns, spelled(options, camel)));
    return null;
  },
  get: (c) => orNull(cacheOf(c).get(c.key)),
  set: (c) => cacheOf(c).set(c.key, c.value, terms(c)),
  async get_or_load(c) {
    const load = new Load(c, Promise.resolve(c));
    await load.ended;
    return load.state();
  },
  load_start(c) {
    let finish;
    const load = new Load(c, new Promise((resolve) => (finish = resolve)));
    load.finish = finish;
    loads.set(c.id, load);
    return null;
  },
  load_state: ({ id }) => find(loads, id).state(),
  load_finish(c) {
    find(loads, c.id).finish(c);
    return null;
  },
  lease(c) {
    leases.set(c.id, cacheOf(c).lease(c.key));
    return null;
  },
  lease_drop({ id }) {
    find(leases, id).release();
    return null;
  },
  update: (c) => kept(cacheOf(c).update(c.key, c.value, terms(c))),
  invalidate: (c) => kept(cacheOf(c).invalidate(c.key, { version: c.version })),
  invalidate_many: (c) => kept(cacheOf(c).invalidateMany(new Map(c.keys))),
  invalidate_tags: (c) => kept(cacheOf(c).invalidateTags(c.tags)),
  invalidate_prefix: (c) => kept(cacheOf(c).invalidatePrefix(c.prefix)),
  invalidate_all: (c) => kept(cacheOf(c).invalidateAll()),
  evict: (c) => cacheOf(c).evict(c.key),
  clear_local(c) {
    cacheOf(c).clearLocal();
    return null;
  },
  delivered: ({ token, timeout_ms }) => find(receipts, token).delivered(timeout_ms),
  wait_for: ({ token, timeout_ms }) => client.waitFor(token, timeout_ms),
  stats(c) {
    const stats = cacheOf(c).stats();
    return Object.fromEntries(Object.entries(stats).map(([name, value]) => [snake(name), value]));
  },
  status: () => spelled(client.status(), snake),
  watch(c) {
    const kept = [];
    events.set(c.ns, kept);
    cacheOf(c).on('invalidated', (event) => kept.push(event));
    return null;
  },
  events: ({ ns }) => find(events, ns),
  close: ({ timeout_ms }) => client.close(timeout_ms ?? undefined),
  quit: () => null,
};

function failure(error) {
  const known = error instanceof UnstaleError;
  return { error: { kind: known ? error.code : 'Driver', code: known ? error.kind : -1, message: error.message } };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    const command = JSON.parse(line);
    try {
      if (!Object.hasOwn(commands, command.cmd)) throw new DriverError(`unknown command ${command.cmd}`);
      answer = { ok: await commands[command.cmd](command) };
    } catch (error) {
      answer = failure(error);
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
    if (command.cmd === 'quit') break;
  }
  process.stdin.destroy();
}

main();

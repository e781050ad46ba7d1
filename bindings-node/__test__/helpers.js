'use strict';
// A real mosquitto on a free port of the loopback, child processes, and waiting with a deadline.

const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');

const DEADLINE = 20_000;

/** Polls until `condition` holds (or resolves to something true), and returns that. */
async function until(condition, what = condition.toString(), ms = DEADLINE) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function folder() {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'us-node-'));
}

/** A mosquitto; `options` are lines of its configuration for the one listener. */
class Broker {
  constructor(port, dir, options) {
    this.port = port;
    this.dir = dir;
    this.options = options;
  }

  static async start(options = ['allow_anonymous true']) {
    const broker = new Broker(await freePort(), folder(), options);
    await broker.resume();
    return broker;
  }

  get url() {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  async resume() {
    const config = path.join(this.dir, 'mosquitto.conf');
    const lines = ['persistence false', `listener ${this.port} 127.0.0.1`, ...this.options];
    fs.writeFileSync(config, lines.join('\n') + '\n');
    this.process = spawn('mosquitto', ['-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.log = '';
    this.process.stderr.on('data', (data) => (this.log += data));
    await until(() => {
      if (this.process.exitCode !== null) throw new Error(`mosquitto ended: ${this.log}`);
      return reachable(this.port);
    }, 'mosquitto listens');
  }

  async kill() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }

  async stop() {
    await this.kill();
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  /** Publishes as a stranger would. */
  publish(topic, payload) {
    const sent = spawnSync('mosquitto_pub', ['-h', '127.0.0.1', '-p', this.port, '-q', '1', '-t', topic, '-m', payload]);
    if (sent.status !== 0) throw new Error(`mosquitto_pub: ${sent.stderr}`);
  }
}

function reachable(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });
}

/** Runs a program of Node in a process of its own; `lines` iterates over what it prints. */
function start(source, args = [], options = {}) {
  // In this folder, so that it finds the installed package.
  const child = spawn(process.execPath, [...(options.flags ?? []), '-e', source, ...args], {
    cwd: __dirname,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const out = { child, errors: '' };
  child.stderr.on('data', (data) => (out.errors += data));
  out.line = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the process ended early: ${out.errors}`);
    return JSON.parse(value);
  };
  out.exited = once(child, 'close').then(([code, signal]) => ({ code, signal, errors: out.errors }));
  return out;
}

/** Runs a program to its end; fails if that takes longer than the deadline. */
async function run(source, args, options) {
  const program = start(source, args, options);
  const printed = [];
  const timer = setTimeout(() => program.child.kill('SIGKILL'), DEADLINE);
  const read = (async () => {
    try {
      for (;;) printed.push(await program.line());
    } catch {
      return printed;
    }
  })();
  const { code, signal, errors } = await program.exited;
  clearTimeout(timer);
  await read;
  return { code, signal, errors, printed };
}

/** Clients that a test made; closed at its end. */
function clients(t, unstale) {
  const made = [];
  t.after(() => Promise.all(made.map((client) => client.close(1_000))));
  return async (...args) => {
    const client = await unstale.connect(...args);
    made.push(client);
    return client;
  };
}

/** Two caches of one namespace, in two clients that hear each other. */
async function pair(t, unstale, url, namespace = 'c', config = {}) {
  const connect = clients(t, unstale);
  const [one, two] = [await connect(url, config), await connect(url, config)];
  const [a, b] = [one.cache(namespace), two.cache(namespace)];
  // What was published before the other subscribed is not received.
  for (const [from, to, there] of [[a, two, b], [b, one, a]]) {
    const heard = () => there.stats().invalidationsRemote > 0;
    await until(async () => (await to.waitFor(from.invalidate('-').token, 200)) && heard(), 'they hear each other');
  }
  return { one, two, a, b };
}

let names = 0;
/** A broker in this process that no other test uses. */
function memory() {
  return `memory://test-${process.pid}-${names++}`;
}

module.exports = { Broker, clients, folder, freePort, memory, pair, run, start, until };

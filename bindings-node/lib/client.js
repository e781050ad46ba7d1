'use strict';

const native = require('./native.js');
const { Cache, camelCased } = require('./cache.js');
const { answer, attachClient } = require('./events.js');
const { invalid, kindOf } = require('./error.js');
const { configJson } = require('./options.js');
const { MADE, mustBeMade } = require('./made.js');
const { Source } = require('./source.js');

/** Clients that were not closed; they and their caches are kept, also when the program does not. */
const open = new Set();
/** Clients with a listener for the log. */
let readers = 0;

/** A connection to a broker, and the caches that it keeps fresh. Made by `connect`. */
class Client extends Source {
  #number;
  #caches = [];
  /** The first line of the log that is news to this client's listeners. */
  #line;

  constructor(made, number, line) {
    mustBeMade(made, 'a client is made by `await connect(url)`');
    super();
    this.#number = number;
    this.#line = line;
    open.add(this);
    attachClient(number, this);
  }

  cache(namespace, config) {
    const cache = new Cache(MADE, this.#number, namespace, config);
    this.#caches.push(cache);
    return cache;
  }

  status() {
    return camelCased(native.clientStatus(this.#number));
  }

  async waitFor(token, ms) {
    if (typeof ms !== 'number') throw invalid(`\`ms\` must be a number of milliseconds, not ${kindOf(ms)}`);
    return answer((call) => native.clientWaitFor(this.#number, call, token, ms));
  }

  async close(ms) {
    if (ms !== undefined && typeof ms !== 'number') throw invalid(`\`ms\` must be a number of milliseconds, not ${kindOf(ms)}`);
    const left = answer((call) => {
      native.clientClose(this.#number, call, ms);
      // From the call on, nothing is served.
      for (const cache of this.#caches) cache._closed();
    });
    try {
      return await left;
    } finally {
      open.delete(this);
    }
  }

  _wanted(event, wanted) {
    if (event === 'status') native.clientListen(this.#number, wanted);
    if (event === 'log') {
      readers += wanted ? 1 : -1;
      // Again for each: the last lines are told again, to those to whom they are news.
      if (wanted || readers === 0) native.logListen(wanted);
    }
  }

  _status(json) {
    this.emit('status', camelCased(json));
  }

  _log(line, json) {
    if (line < this.#line || this.listenerCount('log') === 0) return;
    this.#line = line + 1;
    this.emit('log', JSON.parse(json));
  }
}
// Node 18 knows it by another name.
Object.defineProperty(Client.prototype, Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose'), {
  async value() {
    await this.close();
  },
});

async function connect(url, config) {
  if (typeof url === 'object' && url !== null && config === undefined) return connect(undefined, url);
  if (url !== undefined && url !== null && typeof url !== 'string') {
    throw invalid(`\`url\` must be a string, not ${kindOf(url)}`);
  }
  const json = configJson(config);
  const line = native.logPosition();
  return new Client(MADE, await answer((call) => native.clientConnect(call, url ?? undefined, json)), line);
}

module.exports = { Client, connect };

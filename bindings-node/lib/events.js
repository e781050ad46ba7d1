'use strict';
// What the addon tells: answers to calls that wait, and events for listeners. The addon calls `dispatch` when there is
// something; that keeps the process alive only while an answer is outstanding.

const native = require('./native.js');
const { UnstaleError } = require('./error.js');

// As in src/lib.rs.
const [ENDED, INVALIDATED, STATUS, LOG, ANSWER, FAILURE] = [0, 1, 2, 3, 4, 5];

/** Where a call of the addon leaves a second result. */
const scratch = new Float64Array(native.setup(UnstaleError, dispatch));

/** Outstanding calls, by number. */
const calls = new Map();
let lastCall = 0;

/** Clients and caches by number, for their events. */
const clients = new Map();
const caches = new Map();
const forgotten = new FinalizationRegistry(({ table, number, forget }) => {
  table.delete(number);
  forget(number);
});

// Also on process.exit() and on an uncaught exception, where Node runs no cleanup hooks.
process.once('exit', () => native.settle());

function dispatch() {
  const events = native.events();
  for (let i = 0; i < events.length; i += 4) {
    try {
      handle(events[i], events[i + 1], events[i + 2], events[i + 3]);
    } catch (error) {
      // A listener's error is the program's own; it must not cost the events that follow.
      process.nextTick(() => {
        throw error;
      });
    }
  }
}

function handle(type, number, first, second) {
  switch (type) {
    case ENDED:
      return caches.get(number)?.deref()?._drain();
    case INVALIDATED:
      return caches.get(number)?.deref()?.emit('invalidated', JSON.parse(first));
    case STATUS:
      return clients.get(number)?.deref()?._status(first);
    case LOG:
      for (const client of clients.values()) client.deref()?._log(number, first);
      return;
    case ANSWER:
      return take(number).resolve({ value: first });
    case FAILURE:
      return take(number).resolve({ kind: first, message: second });
  }
}

function take(number) {
  const call = calls.get(number);
  calls.delete(number);
  if (calls.size === 0) native.hold(false);
  return call;
}

/** Starts a call of the addon that answers later. `start` gets the call's number. */
async function answer(start) {
  const number = (lastCall = (lastCall + 1) >>> 0);
  const outcome = new Promise((resolve) => calls.set(number, { resolve }));
  if (calls.size === 1) native.hold(true);
  try {
    start(number);
  } catch (error) {
    take(number);
    throw error;
  }
  const { value, kind, message } = await outcome;
  // Made here, so that its stack leads to who waits.
  if (kind !== undefined) throw new UnstaleError(kind, message);
  return value;
}

/** Has events of the client or cache `number` go to `target`; tells the addon when the target is forgotten. */
function attach(table, number, target, forget) {
  table.set(number, new WeakRef(target));
  forgotten.register(target, { table, number, forget });
}

module.exports = {
  scratch,
  answer,
  attachClient: (number, client) => attach(clients, number, client, native.clientForget),
  attachCache: (number, cache) => attach(caches, number, cache, native.cacheForget),
};

'use strict';

const native = require('./native.js');
const { answer } = require('./events.js');
const { mustBeMade } = require('./made.js');
const { invalid } = require('./error.js');

/** What an invalidation or update returns. */
class Receipt {
  #handle;

  constructor(made, handle) {
    mustBeMade(made, 'receipts are returned by `invalidate` and `update`');
    this.#handle = handle;
  }

  /** Names the invalidation for `client.waitFor` in another process; fit for an HTTP header. */
  get token() {
    return native.receiptToken(this.#handle);
  }

  /** Whether `update` stored the value here. */
  get stored() {
    return native.receiptStored(this.#handle);
  }

  /** Whether the broker acknowledged it, within `ms`. */
  async delivered(ms) {
    if (typeof ms !== 'number') throw invalid('`ms` must be a number of milliseconds');
    return answer((call) => native.receiptDelivered(this.#handle, call, ms));
  }

  toJSON() {
    return { token: this.token, stored: this.stored };
  }
}

/** Permission to fill a key, taken before its source is read. */
class Lease {
  #key;
  #handle;

  constructor(made, key, handle) {
    mustBeMade(made, 'a lease is taken by `cache.lease(key)`');
    this.#key = key;
    this.#handle = handle;
  }

  /** The key it is for. */
  get key() {
    return this.#key;
  }

  /** Gives the lease back unused, now instead of when it is forgotten. */
  release() {
    native.leaseRelease(this.#handle);
  }

  /** The addon's side of a lease; `undefined` for anything else. */
  static _handle(lease) {
    return typeof lease === 'object' && lease !== null && #handle in lease ? lease.#handle : undefined;
  }
}
if (Symbol.dispose) Object.defineProperty(Lease.prototype, Symbol.dispose, { value: Lease.prototype.release });

module.exports = { Receipt, Lease };

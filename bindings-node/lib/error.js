'use strict';

const native = require('./native.js');

/** Names of the kinds, by number less one. */
const KINDS = Object.freeze(native.kinds());

/** Every error of this library; a loader's own error is not wrapped. */
class UnstaleError extends Error {
  /** The kind's number, the same in every language. */
  kind;
  /** The kind's name, the same in every language. */
  code;

  constructor(kind, message) {
    super(message);
    this.kind = typeof kind === 'string' ? KINDS.indexOf(kind) + 1 : kind;
    this.code = KINDS[this.kind - 1];
  }
}
Object.defineProperty(UnstaleError.prototype, 'name', { value: 'UnstaleError', configurable: true, writable: true });

/** A mistake in a call's arguments. */
function invalid(message) {
  return new UnstaleError('InvalidArgument', message);
}

/** What a value is, for messages. */
function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return { undefined: 'undefined', object: 'an object' }[typeof value] ?? `a ${typeof value}`;
}

module.exports = { UnstaleError, invalid, kindOf };

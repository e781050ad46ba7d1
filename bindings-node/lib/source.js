'use strict';

const { EventEmitter } = require('node:events');

/**
 * An emitter that is told when an event gets its first listener and loses its last, so that nothing is prepared for nobody.
 * Not by 'newListener', which `removeAllListeners()` removes.
 */
class Source extends EventEmitter {
  #wanted = new Set();

  #check(name) {
    const wanted = this.listenerCount(name) > 0;
    if (wanted === this.#wanted.has(name)) return;
    if (wanted) this.#wanted.add(name);
    else this.#wanted.delete(name);
    this._wanted(name, wanted);
  }

  on(name, listener) {
    super.on(name, listener);
    this.#check(name);
    return this;
  }

  addListener(name, listener) {
    return this.on(name, listener);
  }

  prependListener(name, listener) {
    super.prependListener(name, listener);
    this.#check(name);
    return this;
  }

  removeListener(name, listener) {
    super.removeListener(name, listener);
    this.#check(name);
    return this;
  }

  off(name, listener) {
    return this.removeListener(name, listener);
  }

  removeAllListeners(name) {
    if (name === undefined) super.removeAllListeners();
    else super.removeAllListeners(name);
    for (const known of [...this.#wanted]) this.#check(known);
    return this;
  }
}

module.exports = { Source };

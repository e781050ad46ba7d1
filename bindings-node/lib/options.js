'use strict';
// Options on their way to the core, which alone knows their names, ranges and defaults. What JSON would lose or change
// silently (NaN, functions, half surrogate pairs) is refused here.

const { UnstaleError, invalid, kindOf } = require('./error.js');
const { Lease } = require('./receipt.js');

/** A client's or cache's options as JSON. */
function configJson(options) {
  if (options === undefined || options === null) return '{}';
  if (!isPlain(options)) throw config(`options must be an object, not ${kindOf(options)}`);
  return JSON.stringify(checked(options, ''));
}

function checked(value, path) {
  switch (typeof value) {
    case 'boolean':
    case 'undefined':
      return value;
    case 'string':
      if (/\p{Surrogate}/u.test(value)) throw config(`option \`${path}\` has half of a surrogate pair`);
      return value;
    case 'number':
      if (!Number.isFinite(value)) throw config(`option \`${path}\` must be a finite number, not ${value}`);
      return value;
    case 'object':
      if (value === null) return value;
      if (Array.isArray(value)) return value.map((item, i) => checked(item, `${path}[${i}]`));
      if (isPlain(value)) {
        const entries = Object.entries(value).map(([name, item]) => [name, checked(item, path ? `${path}.${name}` : name)]);
        return Object.fromEntries(entries);
      }
  }
  throw config(`option \`${path}\` must be a string, number, boolean, array or plain object, not ${kindOf(value)}`);
}

function isPlain(value) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  // A plain object of another realm (a test runner's, say) has another Object.prototype, whose prototype is null too.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function config(message) {
  return new UnstaleError('Config', message);
}

const number = (value) => typeof value === 'number';
const strings = (value) => Array.isArray(value) && value.every((item) => typeof item === 'string');

/** What each option of a value must be. */
const TERMS = {
  ttl: [number, 'a number of milliseconds'],
  tags: [strings, 'an array of strings'],
  dependsOn: [strings, 'an array of strings'],
  version: [number, 'an integer from 0 to 2^53 - 1'],
  lease: [(value) => Lease._handle(value) !== undefined, 'what `cache.lease(key)` returned'],
};

/** The options of a value as the addon reads them; `undefined` if there are none. */
function terms(options) {
  if (options === undefined || options === null) return undefined;
  if (typeof options !== 'object' || Array.isArray(options)) {
    throw invalid(`options must be an object, not ${kindOf(options)}`);
  }
  const out = {};
  for (const name of Object.keys(options)) {
    const value = options[name];
    const rule = Object.hasOwn(TERMS, name) ? TERMS[name] : undefined;
    if (rule === undefined) {
      throw invalid(`unknown option \`${name}\`; possible are ${Object.keys(TERMS).join(', ')}`);
    }
    if (value === undefined || value === null) continue;
    if (!rule[0](value)) throw invalid(`\`${name}\` must be ${rule[1]}, not ${kindOf(value)}`);
    out[name] = name === 'lease' ? Lease._handle(value) : value;
  }
  return out;
}

module.exports = { configJson, terms };

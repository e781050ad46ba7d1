'use strict';

const { Cache } = require('./lib/cache.js');
const { Client, connect } = require('./lib/client.js');
const { UnstaleError } = require('./lib/error.js');
const { Lease, Receipt } = require('./lib/receipt.js');

module.exports = { connect, Client, Cache, Lease, Receipt, UnstaleError };

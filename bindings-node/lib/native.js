'use strict';
// Finds the addon for this platform.

const path = require('node:path');
const fs = require('node:fs');

const platform = `${process.platform}-${process.arch}`;
const prebuilds = path.join(__dirname, '..', 'prebuilds');

function load() {
  const file = path.join(prebuilds, platform, 'unstale.node');
  if (!fs.existsSync(file)) {
    const held = fs.existsSync(prebuilds) ? fs.readdirSync(prebuilds).join(', ') : 'none';
    throw failure(`unstale has no addon for ${platform}; this package holds: ${held || 'none'}`);
  }
  try {
    return require(file);
  } catch (cause) {
    const hint = process.platform === 'linux' ? ' (it is built for glibc; musl systems such as Alpine are not supported yet)' : '';
    throw failure(`unstale's addon for ${platform} cannot be loaded${hint}: ${cause.message}`, cause);
  }
}

function failure(message, cause) {
  return Object.assign(new Error(message, { cause }), { code: 'ERR_UNSTALE_PLATFORM' });
}

module.exports = load();

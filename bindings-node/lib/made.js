'use strict';

const { invalid } = require('./error.js');

/** Known to this package only, so that programs cannot construct what only the library can make. */
const MADE = Symbol('made by unstale');

function mustBeMade(given, hint) {
  if (given !== MADE) throw invalid(`not a constructor for programs: ${hint}`);
}

module.exports = { MADE, mustBeMade };

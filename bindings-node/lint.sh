#!/usr/bin/env bash
# Syntax of every file, and the hand-kept types against their test. Builds nothing.
set -euo pipefail
cd "$(dirname "$0")"
for file in index.js index.mjs lib/*.js __test__/*.js __test__/*.mjs; do node --check "$file"; done

project=../.cache/node-lint
mkdir -p "$project/__test__"
cp package.json package-lock.json tsconfig.json "$project"
cp __test__/*-d.*ts "$project/__test__"
cd "$project"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund
rm -rf node_modules/unstale
mkdir node_modules/unstale
cp ../../bindings-node/{package.json,index.d.ts,index.d.mts} node_modules/unstale
node -e 'const p = require("./package.json"); p.name = "unstale-lint"; delete p.exports; require("fs").writeFileSync("package.json", JSON.stringify(p))'
npx --no-install tsc -p .

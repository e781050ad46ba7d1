#!/usr/bin/env bash
# Installs the packed addon into a project of its own, as a user would, and runs the tests against what was installed.
#   bindings-node/test.sh [file …]
set -euo pipefail
cd "$(dirname "$0")"
PATH="$PATH:/usr/sbin:/usr/local/sbin"
root=$(cd .. && pwd)

[ -n "${US_NO_PACKAGE:-}" ] || ./package.sh
project=$root/.cache/node-test
rm -rf "$project/__test__" "$project/node_modules/unstale"
mkdir -p "$project"
cp -r __test__ package.json package-lock.json tsconfig.json "$project"
cd "$project"
# The pinned development tools; then the package, without scripts and from the file alone.
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund
node -e 'const p = require("./package.json"); p.name = "unstale-test"; delete p.exports; require("fs").writeFileSync("package.json", JSON.stringify(p))'
npm install --silent --no-audit --no-fund --no-save --ignore-scripts --offline "$root"/dist/unstale-*.tgz

npx --no-install tsc -p .
files=("$@")
[ ${#files[@]} -gt 0 ] || files=(__test__/*.test.js __test__/*.test.mjs)
node --test --test-reporter=spec "${files[@]}"

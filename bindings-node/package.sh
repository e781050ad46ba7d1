#!/usr/bin/env bash
# Builds the addon and packs dist/unstale-VERSION.tgz, which `npm install` takes without a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --quiet -p unstale-node
platform=$(node -p 'process.platform + "-" + process.arch')
stage=.cache/node-package
rm -rf "$stage"
mkdir -p "$stage/prebuilds/$platform" dist
cp -r bindings-node/{index.js,index.mjs,index.d.ts,index.d.mts,lib,package.json,README.md} LICENSE-* "$stage"
# Line tables are for developers: 44 MB become 8.
strip --strip-unneeded -o "$stage/prebuilds/$platform/unstale.node" target/release/libunstale_node.so
rm -f dist/unstale-*.tgz
npm pack --silent --pack-destination dist "./$stage" >/dev/null
ls dist/unstale-*.tgz

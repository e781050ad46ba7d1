#!/usr/bin/env bash
# Builds the wheel into dist/. Uses the repository's one target folder, so that what cargo built is not built again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/.cache/venv
[ -x "$venv/bin/pip" ] || { rm -rf "$venv"; python3 -m venv "$venv"; }
maturin=$(sed -n 's/^maturin==//p' bindings-python/requirements-dev.txt)
[ "$("$venv/bin/maturin" --version 2>/dev/null)" = "maturin $maturin" ] ||
  "$venv/bin/pip" install --quiet --disable-pip-version-check "maturin==$maturin"

mkdir -p dist
rm -f dist/unstale-*.whl
# The platform tag is the oldest glibc that the symbols allow ("manylinux_2_…"), as maturin finds it out; nothing but libc is linked.
"$venv/bin/maturin" build --release --locked --interpreter "$venv/bin/python" --manifest-path bindings-python/Cargo.toml --out dist
ls dist/unstale-*.whl

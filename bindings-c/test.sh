#!/bin/sh
# The tests of the C library, on what `make capi` made. The last line is `N passed, N failed`.
cd "$(dirname "$0")/.." || exit 1
[ -d dist/capi ] || bindings-c/package.sh || exit 1
exec python3 bindings-c/tests/run.py "$@"

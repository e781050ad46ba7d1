#!/usr/bin/env bash
# Tests the wheel in dist/, as a user has it: installed into .cache/venv, with no source folder on the path.
set -euo pipefail
cd "$(dirname "$0")/.."
ls dist/unstale-*.whl >/dev/null 2>&1 || bindings-python/package.sh
venv=$PWD/.cache/venv
"$venv/bin/pip" install --quiet --disable-pip-version-check -r bindings-python/requirements-dev.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/unstale-*.whl
cd bindings-python
exec "$venv/bin/python" -P -m pytest -p no:cacheprovider "$@"

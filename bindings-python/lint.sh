#!/usr/bin/env bash
# The types of the package, and of a program that uses it.
set -euo pipefail
cd "$(dirname "$0")"
venv=$PWD/../.cache/venv
"$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements-dev.txt
cd python
"$venv/bin/python" -m mypy --config-file ../pyproject.toml --cache-dir ../../.cache/mypy -p unstale

#!/usr/bin/env bash
# Runs what build.sh made: run.sh PROGRAM.dll [argument …]
set -euo pipefail
. "$(dirname "$0")/env.sh"
exec "$dotnet" exec "$@"

#!/usr/bin/env bash
# The tests of the .NET binding, against memory:// and a mosquitto of their own. The last line is `N passed, N failed`.
#   test.sh [part of a name …]
set -euo pipefail
cd "$(dirname "$0")/../.."
program=.cache/dotnet-tests/UnstaleTests.dll
bindings-c/dotnet/build.sh "$program" bindings-c/dotnet/tests/*.cs
export US_HEADER=$PWD/bindings-c/include/unstale.h
exec bindings-c/dotnet/run.sh "$program" "$@"

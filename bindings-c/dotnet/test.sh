#!/usr/bin/env bash
# The tests of the .NET binding, against memory:// and a mosquitto of their own, and the program of the guide.
# The last line is `N passed, N failed`.
#   test.sh [part of a name …]        only these tests
set -euo pipefail
cd "$(dirname "$0")/../.."
out=.cache/dotnet-tests
bindings-c/dotnet/build.sh "$out/UnstaleTests.dll" bindings-c/dotnet/tests/*.cs

if [ $# -eq 0 ]; then
  # The guide's program prints what the guide says.
  mkdir -p "$out/guide"
  awk '/<!-- run: dotnet -->/ {found = 1} found && /^```csharp/ {inside = 1; next} inside && /^```/ {exit} inside' docs/dotnet.md >"$out/guide/guide.cs"
  if bindings-c/dotnet/build.sh "$out/guide/guide.dll" "$out/guide/guide.cs" &&
    said=$(bindings-c/dotnet/run.sh "$out/guide/guide.dll") && [ "$(echo $said)" = "120 True True 99 False" ]; then
    echo "ok      the program of docs/dotnet.md"
    echo "1 passed, 0 failed"
  else
    echo "FAILED  the program of docs/dotnet.md: ${said:-}"
    echo "0 passed, 1 failed"
    guide=failed
  fi
fi

export US_HEADER=$PWD/bindings-c/include/unstale.h
bindings-c/dotnet/run.sh "$out/UnstaleTests.dll" "$@" && [ "${guide:-}" != failed ]

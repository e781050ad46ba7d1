#!/usr/bin/env bash
# Compiles Unstale.dll, and a program against it:
#   build.sh                                 .cache/dotnet/Unstale.dll, with the C library beside it
#   build.sh PROGRAM.dll SOURCE.cs …         a program too; it and all that it needs lie in PROGRAM.dll's folder
#   run.sh PROGRAM.dll [argument …]          runs it
# Quick when nothing changed. With an SDK, refer to Unstale.csproj instead.
set -euo pipefail
. "$(dirname "$0")/env.sh"
source=$root/bindings-c/dotnet/src
[ -e "$root/dist/capi/lib/libunstale.so" ] || "$root/bindings-c/package.sh" >&2

# Is a file there, and not older than the others?
fresh() { local file=$1 other; shift; [ -e "$file" ] || return 1; for other; do [ ! "$other" -nt "$file" ] || return 1; done; }
# Never into a file that a running process has mapped.
place() { fresh "$2" "$1" || { cp -L "$1" "$2.new" && mv "$2.new" "$2"; }; }

mkdir -p "$built"
exec 9>"$built/.lock"
flock 9
library=$built/Unstale.dll
fresh "$library" "$source" "$source"/*.cs "$root/bindings-c/dotnet/env.sh" ||
  compile "$library" library -unsafe -warn:4 -warnaserror "-doc:$built/Unstale.xml" "$source"/*.cs
place "$root/dist/capi/lib/libunstale.so" "$built/libunstale.so"

if [ $# -gt 0 ]; then
  program=$1
  shift
  mkdir -p "$(dirname "$program")"
  fresh "$program" "$library" "$@" || compile "$program" exe "-r:$library" "$@"
  for file in Unstale.dll libunstale.so; do place "$built/$file" "$(dirname "$program")/$file"; done
fi

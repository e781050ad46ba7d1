#!/usr/bin/env bash
# The Go module's tests, against a real mosquitto: as users build it, then under the race detector.
#   test.sh [go test arguments]        assumes that the C library was built (make capi)
set -euo pipefail
cd "$(dirname "$0")"
PATH="$PATH:/usr/local/go/bin:/usr/sbin"
. ./env.sh

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted" >&2; exit 1; }
go vet ./...
go test -v -count=1 "$@" ./...
# As a part of the program.
go test -v -count=1 -tags unstale_static -run '^(Example.*|TestWhatIsSetIsReadBackUntilItIsRemoved|TestEveryInvalidationReachesTheOtherProcess)$' ./...
go test -v -count=1 -race "$@" ./...

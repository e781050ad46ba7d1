# Sourced by what builds Go programs in this repository: which C library they use, dist/capi (`make capi`) or, for those
# who work on the library, what cargo left in target/release.
go_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -e "$go_root/dist/capi/lib/pkgconfig/unstale.pc" ]; then
  export PKG_CONFIG_PATH="$go_root/dist/capi/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
elif [ -e "$go_root/target/release/libunstale.so" ]; then
  mkdir -p "$go_root/.cache/go"
  cat > "$go_root/.cache/go/unstale.pc" <<PC
Name: unstale
Description: as built by cargo
Version: 0
Cflags: -I$go_root/bindings-c/include
Libs: -L$go_root/target/release -lunstale -Wl,-rpath,$go_root/target/release
PC
  export PKG_CONFIG_PATH="$go_root/.cache/go${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
else
  echo "the C library is not built: make capi" >&2
  exit 1
fi
# Go's build cache notices neither a changed header nor another place of the library, but it does notice other flags.
CGO_CFLAGS="-O2 -g -DUS_BUILT_WITH=$(pkg-config --cflags --libs unstale | cat - "$(pkg-config --variable=includedir unstale | grep . || echo "$go_root/bindings-c/include")/unstale.h" | cksum | cut -d' ' -f1)"
export CGO_CFLAGS

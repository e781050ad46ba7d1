#!/usr/bin/env bash
# Builds what users of C install:
#   dist/capi/{include,lib,lib/pkgconfig}, and the licences
#   package.sh [DIRECTORY]     (default: dist/capi)
# The directory can be moved anywhere: unstale.pc finds its way from where it lies.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=${1:-dist/capi}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
abi=0                                   # as in build.rs
target=${CARGO_TARGET_DIR:-target}/release

cargo build --quiet --release --locked -p unstale-c

final=$dist
dist=$final.new                         # so that nobody meets a half-made one
rm -rf "$dist"
mkdir -p "$dist/include" "$dist/lib/pkgconfig" "$dist/share/doc/unstale"
cp bindings-c/include/unstale.h "$dist/include/"
cp LICENSE-MIT LICENSE-APACHE LICENSE-THIRD-PARTY "$dist/share/doc/unstale/"

# Shared: without symbols for debuggers, 8 MB in place of 42.
strip -o "$dist/lib/libunstale.so.$version" "$target/libunstale.so"
ln -s "libunstale.so.$version" "$dist/lib/libunstale.so.$abi"
ln -s "libunstale.so.$abi" "$dist/lib/libunstale.so"

# Static: one object in which only unstale_* is global, so that a program can have an OpenSSL, a Paho or a Rust of its own.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
roots=$(nm -D --defined-only "$target/libunstale.so" | awk '$3 ~ /^unstale_/ {print "-u", $3}')
# shellcheck disable=SC2086
ld -r -d --gc-sections $roots -o "$work/all.o" "$target/libunstale.a"
objcopy --wildcard --keep-global-symbol='unstale_*' --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd \
  "$work/all.o" "$work/unstale.o"
ar crsD "$dist/lib/libunstale.a" "$work/unstale.o"

cat > "$dist/lib/pkgconfig/unstale.pc" <<'PC'
prefix=${pcfiledir}/../..
includedir=${prefix}/include
libdir=${prefix}/lib

Name: unstale
Description: In-process caches that stay fresh across services and languages
Version: @version@
License: MIT OR Apache-2.0
Cflags: -I${includedir}
# The run path lets programs find the library where it lies, also outside the system's directories.
Libs: -L${libdir} -lunstale -Wl,-rpath,${libdir}
# For a static link: cc program.c $(pkg-config --cflags unstale) -L… -l:libunstale.a and these.
Libs.private: -lm -lpthread -ldl
PC
sed -i "s/@version@/$version/" "$dist/lib/pkgconfig/unstale.pc"
rm -rf "$final"
mv "$dist" "$final"
echo "$final: unstale $version for C"

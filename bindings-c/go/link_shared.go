//go:build !unstale_static

package unstale

// pkg-config finds the library: `make capi` writes dist/capi/lib/pkgconfig/unstale.pc.

// #cgo pkg-config: unstale
import "C"

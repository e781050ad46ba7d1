//go:build unstale_static

package unstale

// go build -tags unstale_static: the library becomes part of the program, which then needs no libunstale.so to run.

// #cgo pkg-config: unstale
// #cgo LDFLAGS: -Wl,--as-needed -l:libunstale.a -lm -lpthread -ldl
import "C"

package unstale

// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Kind says what sort of error it is. The numbers are the same in every language of unstale.
type Kind uint32

const (
	KindInvalidArgument Kind = iota + 1 // an argument is out of its documented range; nothing changed
	KindConfig                          // an option is unknown, contradictory or out of range
	KindConnect                         // the broker cannot be reached, refused the connection, or took it away
	KindAuth                            // the broker refused these credentials, or this topic to them
	KindTLS                             // the TLS handshake failed, or a certificate or key cannot be used
	KindTimeout                         // a time limit ran out
	KindClosed                          // the client was closed
	KindLoad                            // a load failed, and its loader left no error
	KindInternal                        // a fault in this library; please report it
	KindForked                          // the process forked after the client was made
)

// String is the kind's name in every language: "InvalidArgument", "Config", "Connect", "Auth", "Tls", "Timeout", "Closed",
// "Load", "Internal", "Forked".
func (k Kind) String() string { return C.GoString(C.unstale_code_name(C.uint32_t(k))) }

// Error is what this package's functions return, except where they hand on an error of the caller's own (a loader's, a
// context's). Compare it with the Err… variables by [errors.Is], or look inside with [errors.As].
type Error struct {
	Kind Kind
	// Message is a sentence for people: what was wrong, where, and what to do. Never a secret.
	Message string
}

// One for each kind, for errors.Is.
var (
	ErrInvalidArgument error = &Error{Kind: KindInvalidArgument}
	ErrConfig          error = &Error{Kind: KindConfig}
	ErrConnect         error = &Error{Kind: KindConnect}
	ErrAuth            error = &Error{Kind: KindAuth}
	ErrTLS             error = &Error{Kind: KindTLS}
	ErrTimeout         error = &Error{Kind: KindTimeout}
	ErrClosed          error = &Error{Kind: KindClosed}
	ErrLoad            error = &Error{Kind: KindLoad}
	ErrInternal        error = &Error{Kind: KindInternal}
	ErrForked          error = &Error{Kind: KindForked}
)

// ErrNotFound is what a loader returns (or wraps) when the source has no such key, and what [Cache.GetOrLoad] returns then.
// It is remembered only if the cache has a NegativeTTL.
var ErrNotFound = errors.New("unstale: not found")

// Error implements error.
func (e *Error) Error() string {
	if e.Message == "" {
		return "unstale: " + e.Kind.String()
	}
	return fmt.Sprintf("unstale: %s: %s", e.Kind, e.Message)
}

// Is reports whether target is the Err… variable of this error's kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Kind == e.Kind
}

func invalid(format string, args ...any) error {
	return &Error{KindInvalidArgument, fmt.Sprintf(format, args...)}
}

// check makes an error of what a call came to, or nil.
func check(result C.unstale_result) error {
	if result.code == C.UNSTALE_OK {
		return nil
	}
	return failure(result)
}

func failure(result C.unstale_result) error {
	buffer := make([]byte, 512)
	for {
		size := C.unstale_result_message(result, (*C.char)(unsafe.Pointer(&buffer[0])), C.size_t(len(buffer)))
		if int(size) < len(buffer) {
			return &Error{Kind(result.code), string(buffer[:size])}
		}
		buffer = make([]byte, size+1)
	}
}

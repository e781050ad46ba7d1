package unstale

// #include "glue.h"
import "C"

import (
	"encoding/json"
	"log/slog"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// Origin says whose an invalidation is.
type Origin string

const (
	Local  Origin = "local"  // this client's
	Remote Origin = "remote" // another's
)

// Invalidation is one that was applied here.
type Invalidation struct {
	// Namespace is the cache.
	Namespace string `json:"namespace"`
	// What fell. Empty, never nil.
	Keys     []string `json:"keys"`
	Tags     []string `json:"tags"`
	Prefixes []string `json:"prefixes"`
	// All: everything.
	All bool `json:"all"`
	// Origin is Local or Remote.
	Origin Origin `json:"origin"`
	// Src and Seq name a remote message: its publisher's stream, and its number there. "" and 0 if it has none.
	Src string `json:"src"`
	Seq uint64 `json:"seq"`
}

// OnInvalidated calls f for each invalidation that was applied here, its own included, after the entries are gone: on a
// thread of the client's own, one call at a time. f may use the cache; while it runs, other events wait. A panic in f is
// logged and goes no further.
//
// cancel ends it: no call of f begins after cancel has returned. Until then f, and what it refers to, is kept; a closure
// over the cache keeps the cache.
//
// Errors: ErrInvalidArgument.
func (c *Cache[V]) OnInvalidated(f func(Invalidation)) (cancel func(), err error) {
	if f == nil {
		return nil, invalid("f is nil")
	}
	defer runtime.KeepAlive(c)
	return subscribed(C.us_on_invalidated(c.c(), C.uint64_t(put(listener{"OnInvalidated", func(text []byte) error {
		var event Invalidation
		err := json.Unmarshal(text, &event)
		if err == nil {
			f(event)
		}
		return err
	}}))))
}

// listener is what C calls, by its number in the table.
type listener struct {
	name string
	call func(text []byte) error
}

func subscribed(made C.us_handle) (func(), error) {
	if err := check(made.result); err != nil {
		return nil, err
	}
	return func() { C.us_cancel(made.handle) }, nil
}

//export unstaleGoEvent
func unstaleGoEvent(number C.uint64_t, text *C.char, size C.size_t) {
	b, ok := lookup[listener](uint64(number))
	if !ok {
		return
	}
	// A panic must not unwind into C, which would end the process.
	defer func() {
		if reason := recover(); reason != nil {
			loud().Error("unstale: a listener panicked; the others go on", "listener", b.value.name, "panic", reason,
				"stack", string(debug.Stack()))
		}
	}()
	if err := b.value.call(C.GoBytes(unsafe.Pointer(text), C.int(size))); err != nil {
		loud().Error("unstale: an event cannot be read", "listener", b.value.name, "error", err)
	}
}

// loud is for mistakes in the program itself, which are told even if nobody set a logger.
func loud() *slog.Logger {
	if l := logger.Load(); l != nil {
		return l
	}
	return slog.Default()
}

package unstale

// #include "glue.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// GetOrLoad returns the value held under key, or loads it: load is called in this goroutine, once for all callers in this
// process who want the key meanwhile; they get the same value, or the same error. A value that was invalidated while it
// was being loaded is returned to those who waited for it, but not stored. opts are what the value is stored with.
//
// load returns ErrNotFound, or an error that wraps it, if the source has no such key. Its ctx is this call's; pass it on.
// Whatever error load returns, its caller gets unchanged, and so does who waited for it, but for one: if ctx ended and load
// gave up for that reason, one of those who waited loads in its place. A panic in load goes to its own caller; the others
// load again. The loader may use the cache, but not to load the same key.
//
// Errors: the loader's own; ErrNotFound; ctx.Err() if ctx ends while another's load is awaited; ErrTimeout (LoadTimeout);
// ErrInvalidArgument (a bad key or option; load asks for its own key), ErrClosed.
func (c *Cache[V]) GetOrLoad(ctx context.Context, key string, load func(ctx context.Context) (V, error), opts ...SetOption) (V, error) {
	var none V
	switch {
	case ctx == nil:
		return none, invalid("ctx is nil")
	case load == nil:
		return none, invalid("load is nil")
	}
	var t *terms
	if len(opts) > 0 {
		var err error
		if t, err = termsOf(opts); err != nil {
			return none, err
		}
		defer runtime.KeepAlive(t.lease)
	}
	for tries := 0; ; tries++ {
		begun := c.begin(key, t, tries >= peeks)
		if err := check(begun.result); err != nil {
			return none, err
		}
		switch begun.state {
		case C.UNSTALE_BEGIN_HIT:
			if begun.owner != 0 {
				if value, ok := claim[V](uint64(begun.number), uintptr(begun.owner)); ok {
					return value, nil
				}
			} else if b, ok := lookup[V](uint64(begun.number)); ok {
				return b.value, nil
			}
			// Replaced since: look again.
		case C.UNSTALE_BEGIN_ABSENT:
			return none, ErrNotFound
		case C.UNSTALE_BEGIN_LEAD:
			return c.lead(ctx, uintptr(begun.handle), uint64(begun.load_id), load)
		default:
			if value, err, done := c.join(ctx, key, uintptr(begun.handle), uint64(begun.load_id)); done {
				return value, err
			}
		}
	}
}

func (c *Cache[V]) begin(key string, t *terms, hold bool) C.us_begun {
	defer runtime.KeepAlive(c)
	if t == nil {
		return C.us_begin(c.c(), bytesOf(key), C.size_t(len(key)), nil, nil, nil, C.bool(hold))
	}
	return C.us_begin(c.c(), bytesOf(key), C.size_t(len(key)), &t.c, bytesOf(t.texts.bytes()), t.texts.sizes(), C.bool(hold))
}

// lead runs the loader and tells the others how it ended.
func (c *Cache[V]) lead(ctx context.Context, handle uintptr, id uint64, load func(context.Context) (V, error)) (value V, err error) {
	// Also when load panics or calls runtime.Goexit: whoever waits begins again.
	end := func() { C.us_load_abandon(C.uintptr_t(handle)) }
	defer func() {
		end()
		c.flights.landed(id)
		runtime.KeepAlive(c)
	}()
	if err := ctx.Err(); err != nil {
		return value, err
	}
	value, err = load(context.WithValue(ctx, leadingKey{}, &leading{id, leadingOf(ctx)}))
	switch {
	case err == nil:
		end = func() { C.us_load_finish(C.uintptr_t(handle), C.uint64_t(put(value))) }
	case errors.Is(err, ErrNotFound):
		end = func() { C.us_load_finish(C.uintptr_t(handle), 0) }
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		// It was this caller's context that ended, not the others'.
	default:
		end = func() { C.us_load_fail(C.uintptr_t(handle), C.uint64_t(put(err))) }
	}
	return value, err
}

// leading is in a loader's context: the loads that it is part of.
type leading struct {
	id    uint64
	outer *leading
}

type leadingKey struct{}

func leadingOf(ctx context.Context) *leading {
	l, _ := ctx.Value(leadingKey{}).(*leading)
	return l
}

// join waits for another's load. Not done: begin again.
func (c *Cache[V]) join(ctx context.Context, key string, handle uintptr, id uint64) (value V, err error, done bool) {
	defer runtime.KeepAlive(c)
	defer C.us_join_free(C.uintptr_t(handle))
	for l := leadingOf(ctx); l != nil; l = l.outer {
		if l.id == id {
			return value, invalid("the loader of %q asks for its own key, and would wait for itself", key), true
		}
	}
	landed, leave := c.flights.board(id)
	defer leave()
	// Whoever ends the load after this look, finds us on board.
	if value, err, done, over := look[V](handle); over {
		return value, err, done
	}
	var timeout <-chan time.Time
	limit := C.us_load_timeout(c.c())
	if limit != C.UNSTALE_NO_LIMIT {
		timer := time.NewTimer(time.Duration(limit) * time.Millisecond)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-landed:
		value, err, done, _ := look[V](handle)
		return value, err, done
	case <-ctx.Done():
		return value, ctx.Err(), true
	case <-timeout:
		return value, &Error{KindTimeout, fmt.Sprintf("the load of %q by another caller took longer than LoadTimeout (%d ms)", key, limit)}, true
	case <-c.client.closed:
		// Begin again, which says so.
		return value, nil, false
	}
}

// look is how a load ended, if it is over; not done: begin again.
func look[V any](join uintptr) (value V, err error, done, over bool) {
	joined := C.us_join_look(C.uintptr_t(join))
	switch joined.state {
	case C.UNSTALE_JOIN_VALUE:
		value, done = claim[V](uint64(joined.number), uintptr(joined.owner))
		return value, nil, done, true
	case C.UNSTALE_JOIN_ABSENT:
		return value, ErrNotFound, true, true
	case C.UNSTALE_JOIN_FAILED:
		if joined.owner != 0 {
			if err, ok := claim[error](uint64(joined.number), uintptr(joined.owner)); ok {
				return value, err, true, true
			}
		}
		return value, &Error{KindLoad, "the load failed"}, true, true
	case C.UNSTALE_JOIN_TIMED_OUT:
		return value, nil, false, false
	default:
		return value, nil, false, true
	}
}

// flights are the loads that somebody waits for, by their number. A goroutine that waits so costs no thread, however many
// they are; the leader, who is of this process too, wakes them.
type flights struct {
	mu    sync.Mutex
	loads map[uint64]*flight
}

type flight struct {
	landed chan struct{}
	aboard int
}

// board returns what is closed when the load ends, and what to call when it is awaited no more.
func (f *flights) board(id uint64) (landed <-chan struct{}, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loads == nil {
		f.loads = map[uint64]*flight{}
	}
	l := f.loads[id]
	if l == nil {
		l = &flight{landed: make(chan struct{})}
		f.loads[id] = l
	}
	l.aboard++
	return l.landed, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if l.aboard--; l.aboard == 0 && f.loads[id] == l {
			delete(f.loads, id)
		}
	}
}

func (f *flights) landed(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.loads[id]; l != nil {
		close(l.landed)
		delete(f.loads, id)
	}
}

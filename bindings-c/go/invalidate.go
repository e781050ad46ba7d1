package unstale

// #include "glue.h"
import "C"

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"
)

// KeyVersion is a key to invalidate, perhaps with the version that is current now (0 to 2^53 - 1).
type KeyVersion struct {
	Key     string
	Version *uint64
}

// Keys are keys without versions, for [Cache.InvalidateMany].
func Keys(keys ...string) []KeyVersion {
	items := make([]KeyVersion, len(keys))
	for i, key := range keys {
		items[i].Key = key
	}
	return items
}

// Invalidate removes a key, here before it returns, and everywhere else as soon as the network allows: what could not be
// sent is kept and sent later. Call it after the write to the source has committed.
//
// Errors: ErrInvalidArgument (a key is 1 to 1,024 bytes of UTF-8 without NUL), ErrClosed.
func (c *Cache[V]) Invalidate(key string) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	return receiptOf(C.us_invalidate(c.c(), bytesOf(key), C.size_t(len(key))))
}

// InvalidateVersion says that version (0 to 2^53 - 1) of a key is now current: entries with a lower version or none fall,
// here and everywhere else, and lower ones are refused for TombstoneTTL.
//
// Errors: as Invalidate; ErrInvalidArgument for a version out of range.
func (c *Cache[V]) InvalidateVersion(key string, version uint64) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	return receiptOf(C.us_invalidate_version(c.c(), bytesOf(key), C.size_t(len(key)), C.uint64_t(version)))
}

// InvalidateMany invalidates several keys in one go: all, or none if one is bad.
//
//	cache.InvalidateMany(unstale.Keys("user:1", "user:2"))
//
// Errors: as InvalidateVersion.
func (c *Cache[V]) InvalidateMany(keys []KeyVersion) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	const none = math.MaxUint64
	versions := make([]C.uint64_t, len(keys)+1)
	var t texts
	for i, item := range keys {
		t.add(item.Key)
		versions[i] = none
		if item.Version != nil {
			// The one number that stands for none is no version either.
			versions[i] = C.uint64_t(min(*item.Version, none-1))
		}
	}
	return receiptOf(C.us_invalidate_many(c.c(), bytesOf(t.bytes()), t.sizes(), &versions[0], C.size_t(len(keys))))
}

// InvalidateTags removes every entry that has one of these tags, here and everywhere else.
//
// Errors: as Invalidate, for a tag.
func (c *Cache[V]) InvalidateTags(tags ...string) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	var t texts
	for _, tag := range tags {
		t.add(tag)
	}
	return receiptOf(C.us_invalidate_tags(c.c(), bytesOf(t.bytes()), t.sizes(), C.size_t(len(tags))))
}

// InvalidatePrefix removes every entry whose key begins with prefix (1 to 1,024 bytes), here and everywhere else. It goes
// through all keys held.
//
// Errors: as Invalidate, for the prefix.
func (c *Cache[V]) InvalidatePrefix(prefix string) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	return receiptOf(C.us_invalidate_prefix(c.c(), bytesOf(prefix), C.size_t(len(prefix))))
}

// InvalidateAll removes everything, here and everywhere else, in microseconds whatever is held.
//
// Errors: ErrClosed.
func (c *Cache[V]) InvalidateAll() (*Receipt, error) {
	defer runtime.KeepAlive(c)
	return receiptOf(C.us_invalidate_all(c.c()))
}

// Receipt says what became of an invalidation or update that was issued here. It may be ignored.
type Receipt struct {
	handle uintptr
	stored bool
	token  func() string
}

func receiptOf(made C.us_made) (*Receipt, error) {
	if err := check(made.result); err != nil {
		return nil, err
	}
	r := &Receipt{handle: uintptr(made.receipt), stored: bool(made.stored)}
	runtime.AddCleanup(r, func(handle uintptr) { C.us_receipt_free(C.uintptr_t(handle)) }, r.handle)
	r.token = sync.OnceValue(func() string {
		defer runtime.KeepAlive(r)
		var text *C.char
		if check(C.us_receipt_token(C.uintptr_t(r.handle), &text)) != nil {
			return "" // cannot be: the handle lives as long as r
		}
		return take(text)
	})
	return r, nil
}

// Token names this invalidation, fit for an HTTP header: another process gives it to [Client.WaitFor] to read what was
// written here.
func (r *Receipt) Token() string { return r.token() }

// Stored reports whether Update stored its value here; false for one that was an invalidation only, and for Invalidate….
func (r *Receipt) Stored() bool { return r.stored }

// Delivered waits until the broker has acknowledged the invalidation. False: ctx ended first, or the client was closed.
// Who wants no limit gives none: context.Background().
func (r *Receipt) Delivered(ctx context.Context) bool {
	done, err := wait(ctx, func(timeout time.Duration) (bool, error) {
		defer runtime.KeepAlive(r)
		answer := C.us_receipt_wait(C.uintptr_t(r.handle), C.uint64_t(millis(timeout)))
		return bool(answer.flag), check(answer.result)
	})
	return done && err == nil
}

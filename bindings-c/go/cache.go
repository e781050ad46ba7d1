package unstale

// #include <stdlib.h>
// #include "glue.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// Cache holds the entries of one namespace in this process: values of type V, live. What a value points to is shared by
// everyone who reads it.
type Cache[V any] struct {
	handle    uintptr
	client    *Client
	namespace string
	flights   flights
}

// OpenCache opens the cache of a namespace: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with _; "" means no namespace.
// Once per namespace and client. Does not wait for the network.
//
// Errors: ErrInvalidArgument (a bad namespace, one that is open already), ErrConfig, ErrClosed.
func OpenCache[V any](client *Client, namespace string, config CacheConfig) (*Cache[V], error) {
	options, err := config.json()
	if err != nil {
		return nil, err
	}
	handle, err := open(client, namespace, options)
	if err != nil {
		return nil, err
	}
	cache := &Cache[V]{handle: handle, client: client, namespace: namespace}
	runtime.AddCleanup(cache, func(handle uintptr) { C.us_cache_free(C.uintptr_t(handle)) }, handle)
	return cache, nil
}

func open(client *Client, namespace, config string) (uintptr, error) {
	namespace, err := cText("namespace", namespace)
	if err != nil {
		return 0, err
	}
	ns, options := C.CString(namespace), C.CString(config)
	defer C.free(unsafe.Pointer(ns))
	defer C.free(unsafe.Pointer(options))
	defer runtime.KeepAlive(client)
	var handle C.uintptr_t
	err = check(C.us_open(client.c(), ns, options, &handle))
	return uintptr(handle), err
}

// c is the handle; a nil cache has none, which C answers with InvalidArgument.
func (c *Cache[V]) c() C.uintptr_t {
	if c == nil {
		return 0
	}
	return C.uintptr_t(c.handle)
}

// empty stands for the bytes of "", so that C can tell it from no text at all.
var empty [1]byte

func bytesOf(text string) *C.char {
	if text == "" {
		return (*C.char)(unsafe.Pointer(&empty))
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
}

// peeks is how often a read is repeated because its value was replaced between finding its number and looking it up.
const peeks = 4

// Get returns the value held under key, unless it may be staler than the bound. It never blocks and never waits for the
// network. A bad key, and a closed client, are a miss.
func (c *Cache[V]) Get(key string) (V, bool) {
	var none V
	if c == nil {
		return none, false
	}
	for range peeks {
		number := c.peek(key)
		if number == 0 {
			return none, false
		}
		if b, ok := lookup[V](number); ok {
			return b.value, true
		}
	}
	// Writers are that fast: hold the value while looking it up.
	held := C.us_get(c.c(), bytesOf(key), C.size_t(len(key)))
	runtime.KeepAlive(c)
	if held.owner == 0 {
		return none, false
	}
	return claim[V](uint64(held.number), uintptr(held.owner))
}

// peek is the number of the value held under key, or 0.
func (c *Cache[V]) peek(key string) uint64 {
	number := C.us_peek(C.uintptr_t(c.handle), bytesOf(key), C.size_t(len(key)))
	runtime.KeepAlive(c)
	return uint64(number)
}

// nothing is peek without the library: the floor under every call, for benchmarks.
func (c *Cache[V]) nothing(key string) uint64 {
	number := C.us_nothing(C.uintptr_t(c.handle), bytesOf(key), C.size_t(len(key)))
	runtime.KeepAlive(c)
	return uint64(number)
}

// claim is the value of a number whose reference is ours, and gives the reference back.
func claim[V any](number uint64, owner uintptr) (V, bool) {
	defer C.us_release(C.uint64_t(number), C.uintptr_t(owner))
	if b, ok := lookup[V](number); ok {
		return b.value, true
	}
	var none V
	return none, false
}

// Contains reports whether Get would find the key now. Counts neither a hit nor a miss.
//
// Errors: ErrInvalidArgument (a key is 1 to 1,024 bytes of UTF-8 without NUL), ErrClosed.
func (c *Cache[V]) Contains(key string) (bool, error) {
	defer runtime.KeepAlive(c)
	answer := C.us_contains(c.c(), bytesOf(key), C.size_t(len(key)))
	return bool(answer.flag), check(answer.result)
}

// Set stores a value that is current now, here only: nothing is published. False: it was refused, because its lease was
// fenced by an invalidation or used before, or its version is lower than the newest one known.
//
// Use it for a value that you have just read or made; read it under a lease ([Cache.Lease]), or use [Cache.GetOrLoad], if
// it may be invalidated meanwhile. After a write to the source, use [Cache.Update] or [Cache.Invalidate].
//
// Errors: ErrInvalidArgument (a bad key, tag, dependency, version or TTL; a lease of another key, or a released one),
// ErrClosed.
func (c *Cache[V]) Set(key string, value V, opts ...SetOption) (bool, error) {
	defer runtime.KeepAlive(c)
	if len(opts) == 0 {
		answer := C.us_set(c.c(), bytesOf(key), C.size_t(len(key)), C.uint64_t(put(value)))
		return bool(answer.flag), check(answer.result)
	}
	t, err := termsOf(opts)
	if err != nil {
		return false, err
	}
	answer := C.us_set_with(c.c(), bytesOf(key), C.size_t(len(key)), C.uint64_t(put(value)), &t.c, bytesOf(t.texts.bytes()), t.texts.sizes())
	runtime.KeepAlive(t.lease)
	return bool(answer.flag), check(answer.result)
}

// Update stores a new value here and invalidates the key everywhere else, after a write to the source. It needs
// [WithLease], a lease taken before that write, or [WithVersion]: without, two concurrent writers could leave the older
// value here. If the lease was fenced or a higher version is known, it is an invalidation only; [Receipt.Stored] tells.
//
// Errors: as Set; ErrInvalidArgument without lease and version.
func (c *Cache[V]) Update(key string, value V, opts ...SetOption) (*Receipt, error) {
	defer runtime.KeepAlive(c)
	t, err := termsOf(opts)
	if err != nil {
		return nil, err
	}
	made := C.us_update(c.c(), bytesOf(key), C.size_t(len(key)), C.uint64_t(put(value)), &t.c, bytesOf(t.texts.bytes()), t.texts.sizes())
	runtime.KeepAlive(t.lease)
	return receiptOf(made)
}

// Evict removes a key here, and here only; a load of it that is under way is not stored. It returns whether the key was
// held.
//
// Errors: ErrInvalidArgument, ErrClosed.
func (c *Cache[V]) Evict(key string) (bool, error) {
	defer runtime.KeepAlive(c)
	answer := C.us_evict(c.c(), bytesOf(key), C.size_t(len(key)))
	return bool(answer.flag), check(answer.result)
}

// ClearLocal removes everything here, and here only; loads under way are not stored.
//
// Errors: ErrClosed.
func (c *Cache[V]) ClearLocal() error {
	defer runtime.KeepAlive(c)
	return check(C.us_clear_local(c.c()))
}

// Len is how many entries are held, expired ones that were not replaced yet included.
func (c *Cache[V]) Len() int {
	defer runtime.KeepAlive(c)
	return int(C.us_len(c.c()))
}

// Namespace is the one that the cache was opened with.
func (c *Cache[V]) Namespace() string {
	if c == nil {
		return ""
	}
	return c.namespace
}

// Stats are the cache's counters since it was opened. Works on a closed client too.
//
// Errors: ErrInvalidArgument.
func (c *Cache[V]) Stats() (Stats, error) {
	defer runtime.KeepAlive(c)
	var text *C.char
	var stats Stats
	if err := check(C.us_stats(c.c(), &text)); err != nil {
		return stats, err
	}
	return stats, decode(take(text), &stats)
}

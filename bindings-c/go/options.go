package unstale

// #include "glue.h"
import "C"

import (
	"runtime"
	"time"
)

// SetOption is what a value is stored with: [WithTTL], [WithTags], [WithDependsOn], [WithVersion], [WithLease]. Several of
// one kind: the last counts, but tags and dependencies add up.
type SetOption struct{ apply func(*terms) error }

// WithTTL is how long the entry lives at most, instead of the cache's TTL: longer than 0, at most ten years; counted in
// milliseconds, rounded up.
func WithTTL(ttl time.Duration) SetOption {
	return SetOption{func(t *terms) error {
		if ttl <= 0 {
			return invalid("WithTTL: a TTL must be longer than 0 and at most ten years, not %v", ttl)
		}
		t.c.ttl_ms = C.uint64_t(millis(ttl))
		return nil
	}}
}

// WithTags gives the entry tags, by which [Cache.InvalidateTags] reaches it: at most 1,000, each 1 to 1,024 bytes.
func WithTags(tags ...string) SetOption {
	return SetOption{func(t *terms) error {
		t.tags = append(t.tags, tags...)
		return nil
	}}
}

// WithDependsOn makes the entry fall whenever one of these keys is invalidated, by whomever: at most 1,000.
func WithDependsOn(keys ...string) SetOption {
	return SetOption{func(t *terms) error {
		t.dependsOn = append(t.dependsOn, keys...)
		return nil
	}}
}

// WithVersion is the source's version of the value, 0 to 2^53 - 1: it is refused if a higher one was invalidated.
func WithVersion(version uint64) SetOption {
	return SetOption{func(t *terms) error {
		t.c.version, t.c.has_version = C.uint64_t(version), true
		return nil
	}}
}

// WithLease stores under a lease, which that uses up. Not for GetOrLoad, which takes its own.
func WithLease(lease *Lease) SetOption {
	return SetOption{func(t *terms) error {
		if lease == nil || lease.handle == 0 {
			return invalid("WithLease: the lease is nil")
		}
		t.lease, t.c.lease = lease, C.uintptr_t(lease.handle)
		return nil
	}}
}

// terms are all options of a call, as C wants them.
type terms struct {
	c         C.us_terms
	tags      []string
	dependsOn []string
	lease     *Lease // must live until the call is over
	texts     texts  // the tags, then the dependencies
}

func termsOf(opts []SetOption) (*terms, error) {
	t := new(terms)
	for _, option := range opts {
		if option.apply == nil {
			return nil, invalid("an option is a zero SetOption; make it with one of the With… functions")
		}
		if err := option.apply(t); err != nil {
			return nil, err
		}
	}
	t.c.tags, t.c.depends_on = C.size_t(len(t.tags)), C.size_t(len(t.dependsOn))
	for _, tag := range t.tags {
		t.texts.add(tag)
	}
	for _, key := range t.dependsOn {
		t.texts.add(key)
	}
	return t, nil
}

// texts travel to C end to end, each with its length: so no pointer inside Go's memory has to be pinned.
type texts struct {
	joined []byte
	lens   []C.size_t
}

func (t *texts) add(text string) {
	t.joined = append(t.joined, text...)
	t.lens = append(t.lens, C.size_t(len(text)))
}

func (t *texts) bytes() string { return string(t.joined) }

func (t *texts) sizes() *C.size_t {
	if len(t.lens) == 0 {
		return nil
	}
	return &t.lens[0]
}

// Lease is permission to fill a key, noted before its source is read: whether an invalidation came in between is known
// when the value is stored. One Set or Update uses it up.
type Lease struct {
	handle uintptr
	key    string
	undo   runtime.Cleanup
}

// Lease takes a lease. Take it before you read the source, then Set with it: if the key, or a tag or dependency given
// there, was invalidated in between, the value is not stored. For Update, take it before you write to the source. Several
// may be open for one key. Release it when you are done; the garbage collector releases a forgotten one.
//
// Errors: ErrInvalidArgument, ErrClosed.
func (c *Cache[V]) Lease(key string) (*Lease, error) {
	defer runtime.KeepAlive(c)
	return leaseOf(key, C.us_lease(c.c(), bytesOf(key), C.size_t(len(key))))
}

func leaseOf(key string, made C.us_handle) (*Lease, error) {
	if err := check(made.result); err != nil {
		return nil, err
	}
	lease := &Lease{handle: uintptr(made.handle), key: key}
	lease.undo = runtime.AddCleanup(lease, func(handle uintptr) { C.us_lease_free(C.uintptr_t(handle)) }, lease.handle)
	return lease, nil
}

// Key is the key that it is for.
func (l *Lease) Key() string { return l.key }

// Release gives the lease back, used or not. It cannot be used any more. Releasing it again does nothing.
func (l *Lease) Release() {
	if l != nil && l.handle != 0 {
		l.undo.Stop()
		// The number stays, so that a use after this is noticed; C ignores a second release.
		C.us_lease_free(C.uintptr_t(l.handle))
		runtime.KeepAlive(l)
	}
}

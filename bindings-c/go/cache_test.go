package unstale_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

func is(err, want error) bool { return errors.Is(err, want) }

func TestWhatIsSetIsReadBackUntilItIsRemoved(t *testing.T) {
	cache := fresh(t)
	misses(t, cache, "k")
	set(t, cache, "k", "one")
	holds(t, cache, "k", "one")
	set(t, cache, "k", "two")
	set(t, cache, "ключ:日本 🦀", "")
	set(t, cache, strings.Repeat("k", 1024), "long")
	holds(t, cache, "k", "two")
	holds(t, cache, "ключ:日本 🦀", "")
	holds(t, cache, strings.Repeat("k", 1024), "long")
	if n := cache.Len(); n != 3 {
		t.Errorf("Len() = %d", n)
	}
	if ok, err := cache.Contains("k"); !ok || err != nil {
		t.Error(ok, err)
	}
	if held, err := cache.Evict("k"); !held || err != nil {
		t.Error(held, err)
	}
	if held, err := cache.Evict("k"); held || err != nil {
		t.Error(held, err)
	}
	if ok, err := cache.Contains("k"); ok || err != nil {
		t.Error(ok, err)
	}
	if err := cache.ClearLocal(); err != nil {
		t.Error(err)
	}
	misses(t, cache, "k", "ключ:日本 🦀")
	if cache.Namespace() != "test" {
		t.Error(cache.Namespace())
	}
	s := stats(t, cache)
	if s.Hits != 4 || s.Misses != 3 || s.Sets != 4 {
		t.Errorf("%+v", s)
	}
}

type product struct {
	name  string
	price int
	tags  []string
}

func TestValuesAreLive(t *testing.T) {
	client := connect(t, unstale.Config{URL: memory(t)})
	pointers := open[*product](t, client, "pointers", unstale.CacheConfig{})
	lamp := &product{"lamp", 999, nil}
	set(t, pointers, "lamp", lamp)
	if got, ok := pointers.Get("lamp"); !ok || got != lamp {
		t.Errorf("%p, %v; want the very pointer %p", got, ok, lamp)
	}
	set(t, pointers, "nothing", nil)
	if got, ok := pointers.Get("nothing"); !ok || got != nil {
		t.Error("a nil pointer is a value like others", got, ok)
	}
	structs := open[product](t, client, "structs", unstale.CacheConfig{})
	set(t, structs, "lamp", product{"lamp", 999, []string{"red"}})
	if got, ok := structs.Get("lamp"); !ok || got.name != "lamp" || got.tags[0] != "red" {
		t.Error(got, ok)
	}
	functions := open[func() int](t, client, "functions", unstale.CacheConfig{})
	set(t, functions, "f", func() int { return 7 })
	if f, ok := functions.Get("f"); !ok || f() != 7 {
		t.Error(ok)
	}
	anything := open[any](t, client, "anything", unstale.CacheConfig{})
	set[any](t, anything, "int", 7)
	set[any](t, anything, "nil", nil)
	holds[any](t, anything, "int", 7)
	holds[any](t, anything, "nil", nil)
	empty := open[struct{}](t, client, "empty", unstale.CacheConfig{})
	set(t, empty, "k", struct{}{})
	holds(t, empty, "k", struct{}{})
	big := open[[4096]byte](t, client, "big", unstale.CacheConfig{})
	set(t, big, "k", [4096]byte{4095: 1})
	if got, ok := big.Get("k"); !ok || got[4095] != 1 {
		t.Error(ok)
	}
}

func TestOptionsOfSetAreHeeded(t *testing.T) {
	cache := fresh(t)
	set(t, cache, "short", "v", unstale.WithTTL(20*time.Millisecond))
	eventually(t, "a TTL ends", func() bool { _, ok := cache.Get("short"); return !ok })
	set(t, cache, "shortest", "v", unstale.WithTTL(1))
	eventually(t, "a TTL of a nanosecond ends, rounded up", func() bool { _, ok := cache.Get("shortest"); return !ok })

	set(t, cache, "tagged", "v", unstale.WithTags("red", "round"), unstale.WithTags("shiny"))
	set(t, cache, "dependent", "v", unstale.WithDependsOn("parent"))
	set(t, cache, "other", "v", unstale.WithTags("blue"))
	must[*unstale.Receipt](t)(cache.InvalidateTags("unheard of", "shiny"))
	misses(t, cache, "tagged")
	must[*unstale.Receipt](t)(cache.Invalidate("parent"))
	misses(t, cache, "dependent")
	holds(t, cache, "other", "v")

	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("tag %d", i)
	}
	set(t, cache, "many", "v", unstale.WithTags(many...), unstale.WithDependsOn(many...))
	must[*unstale.Receipt](t)(cache.InvalidateTags("tag 999"))
	misses(t, cache, "many")

	set(t, cache, "versioned", "v7", unstale.WithVersion(7))
	must[*unstale.Receipt](t)(cache.InvalidateVersion("versioned", 7))
	holds(t, cache, "versioned", "v7")
	must[*unstale.Receipt](t)(cache.InvalidateVersion("versioned", 8))
	misses(t, cache, "versioned")
	if stored, err := cache.Set("versioned", "v7", unstale.WithVersion(7)); stored || err != nil {
		t.Error("a lower version than the one invalidated was stored", stored, err)
	}
	set(t, cache, "versioned", "v8", unstale.WithVersion(8))
}

func TestCacheOptionsAreHeeded(t *testing.T) {
	client := connect(t, unstale.Config{URL: memory(t)})
	none := 0.0
	cache := open[int](t, client, "small", unstale.CacheConfig{
		TTL: 20 * time.Millisecond, TTLJitter: &none, MaxEntries: 10, NegativeTTL: time.Minute, LoadTimeout: time.Minute,
	})
	for i := range 100 {
		set(t, cache, fmt.Sprint(i), i, unstale.WithTTL(time.Hour))
	}
	if n := cache.Len(); n > 10 {
		t.Errorf("%d entries where 10 were allowed", n)
	}
	set(t, cache, "brief", 1)
	eventually(t, "the cache's TTL ends", func() bool { _, ok := cache.Get("brief"); return !ok })
	raw := open[int](t, client, "raw", unstale.CacheConfig{Options: map[string]any{"ttl": "10ms", "max_entries": 10, "negative_ttl": time.Second}})
	set(t, raw, "brief", 1)
	eventually(t, "a TTL given as text ends", func() bool { _, ok := raw.Get("brief"); return !ok })
}

func TestALeaseStoresWhatWasReadUnderIt(t *testing.T) {
	cache := fresh(t)
	lease := must[*unstale.Lease](t)(cache.Lease("k"))
	if lease.Key() != "k" {
		t.Error(lease.Key())
	}
	set(t, cache, "k", "one", unstale.WithLease(lease))
	holds(t, cache, "k", "one")
	if stored, err := cache.Set("k", "again", unstale.WithLease(lease)); stored || err != nil {
		t.Error("a lease was used twice", stored, err)
	}
	late := must[*unstale.Lease](t)(cache.Lease("k"))
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	if stored, err := cache.Set("k", "old", unstale.WithLease(late)); stored || err != nil {
		t.Error("what was read before the invalidation was stored after it", stored, err)
	}
	misses(t, cache, "k")
	tagged := must[*unstale.Lease](t)(cache.Lease("k"))
	must[*unstale.Receipt](t)(cache.InvalidateTags("red"))
	if stored, err := cache.Set("k", "old", unstale.WithLease(tagged), unstale.WithTags("red")); stored || err != nil {
		t.Error("the tag was invalidated under the lease", stored, err)
	}

	other := must[*unstale.Lease](t)(cache.Lease("other"))
	_, err := cache.Set("k", "v", unstale.WithLease(other))
	isError(t, err, unstale.ErrInvalidArgument, "lease")
	open := stats(t, cache).OpenLoads
	other.Release()
	other.Release()
	if now := stats(t, cache).OpenLoads; now != open-1 {
		t.Errorf("%d open leases after a release, %d before", now, open)
	}
	_, err = cache.Set("other", "v", unstale.WithLease(other))
	isError(t, err, unstale.ErrInvalidArgument, "lease")
	_, err = cache.Set("k", "v", unstale.WithLease(nil))
	isError(t, err, unstale.ErrInvalidArgument, "nil")
	(*unstale.Lease)(nil).Release()
}

func TestUpdateNeedsALeaseOrAVersion(t *testing.T) {
	cache := fresh(t)
	_, err := cache.Update("k", "v")
	isError(t, err, unstale.ErrInvalidArgument, "lease")

	lease := must[*unstale.Lease](t)(cache.Lease("k"))
	receipt := must[*unstale.Receipt](t)(cache.Update("k", "new", unstale.WithLease(lease)))
	if !receipt.Stored() || !receipt.Delivered(background(t)) {
		t.Error(receipt.Stored())
	}
	holds(t, cache, "k", "new")

	lease = must[*unstale.Lease](t)(cache.Lease("k"))
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	receipt = must[*unstale.Receipt](t)(cache.Update("k", "fenced", unstale.WithLease(lease)))
	if receipt.Stored() || receipt.Token() == "" {
		t.Error("a fenced update is an invalidation only")
	}
	misses(t, cache, "k")

	receipt = must[*unstale.Receipt](t)(cache.Update("v", "2", unstale.WithVersion(2), unstale.WithTags("t")))
	if !receipt.Stored() {
		t.Error("a first version was refused")
	}
	receipt = must[*unstale.Receipt](t)(cache.Update("v", "1", unstale.WithVersion(1)))
	if receipt.Stored() {
		t.Error("a lower version was stored")
	}
	holds(t, cache, "v", "2")
}

// The C library frees values on its own threads while readers look them up; a reader must get a value of its key, or a
// miss that is true.
func TestReadersNeverSeeAnotherKeysValueNorAFalseMiss(t *testing.T) {
	client := connect(t, unstale.Config{URL: memory(t)})
	cache := open[[2]int](t, client, "hammer", unstale.CacheConfig{})
	const keys = 8
	name := func(k int) string { return fmt.Sprintf("key %d", k) }
	for k := range keys {
		set(t, cache, name(k), [2]int{k, 0})
	}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for range 4 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for k := range keys {
					if _, err := cache.Set(name(k), [2]int{k, i}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
	}
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := range 20_000 {
				k := i % keys
				if got, ok := cache.Get(name(k)); !ok || got[0] != k {
					t.Errorf("Get(%q) = %v, %v while it was only ever replaced", name(k), got, ok)
					return
				}
			}
		}()
	}
	readers.Wait()
	close(stop)
	writers.Wait()
}

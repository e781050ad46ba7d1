package unstale

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cgo is not possible in tests, so what C frees is freed here by way of values that a cache drops.
func tableCache[V any](t *testing.T, config CacheConfig) *Cache[V] {
	t.Helper()
	client, err := Connect(t.Context(), Config{URL: "memory://" + t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	cache, err := OpenCache[V](client, "table", config)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func usedSlots() (used uint32) {
	for i := range table {
		table[i].mu.Lock()
		used += table[i].used
		table[i].mu.Unlock()
	}
	return used
}

func TestPlacesAreDistinctAndWithinTheirSegments(t *testing.T) {
	last := [2]uint32{0, ^uint32(0)}
	for slot := range uint32(firstSegment * 20) {
		k, offset := place(slot)
		if offset >= firstSegment<<k {
			t.Fatalf("slot %d at %d of segment %d", slot, offset, k)
		}
		if next := (offset == last[1]+1 && k == last[0]) || (offset == 0 && k == last[0]+1); !next && slot > 0 {
			t.Fatalf("slot %d does not follow its predecessor: %d at %d", slot, k, offset)
		}
		last = [2]uint32{k, offset}
	}
	if k, offset := place(1<<29 - 1); k != 19 || offset >= firstSegment<<19 {
		t.Errorf("the last slot that a number has room for is at %d of segment %d", offset, k)
	}
}

func TestAFreedNumberIsAMissForGood(t *testing.T) {
	cache := tableCache[string](t, CacheConfig{})
	held := func(key string) uint64 {
		number := cache.peek(key)
		if number == 0 {
			t.Fatal("not held")
		}
		return number
	}
	if _, err := cache.Set("k", "one"); err != nil {
		t.Fatal(err)
	}
	first := held("k")
	if b, ok := lookup[string](first); !ok || b.value != "one" {
		t.Fatal(ok)
	}
	seen := map[uint64]bool{first: true}
	for i := range 10_000 {
		if _, err := cache.Set("k", "another"); err != nil {
			t.Fatal(err)
		}
		if number := held("k"); seen[number] {
			t.Fatalf("number %#x was given twice, the second time in round %d", number, i)
		} else {
			seen[number] = true
		}
	}
	if _, ok := lookup[string](first); ok {
		t.Error("a freed number is found, though its slot must have been used again")
	}
	if _, ok := lookup[string](1 << 63); ok {
		t.Error("a number that was never given is found")
	}
}

func TestSlotsAreUsedAgain(t *testing.T) {
	cache := tableCache[int](t, CacheConfig{MaxEntries: 100})
	for i := range 1_000 {
		if _, err := cache.Set("k", i); err != nil {
			t.Fatal(err)
		}
	}
	before := usedSlots()
	for i := range 100_000 {
		if _, err := cache.Set("k", i); err != nil {
			t.Fatal(err)
		}
	}
	if grown := usedSlots() - before; grown > 64 {
		t.Errorf("100,000 replacements of one entry took %d new slots", grown)
	}
}

// What is refused, fails, is evicted, expires or is invalidated must not stay in memory.
func TestValuesAreCollectedWhenTheCacheDropsThem(t *testing.T) {
	cache := tableCache[*[1024]byte](t, CacheConfig{MaxEntries: 50})
	var collected atomic.Int64
	made := 0
	value := func() *[1024]byte {
		v := new([1024]byte)
		runtime.SetFinalizer(v, func(*[1024]byte) { collected.Add(1) })
		made++
		return v
	}
	key := []string{"a", "b", "c", "d"}
	for i := range 1000 { // replaced and evicted
		if _, err := cache.Set(key[i%4]+string(rune('0'+i%10)), value()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cache.Set("", value()); err == nil { // an error
		t.Fatal("no error")
	}
	lease, err := cache.Lease("k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Invalidate("k"); err != nil {
		t.Fatal(err)
	}
	if stored, err := cache.Set("k", value(), WithLease(lease)); stored || err != nil { // refused
		t.Fatal(stored, err)
	}
	if _, err := cache.InvalidateAll(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); collected.Load() < int64(made); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d values were collected", collected.Load(), made)
		}
		runtime.GC()
	}
}

func TestTheTableWithstandsManyAtOnce(t *testing.T) {
	cache := tableCache[[2]uint64](t, CacheConfig{MaxEntries: 64})
	keys := make([]string, 256) // more than there is room for, so that entries are evicted all the time
	for i := range keys {
		keys[i] = string(rune('A'+i%26)) + string(rune('a'+i/26))
	}
	var work sync.WaitGroup
	for range 8 {
		work.Add(1)
		go func() {
			defer work.Done()
			for i := range uint64(20_000) {
				k := i * 7919 % uint64(len(keys))
				if got, ok := cache.Get(keys[k]); ok && got[0] != k {
					t.Errorf("%s is %v", keys[k], got)
					return
				}
				if _, err := cache.Set(keys[k], [2]uint64{k, i}); err != nil {
					t.Error(err)
				}
				if i%1000 == 0 {
					sweepTable()
				}
				if i%333 == 0 {
					if _, err := cache.InvalidateAll(); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	work.Wait()
}

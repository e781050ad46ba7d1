package unstale_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

func openBench(b *testing.B) (*unstale.Cache[int], []string) {
	client, err := unstale.Connect(context.Background(), unstale.Config{URL: "memory://" + b.Name()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	cache, err := unstale.OpenCache[int](client, "bench", unstale.CacheConfig{MaxEntries: 20_000})
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%d", i)
		if _, err := cache.Set(keys[i], i); err != nil {
			b.Fatal(err)
		}
	}
	return cache, keys
}

func BenchmarkGet(b *testing.B) {
	cache, keys := openBench(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if v, ok := cache.Get(keys[i]); !ok || v != i {
			b.Fatal(keys[i], v, ok)
		}
		if i++; i == len(keys) {
			i = 0
		}
	}
}

func BenchmarkGetParallel(b *testing.B) {
	cache, keys := openBench(b)
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			if _, ok := cache.Get(keys[i%len(keys)]); !ok {
				b.Error(keys[i%len(keys)])
			}
		}
	})
}

func BenchmarkGetOrLoad(b *testing.B) {
	cache, keys := openBench(b)
	b.ReportAllocs()
	load := func(context.Context) (int, error) { return 0, nil }
	i := 0
	for b.Loop() {
		if v, err := cache.GetOrLoad(context.Background(), keys[i], load); err != nil || v != i {
			b.Fatal(keys[i], v, err)
		}
		if i++; i == len(keys) {
			i = 0
		}
	}
}

func BenchmarkSet(b *testing.B) {
	cache, keys := openBench(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := cache.Set(keys[i], i); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(keys) {
			i = 0
		}
	}
}

func BenchmarkInvalidate(b *testing.B) {
	cache, keys := openBench(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := cache.Invalidate(keys[i]); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(keys) {
			i = 0
		}
	}
}

// The peer: what a Go program would write itself, without expiry, eviction or invalidation.
func BenchmarkMapBehindRWMutex(b *testing.B) {
	var mu sync.RWMutex
	m := map[string]int{}
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%d", i)
		m[keys[i]] = i
	}
	i := 0
	for b.Loop() {
		mu.RLock()
		v, ok := m[keys[i]]
		mu.RUnlock()
		if !ok || v != i {
			b.Fatal(keys[i], v, ok)
		}
		if i++; i == len(keys) {
			i = 0
		}
	}
}

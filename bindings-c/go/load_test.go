package unstale_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// constant is a loader.
func constant[V any](value V) func(context.Context) (V, error) {
	return func(context.Context) (V, error) { return value, nil }
}

func failing[V any](err error) func(context.Context) (V, error) {
	return func(context.Context) (none V, _ error) { return none, err }
}

// never is a loader that must not be called.
func never[V any](t testing.TB) func(context.Context) (V, error) {
	return func(context.Context) (none V, _ error) {
		t.Error("the loader was called")
		return none, nil
	}
}

// slow is a load in the background that a test holds open.
type slow[V any] struct {
	started chan struct{}
	finish  chan result[V]
	done    chan result[V]
}

type result[V any] struct {
	value V
	err   error
}

func startLoad[V any](t testing.TB, ctx context.Context, cache *unstale.Cache[V], key string, opts ...unstale.SetOption) *slow[V] {
	t.Helper()
	s := &slow[V]{make(chan struct{}), make(chan result[V]), make(chan result[V], 1)}
	go func() {
		value, err := cache.GetOrLoad(ctx, key, func(context.Context) (V, error) {
			close(s.started)
			r := <-s.finish
			return r.value, r.err
		}, opts...)
		s.done <- result[V]{value, err}
	}()
	receive(t, s.started)
	return s
}

// joinLoad waits for a load that runs; it returns when it is known to wait.
func joinLoad[V any](t testing.TB, ctx context.Context, cache *unstale.Cache[V], key string) <-chan result[V] {
	t.Helper()
	joins := stats(t, cache).Joins
	done := make(chan result[V], 1)
	go func() {
		value, err := cache.GetOrLoad(ctx, key, never[V](t))
		done <- result[V]{value, err}
	}()
	eventually(t, "a caller joins", func() bool { return stats(t, cache).Joins > joins })
	return done
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestAMissLoadsAndAHitDoesNot(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	if v, err := cache.GetOrLoad(ctx, "k", constant("one")); v != "one" || err != nil {
		t.Error(v, err)
	}
	if v, err := cache.GetOrLoad(ctx, "k", never[string](t)); v != "one" || err != nil {
		t.Error(v, err)
	}
	holds(t, cache, "k", "one")
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	if v, err := cache.GetOrLoad(ctx, "k", constant("two"), unstale.WithTags("t"), unstale.WithTTL(time.Hour)); v != "two" || err != nil {
		t.Error(v, err)
	}
	if v, err := cache.GetOrLoad(ctx, "k", never[string](t), unstale.WithTags("t")); v != "two" || err != nil {
		t.Error(v, err)
	}
	must[*unstale.Receipt](t)(cache.InvalidateTags("t"))
	misses(t, cache, "k")
	s := stats(t, cache)
	if s.Loads != 2 || s.LoadFailures != 0 || s.Hits != 3 || s.Misses != 3 {
		t.Errorf("%+v", s)
	}
}

func TestNotFoundIsRememberedOnlyWithNegativeTTL(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	forgets := open[string](t, client, "forgets", unstale.CacheConfig{})
	for range 2 {
		_, err := forgets.GetOrLoad(ctx, "k", failing[string](unstale.ErrNotFound))
		isError(t, err, unstale.ErrNotFound, "not found")
	}
	if n := stats(t, forgets).Loads; n != 2 {
		t.Errorf("%d loads", n)
	}
	remembers := open[string](t, client, "remembers", unstale.CacheConfig{NegativeTTL: time.Hour})
	wrapped := fmt.Errorf("no row for k: %w", unstale.ErrNotFound)
	if _, err := remembers.GetOrLoad(ctx, "k", failing[string](wrapped)); err != wrapped {
		t.Error("the loader's own error was changed", err)
	}
	_, err := remembers.GetOrLoad(ctx, "k", never[string](t))
	isError(t, err, unstale.ErrNotFound, "")
	misses(t, remembers, "k")
	must[*unstale.Receipt](t)(remembers.Invalidate("k"))
	if v, err := remembers.GetOrLoad(ctx, "k", constant("created")); v != "created" || err != nil {
		t.Error(v, err)
	}
}

func TestALoadersOwnErrorReachesEveryoneWhoWaitedUnchanged(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	boom := errors.New("the database said no")
	load := startLoad(t, ctx, cache, "k")
	joined := []<-chan result[string]{joinLoad(t, ctx, cache, "k"), joinLoad(t, ctx, cache, "k")}
	load.finish <- result[string]{"ignored", boom}
	for _, done := range append(joined, load.done) {
		if r := receive(t, done); r.err != boom {
			t.Errorf("%v; want the very error", r.err)
		}
	}
	misses(t, cache, "k")
	if v, err := cache.GetOrLoad(ctx, "k", constant("v")); v != "v" || err != nil {
		t.Error("a failure was remembered", v, err)
	}
}

func TestConcurrentLoadsOfAKeyBecomeOne(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	cache := open[*product](t, client, "flight", unstale.CacheConfig{})
	load := startLoad(t, ctx, cache, "k")
	a, b := joinLoad(t, ctx, cache, "k"), joinLoad(t, ctx, cache, "k")
	lamp := &product{name: "lamp"}
	load.finish <- result[*product]{lamp, nil}
	for _, done := range []<-chan result[*product]{a, b, load.done} {
		if r := receive(t, done); r.value != lamp || r.err != nil {
			t.Error(r)
		}
	}
	holds(t, cache, "k", lamp)

	load = startLoad(t, ctx, cache, "missing")
	joined := joinLoad(t, ctx, cache, "missing")
	load.finish <- result[*product]{nil, unstale.ErrNotFound}
	for _, done := range []<-chan result[*product]{joined, load.done} {
		if r := receive(t, done); r.err != unstale.ErrNotFound {
			t.Error(r)
		}
	}
}

func TestThousandsMayWaitWithoutAThreadEach(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	load := startLoad(t, ctx, cache, "k")
	const callers = 12_000 // Go ends a process with 10,000 threads
	var got sync.WaitGroup
	for range callers {
		got.Add(1)
		go func() {
			defer got.Done()
			if v, err := cache.GetOrLoad(ctx, "k", never[string](t)); v != "v" || err != nil {
				t.Error(v, err)
			}
		}()
	}
	eventually(t, "all join", func() bool { return stats(t, cache).Joins == callers })
	load.finish <- result[string]{"v", nil}
	receive(t, load.done)
	got.Wait()
}

func TestAnInvalidationDuringALoadRefusesItsValue(t *testing.T) {
	invalidations := map[string]func(*unstale.Cache[string]) error{
		"key":     func(c *unstale.Cache[string]) error { _, err := c.Invalidate("user:1"); return err },
		"version": func(c *unstale.Cache[string]) error { _, err := c.InvalidateVersion("user:1", 1); return err },
		"many": func(c *unstale.Cache[string]) error {
			_, err := c.InvalidateMany(unstale.Keys("x", "user:1"))
			return err
		},
		"tag":        func(c *unstale.Cache[string]) error { _, err := c.InvalidateTags("tag"); return err },
		"dependency": func(c *unstale.Cache[string]) error { _, err := c.Invalidate("parent"); return err },
		"prefix":     func(c *unstale.Cache[string]) error { _, err := c.InvalidatePrefix("user:"); return err },
		"all":        func(c *unstale.Cache[string]) error { _, err := c.InvalidateAll(); return err },
		"evict":      func(c *unstale.Cache[string]) error { _, err := c.Evict("user:1"); return err },
		"clear":      func(c *unstale.Cache[string]) error { return c.ClearLocal() },
	}
	for name, invalidate := range invalidations {
		t.Run(name, func(t *testing.T) {
			cache, ctx := fresh(t), background(t)
			load := startLoad(t, ctx, cache, "user:1", unstale.WithTags("tag"), unstale.WithDependsOn("parent"))
			joined := joinLoad(t, ctx, cache, "user:1")
			if err := invalidate(cache); err != nil {
				t.Fatal(err)
			}
			// Who asks after the invalidation starts a load of its own, and the old one's end does not undo it.
			newer := startLoad(t, ctx, cache, "user:1")
			newer.finish <- result[string]{"new", nil}
			if r := receive(t, newer.done); r.value != "new" || r.err != nil {
				t.Error(r)
			}
			load.finish <- result[string]{"old", nil}
			for _, done := range []<-chan result[string]{joined, load.done} {
				if r := receive(t, done); r.value != "old" || r.err != nil {
					t.Error("those who waited get the value", r)
				}
			}
			holds(t, cache, "user:1", "new")
			if n := stats(t, cache).Fenced; n != 1 {
				t.Errorf("%d fenced", n)
			}
		})
	}
}

func TestAnotherKeysInvalidationCostsALoadNothing(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	load := startLoad(t, ctx, cache, "k", unstale.WithTags("mine"))
	must[*unstale.Receipt](t)(cache.InvalidateMany(unstale.Keys("other", "kk")))
	must[*unstale.Receipt](t)(cache.InvalidateTags("yours"))
	must[*unstale.Receipt](t)(cache.InvalidatePrefix("other:"))
	load.finish <- result[string]{"v", nil}
	receive(t, load.done)
	holds(t, cache, "k", "v")
}

func TestAWaitingCallerLeavesWithItsContextAndOthersStay(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	load := startLoad(t, ctx, cache, "k")
	stays := joinLoad(t, ctx, cache, "k")
	impatient, cancel := context.WithCancel(ctx)
	leaves := joinLoad(t, impatient, cache, "k")
	cancel()
	if r := receive(t, leaves); r.err != context.Canceled {
		t.Error(r)
	}
	brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if r := receive(t, joinLoad(t, brief, cache, "k")); r.err != context.DeadlineExceeded {
		t.Error(r)
	}
	load.finish <- result[string]{"v", nil}
	if r := receive(t, stays); r.value != "v" || r.err != nil {
		t.Error(r)
	}
	receive(t, load.done)
}

func TestALeaderWhoseContextEndsHandsOver(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	leaderContext, cancel := context.WithCancel(ctx)
	started, leader := make(chan struct{}), make(chan result[string], 1)
	go func() {
		value, err := cache.GetOrLoad(leaderContext, "k", func(ctx context.Context) (string, error) {
			close(started)
			<-ctx.Done()
			return "", fmt.Errorf("query: %w", ctx.Err())
		})
		leader <- result[string]{value, err}
	}()
	receive(t, started)
	joins := stats(t, cache).Joins
	heir := make(chan result[string], 1)
	go func() {
		value, err := cache.GetOrLoad(ctx, "k", constant("loaded by the heir"))
		heir <- result[string]{value, err}
	}()
	eventually(t, "a caller joins", func() bool { return stats(t, cache).Joins > joins })
	cancel()
	if r := receive(t, leader); !errors.Is(r.err, context.Canceled) || !strings.HasPrefix(r.err.Error(), "query: ") {
		t.Error("the leader gets its own error", r)
	}
	if r := receive(t, heir); r.value != "loaded by the heir" || r.err != nil {
		t.Error("another's cancellation reached a caller", r)
	}
	holds(t, cache, "k", "loaded by the heir")

	// A context that has ended already starts no load, but takes a hit.
	if _, err := cache.GetOrLoad(leaderContext, "another", never[string](t)); err != context.Canceled {
		t.Error(err)
	}
	if v, err := cache.GetOrLoad(leaderContext, "k", never[string](t)); v != "loaded by the heir" || err != nil {
		t.Error(v, err)
	}
}

func TestAPanicInALoaderGoesToItsCallerOnly(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			cache, ctx := fresh(t), background(t)
			started, finish, caught := make(chan struct{}), make(chan struct{}), make(chan any, 1)
			go func() {
				defer func() { caught <- recover() }()
				_, _ = cache.GetOrLoad(ctx, "k", func(context.Context) (string, error) {
					close(started)
					<-finish
					end()
					return "", nil
				})
			}()
			receive(t, started)
			heir := make(chan result[string], 1)
			go func() {
				value, err := cache.GetOrLoad(ctx, "k", constant("v"))
				heir <- result[string]{value, err}
			}()
			eventually(t, "a caller joins", func() bool { return stats(t, cache).Joins == 1 })
			close(finish)
			if reason := receive(t, caught); (name == "panic") != (reason == "boom") {
				t.Error(reason)
			}
			if r := receive(t, heir); r.value != "v" || r.err != nil {
				t.Error(r)
			}
			if n := stats(t, cache).OpenLoads; n != 0 {
				t.Errorf("%d loads left open", n)
			}
		})
	}
}

func TestALoaderThatAsksForItsOwnKeyIsTold(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	_, err := cache.GetOrLoad(ctx, "k", func(ctx context.Context) (string, error) {
		// By way of another key, as it happens.
		return cache.GetOrLoad(ctx, "between", func(ctx context.Context) (string, error) {
			return cache.GetOrLoad(ctx, "k", never[string](t))
		})
	})
	isError(t, err, unstale.ErrInvalidArgument, `"k"`)
	// Another key is fine.
	v, err := cache.GetOrLoad(ctx, "k", func(ctx context.Context) (string, error) {
		inner, err := cache.GetOrLoad(ctx, "inner", constant("inner"))
		return "with " + inner, err
	})
	if v != "with inner" || err != nil {
		t.Error(v, err)
	}
}

func TestALoadTimeoutEndsTheWaitForAnothersLoad(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	for name, config := range map[string]unstale.CacheConfig{
		"field":   {LoadTimeout: 20 * time.Millisecond},
		"options": {Options: map[string]any{"load_timeout": "20ms"}},
	} {
		cache := open[string](t, client, name, config)
		load := startLoad(t, ctx, cache, "k")
		_, err := cache.GetOrLoad(ctx, "k", never[string](t))
		isError(t, err, unstale.ErrTimeout, "LoadTimeout")
		load.finish <- result[string]{"v", nil}
		if r := receive(t, load.done); r.value != "v" || r.err != nil {
			t.Error("the leader has no such limit", r)
		}
	}
}

func TestCloseWakesThoseWhoWaitForALoad(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	cache := open[string](t, client, "closing", unstale.CacheConfig{})
	load := startLoad(t, ctx, cache, "k")
	joined := joinLoad(t, ctx, cache, "k")
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	isError(t, receive(t, joined).err, unstale.ErrClosed, "")
	load.finish <- result[string]{"v", nil}
	if r := receive(t, load.done); r.value != "v" || r.err != nil {
		t.Error("a load that was under way ends with its value", r)
	}
}

// The promise, within one process: after Invalidate has returned, nobody reads what was true before.
func TestNoValueLoadedBeforeItsInvalidationIsReadAfterIt(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	cache := open[int64](t, client, "race", unstale.CacheConfig{MaxEntries: 100})
	const keys = 4
	var source [keys]atomic.Int64
	name := func(k int) string { return fmt.Sprintf("key:%d", k) }
	stop := make(chan struct{})
	var work sync.WaitGroup
	run := func(count int, step func(i int)) {
		for range count {
			work.Add(1)
			go func() {
				defer work.Done()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						step(i)
					}
				}
			}()
		}
	}
	var reads atomic.Int64
	check := func(k int, before, got int64) {
		if got < before {
			t.Errorf("read version %d of %s after version %d was invalidated", got, name(k), before)
		}
		reads.Add(1)
	}
	var invalidated [keys]atomic.Int64 // the version that every read must have reached
	run(2, func(i int) {
		k := i % keys
		version := source[k].Add(1)
		var err error
		switch i % 5 {
		case 0:
			_, err = cache.InvalidateTags("tag:" + name(k))
		case 1:
			_, err = cache.InvalidatePrefix(name(k))
		case 2:
			_, err = cache.InvalidateMany(unstale.Keys(name(k)))
		default:
			_, err = cache.Invalidate(name(k))
		}
		if err != nil {
			t.Error(err)
		}
		for old := invalidated[k].Load(); old < version && !invalidated[k].CompareAndSwap(old, version); old = invalidated[k].Load() {
		}
	})
	load := func(k int) func(context.Context) (int64, error) {
		return func(context.Context) (int64, error) {
			version := source[k].Load()
			runtime.Gosched()
			return version, nil
		}
	}
	run(3, func(i int) {
		k := i % keys
		before := invalidated[k].Load()
		got, err := cache.GetOrLoad(ctx, name(k), load(k), unstale.WithTags("tag:"+name(k)))
		if err != nil {
			t.Error(err)
		}
		check(k, before, got)
	})
	run(1, func(i int) {
		k := i % keys
		lease, err := cache.Lease(name(k))
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := cache.Set(name(k), source[k].Load(), unstale.WithLease(lease), unstale.WithTags("tag:"+name(k))); err != nil {
			t.Error(err)
		}
		lease.Release()
	})
	run(2, func(i int) {
		k := i % keys
		before := invalidated[k].Load()
		if got, ok := cache.Get(name(k)); ok {
			check(k, before, got)
		}
	})
	time.Sleep(time.Second) // the length of the exercise; nothing waits for it
	close(stop)
	work.Wait()
	if reads.Load() == 0 {
		t.Error("nothing was read")
	}
}

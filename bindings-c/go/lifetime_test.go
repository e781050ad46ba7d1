package unstale_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// collects runs the garbage collector until something has happened.
func collects(t *testing.T, what string, happened func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		runtime.GC()
		return happened()
	})
}

func TestAForgottenClientIsDisconnected(t *testing.T) {
	b := mosquitto(t)
	func() {
		client, err := unstale.Connect(background(t), unstale.Config{URL: b.url(), ClientID: "forgotten"})
		if err != nil {
			t.Fatal(err)
		}
		cache := open[string](t, client, "forgotten", unstale.CacheConfig{})
		set(t, cache, "k", "v")
	}()
	collects(t, "mosquitto sees it go", func() bool { return strings.Contains(b.log.String(), "Client forgotten disconnected") })
}

func TestACacheKeepsItsClient(t *testing.T) {
	b := mosquitto(t)
	cache := func() *unstale.Cache[string] {
		client, err := unstale.Connect(background(t), unstale.Config{URL: b.url()})
		if err != nil {
			t.Fatal(err)
		}
		return open[string](t, client, "kept", unstale.CacheConfig{})
	}()
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run on a goroutine of their own
	}
	set(t, cache, "k", "v")
	if !must[*unstale.Receipt](t)(cache.Invalidate("k")).Delivered(background(t)) {
		t.Error("not delivered")
	}
}

func TestForgottenLeasesAndReceiptsAreReleased(t *testing.T) {
	cache := fresh(t)
	for range 100 {
		must[*unstale.Lease](t)(cache.Lease("k"))
		must[*unstale.Receipt](t)(cache.Invalidate("k"))
	}
	collects(t, "leases are given back", func() bool { return stats(t, cache).OpenLoads == 0 })
}

func TestWhatACancelledListenerRefersToIsCollected(t *testing.T) {
	cache := fresh(t)
	gone := make(chan struct{})
	func() {
		seen := new([1024]byte)
		runtime.SetFinalizer(seen, func(*[1024]byte) { close(gone) })
		cancel := must[func()](t)(cache.OnInvalidated(func(unstale.Invalidation) { seen[0]++ }))
		cancel()
	}()
	collects(t, "it is collected", func() bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	runtime.KeepAlive(cache)
}

package unstale_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// kept are the events that a listener saw.
type kept[T any] struct {
	mu   sync.Mutex
	seen []T
}

func (k *kept[T]) add(event T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, event)
}

func (k *kept[T]) all() []T {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.seen)
}

func TestOnInvalidatedTellsWhatFellAndWhoseItWas(t *testing.T) {
	b := mosquitto(t)
	here, there, us, _ := pair[string](t, b, unstale.CacheConfig{})
	var local, remote kept[unstale.Invalidation]
	must[func()](t)(here.OnInvalidated(func(e unstale.Invalidation) {
		if e.Origin == unstale.Local { // the two may still be greeting each other
			local.add(e)
		}
	}))
	cancel := must[func()](t)(there.OnInvalidated(func(e unstale.Invalidation) {
		if !slices.Contains(e.Keys, greeting) {
			remote.add(e)
		}
	}))

	// One by one, since what waits to be sent travels together.
	for _, invalidate := range []func() (*unstale.Receipt, error){
		func() (*unstale.Receipt, error) { return here.Invalidate(greeting) },
		func() (*unstale.Receipt, error) { return here.InvalidateMany(unstale.Keys("a", "b")) },
		func() (*unstale.Receipt, error) { return here.InvalidateTags("t") },
		func() (*unstale.Receipt, error) { return here.InvalidatePrefix("p:") },
		here.InvalidateAll,
	} {
		if !must[*unstale.Receipt](t)(invalidate()).Delivered(background(t)) {
			t.Fatal("not delivered")
		}
	}
	eventually(t, "the other hears of everything", func() bool {
		return slices.ContainsFunc(remote.all(), func(e unstale.Invalidation) bool { return e.All })
	})
	eventually(t, "the writer hears of its own", func() bool { return len(local.all()) == 5 })
	first := local.all()[1]
	if first.Namespace != "pair" || !slices.Equal(first.Keys, []string{"a", "b"}) || first.Tags == nil || len(first.Tags) != 0 ||
		first.Prefixes == nil || first.All || first.Origin != unstale.Local {
		t.Errorf("%+v", first)
	}
	var keys, tags, prefixes []string
	src := must[unstale.Status](t)(us.Status()).Src
	for _, e := range remote.all() {
		if e.Origin != unstale.Remote || e.Src != src || e.Seq == 0 {
			t.Errorf("%+v", e)
		}
		keys, tags, prefixes = append(keys, e.Keys...), append(tags, e.Tags...), append(prefixes, e.Prefixes...)
	}
	if !slices.Equal(keys, []string{"a", "b"}) || !slices.Equal(tags, []string{"t"}) || !slices.Equal(prefixes, []string{"p:"}) {
		t.Error(keys, tags, prefixes)
	}

	cancel()
	cancel()
	before := len(remote.all())
	var after kept[unstale.Invalidation]
	must[func()](t)(there.OnInvalidated(after.add))
	must[*unstale.Receipt](t)(here.Invalidate("k"))
	eventually(t, "a later listener hears of it", func() bool { return len(after.all()) == 1 })
	if n := len(remote.all()); n != before {
		t.Error("a cancelled listener was called")
	}
}

func TestAListenerMayUseTheCacheCancelItselfAndPanic(t *testing.T) {
	var log output
	if err := unstale.SetLogger(slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unstale.SetLogger(nil) })
	client := connect(t, unstale.Config{URL: memory(t)})
	cache := open[string](t, client, "events", unstale.CacheConfig{})
	var cancel func()
	ready, calls := make(chan struct{}), make(chan string, 10)
	cancel = must[func()](t)(cache.OnInvalidated(func(e unstale.Invalidation) {
		<-ready
		cancel()
		calls <- "once"
		if _, err := cache.Set("from a listener", "v"); err != nil {
			t.Error(err)
		}
		if v, err := cache.GetOrLoad(context.Background(), "loaded", constant("v")); v != "v" || err != nil {
			t.Error(v, err)
		}
		if _, err := cache.Invalidate("again"); err != nil {
			t.Error(err)
		}
		panic("in a listener")
	}))
	close(ready)
	var others kept[unstale.Invalidation]
	must[func()](t)(cache.OnInvalidated(others.add))
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	receive(t, calls)
	eventually(t, "the others go on", func() bool { return len(others.all()) == 2 })
	eventually(t, "the panic is logged", func() bool { return strings.Contains(log.String(), "in a listener") })
	holds(t, cache, "from a listener", "v")
	if len(calls) != 0 {
		t.Error("called after it was cancelled")
	}
}

func TestOnStatusTellsWhatBecomesOfTheConnection(t *testing.T) {
	b := mosquitto(t)
	client := connect(t, unstale.Config{URL: b.url()})
	var states kept[unstale.Status]
	cancel := must[func()](t)(client.OnStatus(states.add))
	defer cancel()
	b.stop()
	saw := func(state string) func() bool {
		return func() bool {
			return slices.ContainsFunc(states.all(), func(s unstale.Status) bool { return s.State == state })
		}
	}
	eventually(t, "degraded", saw("degraded"))
	b.start(t)
	eventually(t, "live", saw("live"))
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "closed", saw("closed"))
}

// A closed client's last event comes late, so a listener may close it.
func TestAListenerMayCloseTheClient(t *testing.T) {
	client := connect(t, unstale.Config{URL: memory(t)})
	cache := open[string](t, client, "events", unstale.CacheConfig{})
	closed := make(chan error, 1)
	must[func()](t)(cache.OnInvalidated(func(unstale.Invalidation) { closed <- client.Close() }))
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	_, err := cache.Invalidate("k")
	isError(t, err, unstale.ErrClosed, "")
}

func TestTheLogGoesToTheLoggerThatWasSet(t *testing.T) {
	var log output
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	if err := unstale.SetLogger(slog.New(slog.NewJSONHandler(&log, options))); err != nil {
		t.Fatal(err)
	}
	b := mosquitto(t)
	client := connect(t, unstale.Config{URL: b.url()})
	b.stop()
	eventually(t, "the loss is noticed", func() bool { return must[unstale.Status](t)(client.Status()).State == "degraded" })
	eventually(t, "the loss is logged", func() bool { return strings.Contains(log.String(), `"target":"unstale`) })
	if err := unstale.SetLogger(nil); err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(bytes.TrimSpace([]byte(log.String())), []byte("\n")) {
		var record struct{ Time, Level, Msg, Target string }
		if err := json.Unmarshal(line, &record); err != nil || record.Msg == "" || !strings.HasPrefix(record.Target, "unstale") {
			t.Errorf("%s: %v", line, err)
		}
	}
	// Nothing is logged any more.
	size := len(log.String())
	b.start(t)
	eventually(t, "live", func() bool { return must[unstale.Status](t)(client.Status()).State == "live" })
	if len(log.String()) != size {
		t.Error("logged after the logger was taken away")
	}
}

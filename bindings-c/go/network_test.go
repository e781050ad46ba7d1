package unstale_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

func ptr[T any](value T) *T { return &value }

func TestEveryInvalidationReachesTheOtherProcess(t *testing.T) {
	here, there, us, them := pair[string](t, mosquitto(t), unstale.CacheConfig{})
	ctx := background(t)

	// arrives waits until `there` has applied what was done here.
	arrives := func(receipt *unstale.Receipt, err error) *unstale.Receipt {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(receipt.Token(), "u1:us") || !strings.HasSuffix(receipt.Token(), ":pair") {
			t.Errorf("token %q", receipt.Token())
		}
		if ok, err := them.WaitFor(ctx, receipt.Token()); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := us.WaitFor(ctx, receipt.Token()); !ok || err != nil {
			t.Fatal("the writer itself has applied it at once", ok, err)
		}
		if !receipt.Delivered(ctx) {
			t.Error("applied elsewhere, but not delivered")
		}
		return receipt
	}
	fill := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			set(t, here, key, "old", unstale.WithTags("tag of "+key))
			set(t, there, key, "old", unstale.WithTags("tag of "+key))
		}
	}

	fill("k", "stays")
	if arrives(here.Invalidate("k")).Stored() {
		t.Error("an invalidation stores nothing")
	}
	misses(t, here, "k")
	misses(t, there, "k")
	holds(t, there, "stays", "old")

	fill("a", "b", "c")
	arrives(here.InvalidateMany([]unstale.KeyVersion{{Key: "a"}, {Key: "b", Version: ptr(uint64(3))}}))
	misses(t, there, "a", "b")
	holds(t, there, "c", "old")

	set(t, there, "v", "7", unstale.WithVersion(7))
	arrives(here.InvalidateVersion("v", 7))
	holds(t, there, "v", "7")
	arrives(here.InvalidateVersion("v", 8))
	misses(t, there, "v")
	if stored, err := there.Set("v", "7", unstale.WithVersion(7)); stored || err != nil {
		t.Error("a version older than the one invalidated elsewhere was stored", stored, err)
	}

	fill("a", "b")
	arrives(here.InvalidateTags("tag of a", "unheard of"))
	misses(t, there, "a")
	holds(t, there, "b", "old")

	fill("user:1", "user:2", "item:1")
	arrives(here.InvalidatePrefix("user:"))
	misses(t, there, "user:1", "user:2")
	holds(t, there, "item:1", "old")

	fill("k")
	lease := must[*unstale.Lease](t)(here.Lease("k"))
	if !arrives(here.Update("k", "new", unstale.WithLease(lease))).Stored() {
		t.Error("not stored")
	}
	misses(t, there, "k")
	holds(t, here, "k", "new")

	fill("a", "b")
	arrives(here.InvalidateAll())
	misses(t, there, "a", "b", "stays", "k")

	// Local things stay local.
	fill("a", "b")
	must[bool](t)(here.Evict("a"))
	if err := here.ClearLocal(); err != nil {
		t.Error(err)
	}
	set(t, here, "a", "other")
	arrives(here.Invalidate("barrier"))
	holds(t, there, "a", "old")
	holds(t, there, "b", "old")

	if s := stats(t, there); s.InvalidationsRemote == 0 || s.InvalidationsLocal == 0 || s.Doubts == nil {
		t.Errorf("%+v", s)
	}
}

func TestAStrangersMessagesAreHeeded(t *testing.T) {
	b := mosquitto(t)
	client := connect(t, unstale.Config{URL: b.url()})
	cache := open[string](t, client, "users", unstale.CacheConfig{})
	set(t, cache, "user:42", "v")
	set(t, cache, "tagged", "v", unstale.WithTags("red"))
	eventually(t, "a plain key falls", func() bool {
		b.publish(t, "cache/invalidate/users", "user:42") // again, until the subscription stands
		_, ok := cache.Get("user:42")
		return !ok
	})
	b.publish(t, "cache/invalidate/users", `{"v": 1, "tags": ["red"]}`)
	eventually(t, "a tag falls", func() bool { _, ok := cache.Get("tagged"); return !ok })
}

func TestAnInvalidationDuringALoadElsewhereRefusesTheValue(t *testing.T) {
	here, there, _, them := pair[string](t, mosquitto(t), unstale.CacheConfig{})
	ctx := background(t)
	load := startLoad(t, ctx, there, "k")
	receipt := must[*unstale.Receipt](t)(here.Invalidate("k"))
	if ok, err := them.WaitFor(ctx, receipt.Token()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	load.finish <- result[string]{"old", nil}
	receive(t, load.done)
	misses(t, there, "k")
}

func TestWaitForIsFalseAtItsDeadlineAndAnErrorWhenCancelled(t *testing.T) {
	here, _, _, them := pair[string](t, mosquitto(t), unstale.CacheConfig{})
	unknown := "u1:nobody:3:pair"
	brief, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if ok, err := them.WaitFor(brief, unknown); ok || err != nil {
		t.Error(ok, err)
	}
	// Waiting for what this client has no cache for is waiting for nothing, also with a context that has ended.
	if ok, err := them.WaitFor(brief, "u1:nobody:3:elsewhere"); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := them.WaitFor(brief, unknown); ok || err != nil {
		t.Error(ok, err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	type answer struct {
		ok  bool
		err error
	}
	done := make(chan answer)
	go func() {
		ok, err := them.WaitFor(cancelled, unknown)
		done <- answer{ok, err}
	}()
	time.AfterFunc(10*time.Millisecond, cancel)
	if a := receive(t, done); a.ok || a.err != context.Canceled {
		t.Error(a)
	}
	for _, bad := range []string{"", "nonsense", "u1:nobody", "u1:nobody:x:pair", "u1:nobody:3:pair\x00"} {
		_, err := them.WaitFor(context.Background(), bad)
		isError(t, err, unstale.ErrInvalidArgument, "token")
	}
	go func() {
		ok, err := them.WaitFor(context.Background(), unknown)
		done <- answer{ok, err}
	}()
	must[*unstale.Receipt](t)(here.Invalidate("k"))
	if err := them.Close(); err != nil {
		t.Error(err)
	}
	if a := receive(t, done); a.ok || !is(a.err, unstale.ErrClosed) {
		t.Error(a)
	}
}

// More waits than may be in C at a time: they take turns, and each comes to its end.
func TestManyMayWaitForTokens(t *testing.T) {
	here, _, _, them := pair[string](t, mosquitto(t), unstale.CacheConfig{})
	ctx := background(t)
	first := must[*unstale.Receipt](t)(here.Invalidate("k"))
	if !first.Delivered(ctx) {
		t.Fatal("not delivered")
	}
	// Each of the next three travels in a message of its own, since the one before has been delivered.
	var number int
	parts := strings.Split(first.Token(), ":")
	if _, err := fmt.Sscan(parts[2], &number); err != nil {
		t.Fatal(err)
	}
	const count = 500
	done := make(chan result[bool], count)
	for i := range count {
		go func() {
			ok, err := them.WaitFor(ctx, fmt.Sprintf("u1:%s:%d:%s", parts[1], number+1+i%3, parts[3]))
			done <- result[bool]{ok, err}
		}()
	}
	for range 3 {
		receipt := must[*unstale.Receipt](t)(here.Invalidate("k"))
		if !receipt.Delivered(ctx) {
			t.Error("not delivered")
		}
	}
	for range count {
		if r := receive(t, done); !r.value || r.err != nil {
			t.Fatal(r)
		}
	}
}

func TestWhatCouldNotBeSentIsSentWhenTheBrokerIsBack(t *testing.T) {
	b := mosquitto(t)
	here, there, us, them := pair[string](t, b, unstale.CacheConfig{})
	set(t, there, "k", "old")
	b.stop()
	eventually(t, "the loss is noticed", func() bool { return must[unstale.Status](t)(us.Status()).State == "degraded" })
	set(t, here, "mine", "v")
	receipt := must[*unstale.Receipt](t)(here.Invalidate("k"))
	holds(t, here, "mine", "v")
	brief, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if receipt.Delivered(brief) {
		t.Error("delivered to nobody")
	}
	b.start(t)
	if !receipt.Delivered(background(t)) {
		t.Error("never delivered")
	}
	// Even if the other came back too late to receive it: then it learns of it.
	if ok, err := them.WaitFor(background(t), receipt.Token()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	misses(t, there, "k")
}

func TestCloseTellsWhatWasLeftUnsent(t *testing.T) {
	b := mosquitto(t)
	us := connect(t, unstale.Config{URL: b.url()})
	cache := open[string](t, us, "closing", unstale.CacheConfig{})
	other := connect(t, unstale.Config{URL: b.url()})
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	b.stop()
	must[*unstale.Receipt](t)(cache.Invalidate("k"))
	if unsent, err := us.CloseTimeout(20 * time.Millisecond); unsent != 1 || err != nil {
		t.Error(unsent, err)
	}
	isError(t, us.Close(), unstale.ErrTimeout, "1 ")
}

func TestConnectSaysWhyItFailed(t *testing.T) {
	b := mosquitto(t)
	b.stop()
	ctx := background(t)
	_, err := unstale.Connect(ctx, unstale.Config{URL: b.url()})
	isError(t, err, unstale.ErrConnect, fmt.Sprint(b.port))

	lazy := connect(t, unstale.Config{URL: b.url(), Lazy: true})
	if s := must[unstale.Status](t)(lazy.Status()); s.State != "connecting" {
		t.Errorf("%+v", s)
	}
	b.start(t)
	eventually(t, "a lazy client connects by itself", func() bool { return must[unstale.Status](t)(lazy.Status()).State == "live" })

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := unstale.Connect(ended, unstale.Config{URL: b.url()}); err != context.Canceled {
		t.Error(err)
	}
}

// A broker that accepts connections and then says nothing.
func TestConnectIsCancelledByItsContext(t *testing.T) {
	silent := mustListen(t)
	ctx, cancel := context.WithTimeout(background(t), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := unstale.Connect(ctx, unstale.Config{URL: "mqtt://" + silent, ConnectTimeout: 20 * time.Second})
	if err != context.DeadlineExceeded || time.Since(began) > 10*time.Second {
		t.Error(err, time.Since(began))
	}
	_, err = unstale.Connect(background(t), unstale.Config{URL: "mqtt://" + silent, ConnectTimeout: 50 * time.Millisecond})
	isError(t, err, unstale.ErrTimeout, "")
}

func TestStatusSaysWhatTheConnectionIs(t *testing.T) {
	b := mosquitto(t)
	client := connect(t, unstale.Config{URL: b.url(), App: "catalogue", StalenessBound: 1500 * time.Millisecond})
	open[string](t, client, "ns", unstale.CacheConfig{})
	eventually(t, "live", func() bool { return must[unstale.Status](t)(client.Status()).State == "live" })
	s := must[unstale.Status](t)(client.Status())
	if s.Transport != "mqtt" || !strings.Contains(s.URL, fmt.Sprint(b.port)) || !strings.HasPrefix(s.Src, "catalogue") ||
		s.StalenessBound != 1500*time.Millisecond || s.Caches != 1 || s.Connects != 1 || s.Unsent != 0 || s.ClientID == "" {
		t.Errorf("%+v", s)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if s := must[unstale.Status](t)(client.Status()); s.State != "closed" {
		t.Errorf("%+v", s)
	}
}

package unstale_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

func TestABadKeyIsAnErrorEverywhereAndChangesNothing(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	set(t, cache, "k", "v")
	before := stats(t, cache)
	for name, bad := range map[string]string{
		"empty": "", "long": strings.Repeat("k", 1025), "long in bytes": strings.Repeat("ж", 513), "NUL": "nul\x00nul", "not UTF-8": "k\xff",
	} {
		t.Run(name, func(t *testing.T) {
			if v, ok := cache.Get(bad); ok {
				t.Error(v)
			}
			calls := map[string]func() error{
				"Contains":          func() error { _, err := cache.Contains(bad); return err },
				"Set":               func() error { _, err := cache.Set(bad, "v"); return err },
				"Set with options":  func() error { _, err := cache.Set(bad, "v", unstale.WithTags("t")); return err },
				"GetOrLoad":         func() error { _, err := cache.GetOrLoad(ctx, bad, never[string](t)); return err },
				"Lease":             func() error { _, err := cache.Lease(bad); return err },
				"Update":            func() error { _, err := cache.Update(bad, "v", unstale.WithVersion(1)); return err },
				"Invalidate":        func() error { _, err := cache.Invalidate(bad); return err },
				"InvalidateVersion": func() error { _, err := cache.InvalidateVersion(bad, 1); return err },
				"InvalidateMany":    func() error { _, err := cache.InvalidateMany(unstale.Keys("k", bad)); return err },
				"InvalidateTags":    func() error { _, err := cache.InvalidateTags("t", bad); return err },
				"InvalidatePrefix":  func() error { _, err := cache.InvalidatePrefix(bad); return err },
				"Evict":             func() error { _, err := cache.Evict(bad); return err },
				"WithTags":          func() error { _, err := cache.Set("k", "bad", unstale.WithTags("fine", bad)); return err },
				"WithDependsOn":     func() error { _, err := cache.Set("k", "bad", unstale.WithDependsOn(bad)); return err },
				"GetOrLoad tags": func() error {
					_, err := cache.GetOrLoad(ctx, "unheld", never[string](t), unstale.WithTags(bad))
					return err
				},
			}
			for call, run := range calls {
				if err := run(); !errors.Is(err, unstale.ErrInvalidArgument) {
					t.Errorf("%s: %v", call, err)
				}
			}
		})
	}
	holds(t, cache, "k", "v")
	after := stats(t, cache)
	if after.Sets != before.Sets || after.Loads != before.Loads || after.InvalidationsLocal != before.InvalidationsLocal ||
		after.Entries != before.Entries || after.OpenLoads != before.OpenLoads {
		t.Errorf("%+v, before %+v", after, before)
	}
}

func TestABadOptionIsAnErrorAndChangesNothing(t *testing.T) {
	cache, ctx := fresh(t), background(t)
	set(t, cache, "k", "v")
	other := must[*unstale.Lease](t)(cache.Lease("k"))
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	for about, option := range map[string]unstale.SetOption{
		"zero SetOption":                unstale.SetOption{},
		"longer than 0":                 unstale.WithTTL(0),
		"longer than 0 ":                unstale.WithTTL(-time.Second),
		"ten years":                     unstale.WithTTL(math.MaxInt64),
		"version":                       unstale.WithVersion(1 << 53),
		"1001 items":                    unstale.WithTags(many...),
		"1001 items; at most 1000 are ": unstale.WithDependsOn(many...),
		"nil":                           unstale.WithLease(nil),
		"is nil":                        unstale.WithLease(new(unstale.Lease)),
	} {
		_, err := cache.Set("k", "bad", option)
		isError(t, err, unstale.ErrInvalidArgument, strings.TrimSpace(about))
		_, err = cache.Update("k", "bad", option, unstale.WithVersion(1<<53))
		isError(t, err, unstale.ErrInvalidArgument, "")
		_, err = cache.GetOrLoad(ctx, "unheld", never[string](t), option)
		isError(t, err, unstale.ErrInvalidArgument, strings.TrimSpace(about))
	}
	_, err := cache.GetOrLoad(ctx, "k", never[string](t), unstale.WithLease(other))
	isError(t, err, unstale.ErrInvalidArgument, "lease")
	_, err = cache.InvalidateVersion("k", 1<<53)
	isError(t, err, unstale.ErrInvalidArgument, "version")
	for _, version := range []uint64{1 << 53, math.MaxUint64} {
		_, err = cache.InvalidateMany([]unstale.KeyVersion{{Key: "k", Version: &version}})
		isError(t, err, unstale.ErrInvalidArgument, "version")
	}
	holds(t, cache, "k", "v")

	// Nothing to invalidate is nothing wrong.
	for _, call := range []func() (*unstale.Receipt, error){
		func() (*unstale.Receipt, error) { return cache.InvalidateMany(nil) },
		func() (*unstale.Receipt, error) { return cache.InvalidateTags() },
	} {
		if !must[*unstale.Receipt](t)(call()).Delivered(ctx) {
			t.Error("nothing was not delivered")
		}
	}
}

func TestNilArgumentsAreErrors(t *testing.T) {
	client := connect(t, unstale.Config{URL: memory(t)})
	cache := open[string](t, client, "nil", unstale.CacheConfig{})
	var none context.Context
	_, err := unstale.Connect(none, unstale.Config{})
	isError(t, err, unstale.ErrInvalidArgument, "ctx")
	_, err = cache.GetOrLoad(none, "k", never[string](t))
	isError(t, err, unstale.ErrInvalidArgument, "ctx")
	_, err = cache.GetOrLoad(background(t), "k", nil)
	isError(t, err, unstale.ErrInvalidArgument, "load")
	_, err = client.WaitFor(none, "t")
	isError(t, err, unstale.ErrInvalidArgument, "ctx")
	_, err = cache.OnInvalidated(nil)
	isError(t, err, unstale.ErrInvalidArgument, "f is nil")
	_, err = client.OnStatus(nil)
	isError(t, err, unstale.ErrInvalidArgument, "f is nil")
	_, err = client.CloseTimeout(-1)
	isError(t, err, unstale.ErrInvalidArgument, "timeout")
	_, err = client.CloseTimeout(math.MaxInt64)
	isError(t, err, unstale.ErrInvalidArgument, "timeout")
	holdsAfter := must[bool](t)(cache.Set("k", "v"))
	if !holdsAfter {
		t.Error("the client was closed by a bad argument")
	}
}

// Zero and nil handles are not panics, and not a C crash.
func TestAHandleThatWasNeverOpenedIsAnError(t *testing.T) {
	ctx := background(t)
	for name, client := range map[string]*unstale.Client{"nil": nil, "zero": new(unstale.Client)} {
		for call, run := range map[string]func() error{
			"Close":     client.Close,
			"WaitFor":   func() error { _, err := client.WaitFor(ctx, "u1:x:1:n"); return err },
			"Status":    func() error { _, err := client.Status(); return err },
			"OnStatus":  func() error { _, err := client.OnStatus(func(unstale.Status) {}); return err },
			"OpenCache": func() error { _, err := unstale.OpenCache[int](client, "n", unstale.CacheConfig{}); return err },
		} {
			if err := run(); !errors.Is(err, unstale.ErrInvalidArgument) {
				t.Errorf("%s of a %s client: %v", call, name, err)
			}
		}
	}
	for name, cache := range map[string]*unstale.Cache[string]{"nil": nil, "zero": new(unstale.Cache[string])} {
		misses(t, cache, "k")
		if cache.Len() != 0 || cache.Namespace() != "" {
			t.Error(name)
		}
		for call, run := range map[string]func() error{
			"Set":              func() error { _, err := cache.Set("k", "v"); return err },
			"Set with options": func() error { _, err := cache.Set("k", "v", unstale.WithTags("t")); return err },
			"Contains":         func() error { _, err := cache.Contains("k"); return err },
			"GetOrLoad":        func() error { _, err := cache.GetOrLoad(ctx, "k", never[string](t)); return err },
			"Lease":            func() error { _, err := cache.Lease("k"); return err },
			"Update":           func() error { _, err := cache.Update("k", "v", unstale.WithVersion(1)); return err },
			"Invalidate":       func() error { _, err := cache.Invalidate("k"); return err },
			"InvalidateMany":   func() error { _, err := cache.InvalidateMany(unstale.Keys("k")); return err },
			"InvalidateTags":   func() error { _, err := cache.InvalidateTags("t"); return err },
			"InvalidatePrefix": func() error { _, err := cache.InvalidatePrefix("p"); return err },
			"InvalidateAll":    func() error { _, err := cache.InvalidateAll(); return err },
			"Evict":            func() error { _, err := cache.Evict("k"); return err },
			"ClearLocal":       cache.ClearLocal,
			"Stats":            func() error { _, err := cache.Stats(); return err },
			"OnInvalidated":    func() error { _, err := cache.OnInvalidated(func(unstale.Invalidation) {}); return err },
		} {
			if err := run(); !errors.Is(err, unstale.ErrInvalidArgument) {
				t.Errorf("%s of a %s cache: %v", call, name, err)
			}
		}
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	client, ctx := connect(t, unstale.Config{URL: memory(t)}), background(t)
	cache := open[string](t, client, "closing", unstale.CacheConfig{})
	set(t, cache, "k", "v")
	lease := must[*unstale.Lease](t)(cache.Lease("k"))
	receipt := must[*unstale.Receipt](t)(cache.Invalidate("x"))
	for range 2 {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	for call, run := range map[string]func() error{
		"Set":           func() error { _, err := cache.Set("k", "v"); return err },
		"Set by lease":  func() error { _, err := cache.Set("k", "v", unstale.WithLease(lease)); return err },
		"Contains":      func() error { _, err := cache.Contains("unheld"); return err },
		"GetOrLoad":     func() error { _, err := cache.GetOrLoad(ctx, "k", never[string](t)); return err },
		"Lease":         func() error { _, err := cache.Lease("k"); return err },
		"Update":        func() error { _, err := cache.Update("k", "v", unstale.WithVersion(1)); return err },
		"Invalidate":    func() error { _, err := cache.Invalidate("k"); return err },
		"InvalidateAll": func() error { _, err := cache.InvalidateAll(); return err },
		"Evict":         func() error { _, err := cache.Evict("k"); return err },
		"ClearLocal":    cache.ClearLocal,
		"WaitFor":       func() error { _, err := client.WaitFor(ctx, receipt.Token()); return err },
		"OpenCache":     func() error { _, err := unstale.OpenCache[int](client, "n", unstale.CacheConfig{}); return err },
	} {
		if err := run(); !errors.Is(err, unstale.ErrClosed) {
			t.Errorf("%s: %v", call, err)
		}
	}
	misses(t, cache, "k")
	lease.Release()
	if receipt.Token() == "" || !receipt.Delivered(ctx) {
		t.Error("what was delivered before the end stays delivered")
	}
	if s := stats(t, cache); s.Sets != 1 {
		t.Errorf("%+v", s)
	}
}

func TestConfigIsJudgedByTheCore(t *testing.T) {
	ctx, url := background(t), memory(t)
	client := connect(t, unstale.Config{URL: url})
	for about, config := range map[string]unstale.Config{
		"gopher":                     {URL: "gopher://127.0.0.1"},
		"`app`":                      {URL: url, App: "no spaces"},
		"`topic`":                    {URL: url, Topic: "a/#"},
		"`staleness_bound`":          {URL: url, StalenessBound: time.Millisecond},
		"staleness_bound":            {URL: url, StalenessBound: -time.Second},
		"`connect_timeout`":          {URL: url, ConnectTimeout: time.Hour},
		"`keep_alive`":               {URL: url, KeepAlive: time.Millisecond},
		"outbox_limit":               {URL: url, OutboxLimit: -1},
		"`outbox_dir`":               {URL: url, OutboxDir: "/dev/null"},
		"max_publish_rate":           {URL: url, MaxPublishRate: 1_000_001},
		"`tombstone_ttl`":            {URL: url, TombstoneTTL: 1},
		"`client_id`":                {URL: url, ClientID: "a$b"},
		"mqtt_version":               {URL: url, MQTTVersion: "6"},
		"`tls`":                      {URL: url, TLS: unstale.TLSConfig{CAFile: "ca.pem"}},
		"not UTF-8":                  {URL: url, Password: "\xff"},
		"`tls.ca_file` is not UTF-8": {URL: "mqtts://localhost", TLS: unstale.TLSConfig{CAFile: "\xff"}},
		"`tls.alpn` is not UTF-8":    {URL: "mqtts://localhost", TLS: unstale.TLSConfig{ALPN: []string{"mqtt", "\xff"}}},
		"stalenes_bound":             {URL: url, Options: map[string]any{"stalenes_bound": "5s"}},
		"`lazy` is given twice":      {URL: url, Lazy: true, Options: map[string]any{"lazy": false}},
		"`username` contradicts":     {URL: "mqtt://joe@localhost", Username: "ann"},
		"cannot be written as JSON":  {URL: url, Options: map[string]any{"lazy": func() {}}},
		"`signing_key`":              {URL: url, SigningKey: "x"},
		"`require_signatures`":       {URL: url, RequireSignatures: ptr(true)},
	} {
		_, err := unstale.Connect(ctx, config)
		isError(t, err, unstale.ErrConfig, about)
	}
	for about, config := range map[string]unstale.CacheConfig{
		"`ttl`":                         {TTL: 1},
		"ttl":                           {TTL: -time.Second},
		"ttl_jitter":                    {TTLJitter: ptr(1.5)},
		"max_entries":                   {MaxEntries: -1},
		"negative_ttl":                  {NegativeTTL: -1},
		"load_timeout":                  {LoadTimeout: -time.Millisecond},
		"max_entires":                   {Options: map[string]any{"max_entires": 5}},
		"5 parsecs":                     {Options: map[string]any{"ttl": "5 parsecs"}},
		"`ttl` is given twice":          {TTL: time.Second, Options: map[string]any{"ttl": "1s"}},
		"cannot be written as JSON":     {Options: map[string]any{"ttl_jitter": math.NaN()}},
		"not available in this version": {Options: map[string]any{"max_bytes": 1000}},
	} {
		_, err := unstale.OpenCache[int](client, "n", config)
		isError(t, err, unstale.ErrConfig, about)
	}
	for _, namespace := range []string{"bad/name", "_reserved", strings.Repeat("n", 65), "n\x00n", "n\xff"} {
		_, err := unstale.OpenCache[int](client, namespace, unstale.CacheConfig{})
		isError(t, err, unstale.ErrInvalidArgument, "n")
	}
	open[int](t, client, "n", unstale.CacheConfig{TTL: time.Minute, MaxEntries: 10})
	open[int](t, client, "", unstale.CacheConfig{})
	_, err := unstale.OpenCache[string](client, "n", unstale.CacheConfig{})
	isError(t, err, unstale.ErrInvalidArgument, "open already")
}

// Every field reaches the core under its name: a value that is fine is accepted, and is in force where that can be seen.
func TestEveryOptionReachesTheCore(t *testing.T) {
	b := mosquitto(t)
	client := connect(t, unstale.Config{
		URL: b.url(), App: "app", Topic: "own/topic", StalenessBound: 2 * time.Second, ConnectTimeout: 1500 * time.Microsecond * 1000,
		Lazy: true, KeepAlive: 5 * time.Second, OutboxLimit: 10, OutboxDir: t.TempDir(), MaxPublishRate: 1000, Reordering: true,
		TombstoneTTL: time.Minute, ClientID: "id-of-mine", MQTTVersion: "3.1.1", Username: "joe", Password: "secret",
		SigningKey: "k:" + strings.Repeat("5e", 32), RequireSignatures: ptr(false),
	})
	s := must[unstale.Status](t)(client.Status())
	if s.StalenessBound != 2*time.Second || s.ClientID != "id-of-mine" {
		t.Errorf("%+v", s)
	}
	eventually(t, "live", func() bool { return must[unstale.Status](t)(client.Status()).State == "live" })
	if strings.Contains(must[unstale.Status](t)(client.Status()).URL, "secret") {
		t.Error("a secret is in the status")
	}
	cache := open[string](t, client, "ns", unstale.CacheConfig{})
	set(t, cache, "k", "v")
	eventually(t, "its own topic is heard", func() bool {
		b.publish(t, "own/topic/ns", "k")
		_, ok := cache.Get("k")
		return !ok
	})

	// TLS: a file that is not there is looked for.
	for _, tls := range []unstale.TLSConfig{{CAFile: "/nowhere.pem"}, {CertFile: "/nowhere.pem", KeyFile: "/nowhere.key", ALPN: []string{"mqtt"}}} {
		_, err := unstale.Connect(background(t), unstale.Config{URL: "mqtts://127.0.0.1:1", TLS: tls})
		if !errors.Is(err, unstale.ErrTLS) && !errors.Is(err, unstale.ErrConfig) {
			t.Error(err)
		}
		isError(t, err, err, "/nowhere")
	}
}

func TestTheEnvironmentCounts(t *testing.T) {
	t.Setenv("UNSTALE_URL", "memory://from-the-environment")
	t.Setenv("UNSTALE_STALENESS_BOUND", "7s")
	s := must[unstale.Status](t)(connect(t, unstale.Config{}).Status())
	if s.StalenessBound != 7*time.Second || !strings.Contains(s.URL, "from-the-environment") {
		t.Errorf("%+v", s)
	}
	s = must[unstale.Status](t)(connect(t, unstale.Config{StalenessBound: 9 * time.Second}).Status())
	if s.StalenessBound != 9*time.Second {
		t.Errorf("%+v: an argument comes first", s)
	}
	if err := os.Unsetenv("UNSTALE_STALENESS_BOUND"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("UNSTALE_STALENES_BOUND", "7s")
	_, err := unstale.Connect(background(t), unstale.Config{})
	isError(t, err, unstale.ErrConfig, "UNSTALE_STALENES_BOUND")
}

func TestErrorsNameTheirKind(t *testing.T) {
	cache := fresh(t)
	_, err := cache.Invalidate("")
	var e *unstale.Error
	if !errors.As(err, &e) || e.Kind != unstale.KindInvalidArgument || e.Kind.String() != "InvalidArgument" || e.Message == "" {
		t.Errorf("%#v", err)
	}
	if errors.Is(err, unstale.ErrClosed) || errors.Is(unstale.ErrClosed, err) || errors.Is(err, unstale.ErrNotFound) {
		t.Error("kinds are mixed up")
	}
	if !strings.HasPrefix(err.Error(), "unstale: InvalidArgument: ") || unstale.ErrClosed.Error() != "unstale: Closed" {
		t.Error(err, unstale.ErrClosed)
	}
	names := []string{"InvalidArgument", "Config", "Connect", "Auth", "Tls", "Timeout", "Closed", "Load", "Internal", "Forked"}
	for i, name := range names {
		if kind := unstale.Kind(i + 1); kind.String() != name {
			t.Errorf("kind %d is %s, not %s", i+1, kind, name)
		}
	}
	if s := unstale.Kind(99).String(); s != "Unknown" {
		t.Error(s)
	}
}

// The Go driver of the conformance script: commands in, public API calls, answers out. See tests/conformance/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

type cache = unstale.Cache[string]

// opened is a cache, and the events that were seen on it.
type opened struct {
	*cache
	mu     sync.Mutex
	events []any
}

type driver struct {
	client   *unstale.Client
	caches   map[string]*opened
	leases   map[string]*unstale.Lease
	receipts map[string]*unstale.Receipt
	loads    map[string]*load
}

func main() {
	d := driver{
		leases:   map[string]*unstale.Lease{},
		receipts: map[string]*unstale.Receipt{},
		loads:    map[string]*load{},
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // the end of stdin
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			answer(nil, mistake("%v", err))
			continue
		}
		answer(d.serve(&r))
		if r.Cmd == "quit" {
			return
		}
	}
}

func answer(result any, err error) {
	message := map[string]any{"ok": result}
	if err != nil {
		kind, code, text := "Driver", -1, err.Error()
		var known *unstale.Error
		if errors.As(err, &known) {
			kind, code, text = known.Kind.String(), int(known.Kind), known.Message
		}
		message = map[string]any{"error": map[string]any{"kind": kind, "code": code, "message": text}}
	}
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func mistake(format string, args ...any) error { return fmt.Errorf(format, args...) }

func (d *driver) serve(r *request) (any, error) {
	switch r.Cmd {
	case "hello":
		return map[string]any{"language": "go", "protocol": 1}, nil
	case "quit":
		return nil, nil
	case "log":
		return nil, unstale.SetLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug - 4})))
	case "connect":
		client, err := unstale.Connect(context.Background(), unstale.Config{URL: r.URL, Options: r.Options})
		if err == nil {
			d.client, d.caches = client, map[string]*opened{}
		}
		return nil, err
	}
	if d.client == nil {
		return nil, mistake("not connected")
	}
	switch r.Cmd {
	case "cache":
		c, err := unstale.OpenCache[string](d.client, r.NS, unstale.CacheConfig{Options: r.Options})
		if err == nil {
			d.caches[r.NS] = &opened{cache: c}
		}
		return nil, err
	case "wait_for":
		ctx, cancel := r.timeout()
		defer cancel()
		return d.client.WaitFor(ctx, r.Token)
	case "delivered":
		receipt := d.receipts[r.Token]
		if receipt == nil {
			return nil, mistake("no receipt with this token")
		}
		ctx, cancel := r.timeout()
		defer cancel()
		return receipt.Delivered(ctx), nil
	case "status":
		return d.client.Status()
	case "close":
		return d.client.CloseTimeout(time.Duration(r.TimeoutMS) * time.Millisecond)
	case "load_state":
		l := d.loads[r.ID]
		if l == nil {
			return nil, mistake("no such load")
		}
		return l.state()
	case "load_finish":
		l := d.loads[r.ID]
		if l == nil {
			return nil, mistake("no such load")
		}
		l.finish <- outcome{r.Value, r.Fail}
		return nil, nil
	case "lease_drop":
		lease := d.leases[r.ID]
		if lease == nil {
			return nil, mistake("no such lease")
		}
		lease.Release()
		delete(d.leases, r.ID)
		return nil, nil
	}
	c := d.caches[r.NS]
	if c == nil {
		return nil, mistake("no cache of this namespace is open")
	}
	return d.use(c, r)
}

// use is a command to a cache.
func (d *driver) use(c *opened, r *request) (any, error) {
	options, err := d.options(r)
	if err != nil {
		return nil, err
	}
	switch r.Cmd {
	case "get":
		if value, ok := c.Get(r.Key); ok {
			return value, nil
		}
		return nil, nil
	case "set":
		return c.Set(r.Key, *r.Value, options...)
	case "get_or_load":
		l := newLoad()
		l.finish <- outcome{r.Value, r.Fail}
		l.run(c.cache, r.Key, options)
		return l.state()
	case "load_start":
		l := newLoad()
		d.loads[r.ID] = l
		go l.run(c.cache, r.Key, options)
		return nil, nil
	case "lease":
		lease, err := c.Lease(r.Key)
		if err == nil {
			d.leases[r.ID] = lease
		}
		return nil, err
	case "update":
		return d.keep(c.Update(r.Key, *r.Value, options...))
	case "invalidate":
		if r.Version != nil {
			return d.keep(c.InvalidateVersion(r.Key, *r.Version))
		}
		return d.keep(c.Invalidate(r.Key))
	case "invalidate_many":
		return d.keep(c.InvalidateMany(r.Keys))
	case "invalidate_tags":
		return d.keep(c.InvalidateTags(r.Tags...))
	case "invalidate_prefix":
		return d.keep(c.InvalidatePrefix(r.Prefix))
	case "invalidate_all":
		return d.keep(c.InvalidateAll())
	case "evict":
		return c.Evict(r.Key)
	case "clear_local":
		return nil, c.ClearLocal()
	case "stats":
		return c.Stats()
	case "watch":
		_, err := c.OnInvalidated(c.see)
		return nil, err
	case "events":
		c.mu.Lock()
		defer c.mu.Unlock()
		return append([]any{}, c.events...), nil
	default:
		return nil, mistake("unknown command %s", r.Cmd)
	}
}

func (d *driver) keep(receipt *unstale.Receipt, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	d.receipts[receipt.Token()] = receipt
	return map[string]any{"token": receipt.Token(), "stored": receipt.Stored()}, nil
}

// see keeps an event. What Go leaves empty is null in the script.
func (c *opened) see(e unstale.Invalidation) {
	event := map[string]any{
		"namespace": e.Namespace, "keys": e.Keys, "tags": e.Tags, "prefixes": e.Prefixes, "all": e.All, "origin": e.Origin,
		"src": nil, "seq": nil,
	}
	if e.Src != "" {
		event["src"], event["seq"] = e.Src, e.Seq
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
}

package unstale_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// patience is how long a test waits for what must happen; it is never waited out when all is well.
const patience = 30 * time.Second

// background is a context that ends with patience.
func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls a condition, for what another thread or process does.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// memory is a broker of the test's own, inside this process.
func memory(t testing.TB) string {
	return "memory://" + strings.Map(func(r rune) rune {
		if r == '/' || r == '_' {
			return '-'
		}
		return r
	}, t.Name())
}

func connect(t testing.TB, config unstale.Config) *unstale.Client {
	t.Helper()
	client, err := unstale.Connect(background(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := client.CloseTimeout(0); err != nil {
			t.Error(err)
		}
	})
	return client
}

func open[V any](t testing.TB, client *unstale.Client, namespace string, config unstale.CacheConfig) *unstale.Cache[V] {
	t.Helper()
	cache, err := unstale.OpenCache[V](client, namespace, config)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// fresh is a cache of strings on a client of its own, in memory.
func fresh(t testing.TB) *unstale.Cache[string] {
	t.Helper()
	return open[string](t, connect(t, unstale.Config{URL: memory(t)}), "test", unstale.CacheConfig{})
}

func set[V any](t testing.TB, cache *unstale.Cache[V], key string, value V, opts ...unstale.SetOption) {
	t.Helper()
	stored, err := cache.Set(key, value, opts...)
	if err != nil || !stored {
		t.Fatalf("Set(%q): stored %v, %v", key, stored, err)
	}
}

func holds[V comparable](t testing.TB, cache *unstale.Cache[V], key string, want V) {
	t.Helper()
	if got, ok := cache.Get(key); !ok || got != want {
		t.Errorf("Get(%q) = %v, %v; want %v", key, got, ok, want)
	}
}

func misses[V any](t testing.TB, cache *unstale.Cache[V], keys ...string) {
	t.Helper()
	for _, key := range keys {
		if got, ok := cache.Get(key); ok {
			t.Errorf("Get(%q) = %v; want a miss", key, got)
		}
	}
}

func isError(t testing.TB, err, want error, about string) {
	t.Helper()
	if !is(err, want) || !strings.Contains(fmt.Sprint(err), about) {
		t.Errorf("error %v; want %v that says %q", err, want, about)
	}
}

func stats[V any](t testing.TB, cache *unstale.Cache[V]) unstale.Stats {
	t.Helper()
	s, err := cache.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// broker is a real mosquitto on a free loopback port.
type broker struct {
	port    int
	folder  string
	process *exec.Cmd
	log     output
}

// output is what a process says, readable while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func mosquitto(t testing.TB) *broker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{port: listener.Addr().(*net.TCPAddr).Port, folder: t.TempDir()}
	listener.Close()
	config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nlog_type all\nlog_dest stderr\npersistence false\n", b.port)
	if err := os.WriteFile(filepath.Join(b.folder, "mosquitto.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	b.start(t)
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // Debian's place for it, which is not in everybody's PATH
	}
	b.process = exec.Command(program, "-c", filepath.Join(b.folder, "mosquitto.conf"))
	b.process.Stderr = &b.log
	if err := b.process.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mosquitto listens", func() bool {
		connection, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", b.port), time.Second)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
}

func (b *broker) stop() {
	if b.process != nil {
		_ = b.process.Process.Kill()
		_ = b.process.Wait()
		b.process = nil
	}
}

func (b *broker) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", b.port) }

// publish is what a stranger does, with mosquitto_pub.
func (b *broker) publish(t testing.TB, topic, payload string) {
	t.Helper()
	command := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", fmt.Sprint(b.port), "-q", "1", "-t", topic, "-m", payload)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

var topics atomic.Int64

// greeting is the key with which they make sure of it.
const greeting = "are you there?"

// pair is two clients of one mosquitto, each with a cache of the same namespace, who hear each other.
func pair[V any](t testing.TB, b *broker, config unstale.CacheConfig) (here, there *unstale.Cache[V], us, them *unstale.Client) {
	t.Helper()
	topic := fmt.Sprintf("test/%d", topics.Add(1))
	us = connect(t, unstale.Config{URL: b.url(), Topic: topic, App: "us"})
	them = connect(t, unstale.Config{URL: b.url(), Topic: topic, App: "them"})
	here, there = open[V](t, us, "pair", config), open[V](t, them, "pair", config)
	var none V
	for _, side := range [][2]*unstale.Cache[V]{{here, there}, {there, here}} {
		set(t, side[1], greeting, none)
		eventually(t, "the two hear each other", func() bool {
			if _, err := side[0].Invalidate(greeting); err != nil {
				t.Fatal(err)
			}
			_, ok := side[1].Get(greeting)
			return !ok
		})
	}
	return here, there, us, them
}

// mustListen is the address of a listener that never answers.
func mustListen(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

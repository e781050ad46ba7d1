package unstale

// #include <stdlib.h>
// #include "glue.h"
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Client is the connection to one broker, shared by many caches. Make one per process and broker, and Close it.
//
// A client that becomes unreachable, together with its caches, without having been closed is disconnected by the garbage
// collector, and loses what it had not sent yet.
type Client struct {
	handle uintptr
	// closed is closed when Close has ended: who waits for another's load is told.
	closed    chan struct{}
	closeOnce sync.Once
}

// Connect connects, and waits until the broker answered and everything is known to be fresh; at most ConnectTimeout, or
// until ctx ends. With Config.Lazy it does not wait.
//
// Errors: ErrConfig (an unknown, impossible or contradictory option, which the message names), ErrConnect, ErrAuth, ErrTLS,
// ErrTimeout; ctx.Err() if ctx ended first.
func Connect(ctx context.Context, config Config) (*Client, error) {
	if ctx == nil {
		return nil, invalid("ctx is nil")
	}
	text, err := config.json()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		return connect(text)
	}
	type outcome struct {
		client *Client
		err    error
	}
	connected := make(chan outcome, 1)
	go func() {
		client, err := connect(text)
		connected <- outcome{client, err}
	}()
	select {
	case o := <-connected:
		return o.client, o.err
	case <-ctx.Done():
		// The attempt ends by itself within ConnectTimeout; a connection that it still makes is nobody's.
		go func() {
			if o := <-connected; o.client != nil {
				_, _ = o.client.CloseTimeout(0)
			}
		}()
		return nil, ctx.Err()
	}
}

func connect(config string) (*Client, error) {
	text := C.CString(config)
	defer C.free(unsafe.Pointer(text))
	var handle C.uintptr_t
	if err := check(C.us_connect(text, &handle)); err != nil {
		return nil, err
	}
	client := &Client{handle: uintptr(handle), closed: make(chan struct{})}
	runtime.AddCleanup(client, func(handle uintptr) { C.us_client_free(C.uintptr_t(handle)) }, client.handle)
	sweepAfterCollections()
	return client, nil
}

// c is the handle; a nil client has none, which C answers with InvalidArgument.
func (c *Client) c() C.uintptr_t {
	if c == nil {
		return 0
	}
	return C.uintptr_t(c.handle)
}

// Close is [Client.CloseTimeout] with the default limit of 5 s. An error says that messages were left unsent.
func (c *Client) Close() error {
	unsent, err := c.CloseTimeout(C.UNSTALE_CLOSE_TIMEOUT_MS * time.Millisecond)
	if err == nil && unsent > 0 {
		err = &Error{KindTimeout, fmt.Sprintf("%d invalidations were not sent before the client closed; others may serve "+
			"what they were to invalidate for up to their staleness bound", unsent)}
	}
	return err
}

// CloseTimeout sends what waits to be sent, for at most timeout (0 to ten years), says goodbye and disconnects. It returns
// how many messages could not be sent. Calls still running and later ones fail with ErrClosed; a Get is a miss. Closing
// again returns the same.
//
// Errors: ErrInvalidArgument.
func (c *Client) CloseTimeout(timeout time.Duration) (unsent int, err error) {
	if timeout < 0 {
		return 0, invalid("timeout must be a duration from 0 to ten years, not %v", timeout)
	}
	defer runtime.KeepAlive(c)
	var left C.size_t
	if err := check(C.us_close(c.c(), C.uint64_t(millis(timeout)), &left)); err != nil {
		return 0, err
	}
	c.closeOnce.Do(func() { close(c.closed) })
	return int(left), nil
}

// WaitFor waits until this process has applied the invalidation that token names, a [Receipt.Token] of this or another
// process: what is read here afterwards is at least as new. True at once if this client has no cache of the token's
// namespace. False: ctx's deadline came first.
//
// Errors: ErrInvalidArgument (not a token), ErrClosed; context.Canceled.
func (c *Client) WaitFor(ctx context.Context, token string) (bool, error) {
	if ctx == nil {
		return false, invalid("ctx is nil")
	}
	text, err := cText("token", token)
	if err != nil {
		return false, err
	}
	return wait(ctx, func(timeout time.Duration) (bool, error) {
		defer runtime.KeepAlive(c)
		text := C.CString(text)
		defer C.free(unsafe.Pointer(text))
		answer := C.us_wait_for(c.c(), text, C.uint64_t(millis(timeout)))
		return bool(answer.flag), check(answer.result)
	})
}

// Status is what is known of the connection. Works on a closed client too; never waits.
//
// Errors: ErrInvalidArgument.
func (c *Client) Status() (Status, error) {
	defer runtime.KeepAlive(c)
	var text *C.char
	var status Status
	if err := check(C.us_status(c.c(), &text)); err != nil {
		return status, err
	}
	return status, decode(take(text), &status)
}

// OnStatus calls f with the new state whenever the connection's state changes: on a thread of the client's own, one call
// at a time. f may use the client; while it runs, other events wait. A panic in f is logged and goes no further.
//
// cancel ends it: no call of f begins after cancel has returned. Until then, f and what it refers to are kept, at most as
// long as the client.
//
// Errors: ErrInvalidArgument.
func (c *Client) OnStatus(f func(Status)) (cancel func(), err error) {
	if f == nil {
		return nil, invalid("f is nil")
	}
	defer runtime.KeepAlive(c)
	return subscribed(C.us_on_status(c.c(), C.uint64_t(put(listener{"OnStatus", func(text []byte) error {
		var status Status
		err := json.Unmarshal(text, &status)
		if err == nil {
			f(status)
		}
		return err
	}}))))
}

// cText refuses what C would take for the end of the text.
func cText(name, text string) (string, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return "", invalid("%s has a NUL byte at %d", name, i)
	}
	return text, nil
}

// take is the text that C made, which it frees.
func take(text *C.char) string {
	defer C.unstale_string_free(text)
	return C.GoString(text)
}

func decode(text string, to any) error {
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return &Error{KindInternal, fmt.Sprintf("the library's answer cannot be read: %v", err)}
	}
	return nil
}

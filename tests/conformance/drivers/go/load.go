package main

import (
	"context"
	"errors"
	"sync"

	unstale "github.com/unstale/unstale/bindings-c/go"
)

// outcome is what the script wants a loader to come to.
type outcome struct{ value, fail *string }

// loaderError is what the script's loaders fail with; the very same must come back.
type loaderError struct{ text string }

func (e *loaderError) Error() string { return e.text }

// load is one GetOrLoad.
type load struct {
	finish chan outcome
	mu     sync.Mutex
	called bool
	done   bool
	value  *string
	err    error
}

func newLoad() *load { return &load{finish: make(chan outcome, 1)} }

func (l *load) run(c *cache, key string, options []unstale.SetOption) {
	value, err := c.GetOrLoad(context.Background(), key, func(context.Context) (string, error) {
		l.mu.Lock()
		l.called = true
		l.mu.Unlock()
		o := <-l.finish
		switch {
		case o.fail != nil:
			return "", &loaderError{*o.fail}
		case o.value == nil:
			return "", unstale.ErrNotFound
		default:
			return *o.value, nil
		}
	}, options...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done, l.err = true, err
	if err == nil {
		l.value = &value
	}
}

func (l *load) state() (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := map[string]any{"called": l.called, "done": l.done, "value": l.value, "failed": nil}
	var own *loaderError
	switch {
	case l.err == nil || l.err == unstale.ErrNotFound:
	case errors.As(l.err, &own):
		state["failed"] = own.text
	default:
		return nil, l.err
	}
	return state, nil
}

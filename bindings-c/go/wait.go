package unstale

import (
	"context"
	"errors"
	"time"
)

// waitSlice is how long a wait stays in C at a time: so long lives the thread of a wait that was cancelled. When all turns
// are taken they are shorter, so that the next one's comes soon.
const (
	waitSlice    = 200 * time.Millisecond
	crowdedSlice = 20 * time.Millisecond
)

// waiters bounds the threads that waits hold in C at the same time (Go ends the process at 10,000 threads); further waits
// take turns.
var waiters = make(chan struct{}, 128)

// wait polls until it is done or fails, or ctx ends; a deadline is a plain false. poll(0) only looks.
func wait(ctx context.Context, poll func(timeout time.Duration) (bool, error)) (bool, error) {
	// At once, in most cases: no goroutine, and an expired ctx still gets an answer.
	if done, err := poll(0); done || err != nil {
		return done, err
	}
	if ctx.Err() != nil {
		return false, ended(ctx)
	}
	type outcome struct {
		done bool
		err  error
	}
	polled := make(chan outcome, 1)
	go func() {
		for {
			select {
			case waiters <- struct{}{}:
			case <-ctx.Done():
				return
			}
			slice := waitSlice
			if len(waiters) == cap(waiters) {
				slice = crowdedSlice
			}
			if deadline, ok := ctx.Deadline(); ok {
				slice = max(0, min(slice, time.Until(deadline)))
			}
			done, err := poll(slice)
			<-waiters
			if done || err != nil {
				polled <- outcome{done, err}
				return
			}
			if ctx.Err() != nil {
				return
			}
		}
	}()
	select {
	case o := <-polled:
		return o.done, o.err
	case <-ctx.Done():
		return false, ended(ctx)
	}
}

// ended is why ctx ended, but for its deadline.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return ctx.Err()
}

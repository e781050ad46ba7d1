package unstale

// #include "glue.h"
import "C"

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// levelTrace is below slog's own levels.
const levelTrace = slog.LevelDebug - 4

// levels, from the quietest to the loudest, with the numbers of C.
var levels = []struct {
	slog slog.Level
	c    C.uint32_t
}{
	{slog.LevelError, C.UNSTALE_LOG_ERROR},
	{slog.LevelWarn, C.UNSTALE_LOG_WARN},
	{slog.LevelInfo, C.UNSTALE_LOG_INFO},
	{slog.LevelDebug, C.UNSTALE_LOG_DEBUG},
	{levelTrace, C.UNSTALE_LOG_TRACE},
}

var (
	logger    atomic.Pointer[slog.Logger]
	setLogger sync.Mutex
)

// SetLogger sends the library's log records to l, for the whole process; nil ends that. Quiet by default. Each condition
// is logged at most once a minute. The attribute "target" says which part of the library speaks.
//
// Records below the levels that l has enabled now are not even made: call it again after lowering a level. The handler is
// called on a thread of the library's own, one record at a time.
//
// Errors: ErrInvalidArgument (another part of this process, written in Rust, gets the records).
func SetLogger(l *slog.Logger) error {
	setLogger.Lock()
	defer setLogger.Unlock()
	level := C.uint32_t(C.UNSTALE_LOG_OFF)
	if l != nil {
		for _, candidate := range levels {
			if l.Enabled(context.Background(), candidate.slog) {
				level = candidate.c
			}
		}
	}
	before := logger.Swap(l)
	if err := check(C.us_set_log(level)); err != nil {
		logger.Store(before)
		return err
	}
	return nil
}

//export unstaleGoLog
func unstaleGoLog(level C.uint32_t, target, message *C.char) {
	l := logger.Load()
	if l == nil {
		return
	}
	// A panic must not unwind into C. There is no logger to tell: it is this one that fails.
	defer func() { _ = recover() }()
	for _, known := range levels {
		if known.c == level {
			l.LogAttrs(context.Background(), known.slog, C.GoString(message), slog.String("target", C.GoString(target)))
		}
	}
}

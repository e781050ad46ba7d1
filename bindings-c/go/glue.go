package unstale

// #cgo CFLAGS: -std=gnu11 -Wall -Wextra
//
// #include "glue.h"
//
// _Static_assert(sizeof(size_t) == 8, "the handle table needs 64-bit numbers");
//
// // None of these keeps a pointer that it is given, and none calls Go: what does run later runs on the library's threads.
// #cgo noescape us_connect
// #cgo noescape us_open
// #cgo noescape us_status
// #cgo noescape us_stats
// #cgo noescape us_close
// #cgo noescape us_wait_for
// #cgo noescape us_nothing
// #cgo nocallback us_nothing
// #cgo noescape us_peek
// #cgo nocallback us_peek
// #cgo noescape us_get
// #cgo nocallback us_get
// #cgo noescape us_contains
// #cgo nocallback us_contains
// #cgo noescape us_set
// #cgo nocallback us_set
// #cgo noescape us_set_with
// #cgo nocallback us_set_with
// #cgo noescape us_update
// #cgo nocallback us_update
// #cgo noescape us_evict
// #cgo nocallback us_evict
// #cgo noescape us_invalidate
// #cgo nocallback us_invalidate
// #cgo noescape us_invalidate_version
// #cgo nocallback us_invalidate_version
// #cgo noescape us_invalidate_many
// #cgo nocallback us_invalidate_many
// #cgo noescape us_invalidate_tags
// #cgo nocallback us_invalidate_tags
// #cgo noescape us_invalidate_prefix
// #cgo nocallback us_invalidate_prefix
// #cgo noescape us_receipt_token
// #cgo nocallback us_receipt_token
// #cgo noescape us_lease
// #cgo nocallback us_lease
// #cgo noescape us_begin
// #cgo nocallback us_begin
// #cgo nocallback us_load_finish
// #cgo nocallback us_load_fail
// #cgo nocallback us_join_look
// #cgo nocallback us_release
import "C"

// What stands between Go and the C library: one call where the library needs two or three, and no number in the shape of a
// pointer on the Go side, where the garbage collector would take it for one.
#ifndef UNSTALE_GO_GLUE_H
#define UNSTALE_GO_GLUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unstale.h>

// ---- Freed values -------------------------------------------------------------------------------------------------------
//
// The library tells on any thread, often one of its own, that it needs a value no more. Calling Go from there would cost
// microseconds and could block the link. So `us_free` only pushes the value's slot on a list that Go takes when it next has
// use for it: no call either way.

enum { US_SHARDS = 8, US_SHARD_BITS = 3, US_SEGMENTS = 20, US_FIRST_SEGMENT = 1024 };

typedef struct {
    // Newest freed slot + 1; 0: none. Go takes the whole list by an exchange, so there is no ABA problem.
    uint32_t head;
    // For each slot the next one + 1. Segment k has US_FIRST_SEGMENT << k slots and never moves.
    uint32_t *next[US_SEGMENTS];
} __attribute__((aligned(64))) us_shard;

extern us_shard us_shards[US_SHARDS];

// Makes segment `k` of a shard. NULL: out of memory.
uint32_t *us_grow(uint32_t shard, uint32_t k);
// The `unstale_free_fn` of every value that Go makes; `userdata` is its number.
void us_free(void *userdata);

// ---- Calls --------------------------------------------------------------------------------------------------------------

// What a value is stored with; the texts travel beside it, end to end, each with its length.
typedef struct {
    uint64_t ttl_ms;
    uint64_t version;
    uintptr_t lease;
    size_t tags;
    size_t depends_on;
    bool has_version;
} us_terms;

typedef struct {
    unstale_result result;
    bool flag;
} us_bool;

typedef struct {
    unstale_result result;
    uintptr_t receipt;
    bool stored;
} us_made;

typedef struct {
    unstale_result result;
    uintptr_t handle;
} us_handle;

typedef struct {
    unstale_result result;
    // The value's number and what keeps it alive (0: nothing to release).
    uint64_t number;
    uintptr_t owner;
    // A load or a join, by `state`.
    uintptr_t handle;
    uint64_t load_id;
    uint32_t state;
} us_begun;

typedef struct {
    uint64_t number;
    uintptr_t owner;
    uint32_t state;
} us_joined;

unstale_result us_connect(const char *config, uintptr_t *client);
unstale_result us_open(uintptr_t client, const char *ns, const char *config, uintptr_t *cache);
unstale_result us_status(uintptr_t client, char **json);
unstale_result us_stats(uintptr_t cache, char **json);
unstale_result us_close(uintptr_t client, uint64_t timeout_ms, size_t *unsent);
us_bool us_wait_for(uintptr_t client, const char *token, uint64_t timeout_ms);

// Does nothing: for benchmarks, what a call costs.
size_t us_nothing(uintptr_t cache, const char *key, size_t len);
size_t us_peek(uintptr_t cache, const char *key, size_t len);
us_begun us_get(uintptr_t cache, const char *key, size_t len);
us_bool us_contains(uintptr_t cache, const char *key, size_t len);
us_bool us_set(uintptr_t cache, const char *key, size_t len, uint64_t number);
us_bool us_set_with(uintptr_t cache, const char *key, size_t len, uint64_t number, const us_terms *terms, const char *text, const size_t *lens);
us_made us_update(uintptr_t cache, const char *key, size_t len, uint64_t number, const us_terms *terms, const char *text, const size_t *lens);
unstale_result us_clear_local(uintptr_t cache);
size_t us_len(uintptr_t cache);
// Milliseconds; UNSTALE_NO_LIMIT: none.
uint64_t us_load_timeout(uintptr_t cache);
us_bool us_evict(uintptr_t cache, const char *key, size_t len);

us_made us_invalidate(uintptr_t cache, const char *key, size_t len);
us_made us_invalidate_version(uintptr_t cache, const char *key, size_t len, uint64_t version);
// `versions[i]` counts unless it is UINT64_MAX, which is no version.
us_made us_invalidate_many(uintptr_t cache, const char *text, const size_t *lens, const uint64_t *versions, size_t count);
us_made us_invalidate_tags(uintptr_t cache, const char *text, const size_t *lens, size_t count);
us_made us_invalidate_prefix(uintptr_t cache, const char *prefix, size_t len);
us_made us_invalidate_all(uintptr_t cache);
us_bool us_receipt_wait(uintptr_t receipt, uint64_t timeout_ms);
unstale_result us_receipt_token(uintptr_t receipt, char **token);

us_handle us_lease(uintptr_t cache, const char *key, size_t len);

// With `hold`, a hit comes with a reference, which `us_release` gives back.
us_begun us_begin(uintptr_t cache, const char *key, size_t len, const us_terms *terms, const char *text, const size_t *lens, bool hold);
// `number` 0: not found.
void us_load_finish(uintptr_t load, uint64_t number);
void us_load_fail(uintptr_t load, uint64_t number);
// Looks, without waiting. A failure's number and owner are those of its error.
us_joined us_join_look(uintptr_t join);
void us_release(uint64_t number, uintptr_t owner);

// `number`: a listener in the table; it is freed like a value, also on failure.
us_handle us_on_status(uintptr_t client, uint64_t number);
us_handle us_on_invalidated(uintptr_t cache, uint64_t number);
unstale_result us_set_log(uint32_t level);

void us_client_free(uintptr_t client);
void us_cache_free(uintptr_t cache);
void us_receipt_free(uintptr_t receipt);
void us_lease_free(uintptr_t lease);
void us_load_abandon(uintptr_t load);
void us_join_free(uintptr_t join);
void us_cancel(uintptr_t subscription);

#endif

// unstale: in-process caches that stay fresh across services and languages.
//
// Written by cbindgen from bindings-c/src; do not edit. `bindings-c/README.md` has the first program.
//
// Conventions
//
// - Results. Every function that can fail returns `unstale_result`; `.code` is `UNSTALE_OK` (0) or says what went
//   wrong, and `unstale_result_message` gives the sentence for people. A result may be ignored, needs no freeing and
//   may be read on any thread. Outputs (the pointers at the end of a parameter list) are written only on `UNSTALE_OK`,
//   except where said. There are no in/out parameters but `unstale_value_release`. A pointer documented as "or NULL"
//   may be NULL; any other NULL is `UNSTALE_INVALID_ARGUMENT`.
// - Strings. Keys, tags and prefixes are a pointer and a length in bytes, UTF-8, without NUL inside (1 to 1,024 bytes).
//   Configuration, namespaces and tokens are NUL-terminated UTF-8. Strings that the library hands out as `char *` are
//   freed with `unstale_string_free`.
// - Durations are `uint64_t` milliseconds and end in `_ms`. Configuration JSON takes "250ms", "30s", "5m" or seconds as
//   a number.
// - Threads. Every function may be called from any thread, at the same time, also from a callback, unless it says
//   otherwise.
// - Handles. Each object that the library hands out is released once with the function that its type names, in any
//   order. `unstale_lease *`, `unstale_load *`, `unstale_join *`, `unstale_receipt *` and `unstale_subscription *` are
//   numbers in the shape of pointers: used after their release (or never handed out) they are
//   `UNSTALE_INVALID_ARGUMENT`, and releasing them again does nothing. A freed `unstale_client *` or `unstale_cache *`
//   is noticed in the same way, but no other thread may be inside a call with it while it is freed;
//   `unstale_client_close` is what may be called at any time. Every `…_free` takes NULL.
// - Callbacks get the `userdata` given with them. Where there is a `userdata_free`, it is called exactly once, after
//   the last call of the callback, whatever the function returned (so also when it failed); NULL means that there is
//   nothing to free. A callback must not throw or longjmp. Its strings live only until it returns.
// - Fork. In a child, every handle that it inherited gives `UNSTALE_FORKED`; freeing it is allowed, and leaves what is
//   behind it alone (no destructor of a cached value runs). A child can connect anew, to `memory://` at least: one
//   whose parent had connected by MQTT gets `UNSTALE_FORKED` for that too, so fork before the first connection, or
//   `exec` in the child.


#ifndef UNSTALE_H
#define UNSTALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A `timeout_ms` for `unstale_client_close`, the one that the other languages use unless told otherwise.
#define UNSTALE_CLOSE_TIMEOUT_MS 5000

// `timeout_ms` for a wait without a limit.
#define UNSTALE_NO_LIMIT UINT64_MAX

// What went wrong, in the numbering that every language of unstale shares. Retired numbers are never reused.
enum unstale_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // It worked.
    UNSTALE_OK = 0,
    // An argument is out of its documented range; nothing changed.
    UNSTALE_INVALID_ARGUMENT = 1,
    // An option is unknown, contradictory or out of range.
    UNSTALE_CONFIG = 2,
    // The broker cannot be reached, refused the connection, or took it away.
    UNSTALE_CONNECT = 3,
    // The broker refused these credentials, or this topic to them.
    UNSTALE_AUTH = 4,
    // The TLS handshake failed, or a certificate or key cannot be used.
    UNSTALE_TLS = 5,
    // A time limit ran out. (Waiting functions with a `timeout_ms` of their own say so in an output, not by this.)
    UNSTALE_TIMEOUT = 6,
    // The client was closed.
    UNSTALE_CLOSED = 7,
    // A loader failed; what it said is in the `unstale_failure`.
    UNSTALE_LOAD = 8,
    // A fault in this library; please report it.
    UNSTALE_INTERNAL = 9,
    // The process forked after the client was made. Fork first and connect then, or start the child with exec.
    UNSTALE_FORKED = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum unstale_code unstale_code;
#else
typedef uint32_t unstale_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What `unstale_cache_begin` found.
enum unstale_begin_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The key is cached: `value` is a counted view.
    UNSTALE_BEGIN_HIT = 1,
    // That the source has no such key is cached (`negative_ttl`).
    UNSTALE_BEGIN_ABSENT = 2,
    // Load it: `load` is yours, and others may wait for it.
    UNSTALE_BEGIN_LEAD = 3,
    // Somebody loads it: wait with `join`.
    UNSTALE_BEGIN_JOIN = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum unstale_begin_state unstale_begin_state;
#else
typedef uint32_t unstale_begin_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What `unstale_join_wait` brought.
enum unstale_join_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The load ended: `value` is a counted view.
    UNSTALE_JOIN_VALUE = 1,
    // The load ended: the source has no such key.
    UNSTALE_JOIN_ABSENT = 2,
    // The load failed: see `failure`.
    UNSTALE_JOIN_FAILED = 3,
    // The load was abandoned, or took longer than the staleness bound: call `unstale_cache_begin` again.
    UNSTALE_JOIN_AGAIN = 4,
    // `timeout_ms`, or the cache's `load_timeout`, ran out; the join can wait again.
    UNSTALE_JOIN_TIMED_OUT = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum unstale_join_state unstale_join_state;
#else
typedef uint32_t unstale_join_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How grave a log record is.
enum unstale_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Nothing is logged; the default.
    UNSTALE_LOG_OFF = 0,
    // Something does not work and will not by itself.
    UNSTALE_LOG_ERROR = 1,
    // Something deserves attention, e.g. the connection was lost.
    UNSTALE_LOG_WARN = 2,
    // What a person who watches wants to know.
    UNSTALE_LOG_INFO = 3,
    // For finding faults.
    UNSTALE_LOG_DEBUG = 4,
    // For finding faults in this library.
    UNSTALE_LOG_TRACE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum unstale_log_level unstale_log_level;
#else
typedef uint32_t unstale_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A cache: the entries of one namespace, held in this process. Freed with `unstale_cache_free`.
typedef struct unstale_cache unstale_cache;

// A client: the connection to one broker, shared by many caches. Make one per process and broker; freed with
// `unstale_client_free`.
typedef struct unstale_client unstale_client;

// A wait for a load that somebody else leads.
typedef struct unstale_join unstale_join;

// Permission to fill a key; put into `unstale_set_options.lease`. Freed with `unstale_lease_free`.
typedef struct unstale_lease unstale_lease;

// A load that this caller leads.
typedef struct unstale_load unstale_load;

// What keeps the bytes of a value alive: a counted reference.
typedef struct unstale_owner unstale_owner;

// The receipt of an `invalidate…` or `update`. Freed with `unstale_receipt_free`, at any time: that cancels nothing.
typedef struct unstale_receipt unstale_receipt;

// A subscription to events. Ended and freed with `unstale_subscription_cancel`.
typedef struct unstale_subscription unstale_subscription;

// What a call came to: `result.code == UNSTALE_OK`, or a number of `unstale_code` that says what went wrong.
//
// Eight bytes, returned in a register. Nothing to free; may be ignored; valid on every thread.
typedef struct {
    // A number of `unstale_code`.
    uint32_t code;
    // The ticket with which `unstale_result_message` finds the message; 0: only the code is known.
    uint32_t detail;
} unstale_result;

// An event, as a JSON object of `json_len` bytes that is NUL-terminated too and lives until the callback returns.
typedef void (*unstale_event_fn)(void *userdata, const char *json, size_t json_len);

// Frees `userdata`. May be called on any thread, also on one of the library's; must be quick and must not throw.
// `free` of the C library is one.
typedef void (*unstale_free_fn)(void *userdata);

// A value: `len` bytes at `data`.
//
// As an input, fill it yourself with `owner` NULL: the bytes are copied before the function returns (`unstale_value
// price = {"9.99", 4, NULL};`); or pass one with an owner, which is shared without a copy. Functions never take your
// reference: they add their own.
//
// As an output it is a counted view without a copy: read-only, valid until you release it with
// `unstale_value_release`, even if the entry is invalidated or the client freed meanwhile. `data` is NULL exactly if
// there is no value (not found); an empty value has a non-NULL `data` and a `len` of 0.
typedef struct {
    // The first byte; NULL: no value.
    const void *data;
    // Number of bytes.
    size_t len;
    // What keeps `data` alive; NULL: memory of yours that is to be copied.
    unstale_owner *owner;
} unstale_value;

// Bytes of UTF-8 that need not end in NUL: a tag, or a key of `depends_on`.
typedef struct {
    // The first byte.
    const char *data;
    // Number of bytes.
    size_t len;
} unstale_str;

// What a value is stored with. Zero-initialise it (`unstale_set_options options = {0};`): zero means "as the cache's
// configuration says" or "none" throughout. NULL in its place means the same.
typedef struct {
    // How long the entry may live, in milliseconds, at most ten years; 0: the cache's `ttl`.
    uint64_t ttl_ms;
    // Tags with which the entry can be invalidated; `tags_len` of them (at most 1,000), each 1 to 1,024 bytes.
    const unstale_str *tags;
    // Number of `tags`.
    size_t tags_len;
    // Keys whose invalidation, by whomever, makes this entry fall too; `depends_on_len` of them (at most 1,000).
    const unstale_str *depends_on;
    // Number of `depends_on`.
    size_t depends_on_len;
    // The value's version, 0 to 2^53 - 1. Counts only if `has_version` is not 0.
    uint64_t version;
    // A lease of this key taken before the source was read (or, for `update`, before it was written); NULL: none. The
    // call that uses it consumes it, so that a second use stores nothing; it is freed with `unstale_lease_free` all
    // the same. Not for read-throughs, which take their own.
    unstale_lease *lease;
    // Not 0: `version` counts.
    uint8_t has_version;
    // Must be 0.
    uint8_t reserved[7];
} unstale_set_options;

// A key to invalidate, perhaps with the version that is current now.
typedef struct {
    // The key's first byte.
    const char *key;
    // Number of bytes.
    size_t key_len;
    // 0 to 2^53 - 1. Counts only if `has_version` is not 0.
    uint64_t version;
    // Not 0: `version` counts.
    uint8_t has_version;
    // Must be 0.
    uint8_t reserved[7];
} unstale_key_version;

// Loads the value of a key from the source. Runs on the thread that called `unstale_cache_get_or_load`, before that
// returns.
//
// Returns 0 and fills `value` with a counted value (`unstale_value_copy`, `unstale_value_new`) whose reference the
// library takes over, or with memory that outlives the callback and is copied; left as it is (`data` NULL), it means
// "not found". Any other return value is a failure code of yours, for which `value` may hold a description (text, by
// convention) or an error object.
typedef int32_t (*unstale_loader_fn)(void *userdata,
                                     const char *key,
                                     size_t key_len,
                                     unstale_value *value);

// How a load failed: the loader's own code, and what it put beside it.
typedef struct {
    // The loader's code, not 0.
    int32_t code;
    // The loader's description or error object; `data` is NULL if it gave none. Released by who receives it.
    unstale_value error;
} unstale_failure;

// The answer of `unstale_cache_begin`. Fields that do not belong to `state` are NULL or 0.
typedef struct {
    // For `UNSTALE_BEGIN_HIT`.
    unstale_value value;
    // For `UNSTALE_BEGIN_LEAD`: to be ended with `unstale_load_finish`, `unstale_load_fail` or `unstale_load_abandon`.
    unstale_load *load;
    // For `UNSTALE_BEGIN_JOIN`: freed with `unstale_join_free`.
    unstale_join *join;
    // For both: the number of the load, unique in this process; a join has that of the load it waits for.
    uint64_t load_id;
    // A number of `unstale_begin_state`.
    uint32_t state;
    // 0.
    uint32_t reserved;
} unstale_begun;

// The answer of `unstale_join_wait`. Fields that do not belong to `state` are NULL or 0.
typedef struct {
    // For `UNSTALE_JOIN_VALUE`.
    unstale_value value;
    // For `UNSTALE_JOIN_FAILED`.
    unstale_failure failure;
    // A number of `unstale_join_state`.
    uint32_t state;
    // 0.
    uint32_t reserved;
} unstale_joined;

// A log record: a number of `unstale_log_level`, the part of the library that speaks ("unstale::link"), and the
// sentence with its values. The strings are NUL-terminated and live until the callback returns.
typedef void (*unstale_log_fn)(void *userdata,
                               uint32_t level,
                               const char *target,
                               const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Copies the message of `result` to `buffer`, a sentence in English that names what was wrong and what to do, UTF-8,
// cut at `capacity - 1` bytes (at a character's border) and NUL-terminated. Never holds a secret.
//
// Returns the whole message's length in bytes without the NUL, as `snprintf` does; so `buffer` may be NULL with a
// `capacity` of 0. 512 bytes hold nearly every message. The newest 1,024 messages of the process are kept; for an
// older one, and for `UNSTALE_OK`, the answer is a general sentence about the code. Any thread.
//
// The caller's part:
// `buffer` is NULL or has room for `capacity` bytes.
size_t unstale_result_message(unstale_result result,
                              char *buffer,
                              size_t capacity);

// The name of a code, the same in every language: "Ok", "InvalidArgument", "Config", … "Forked"; "Unknown" for a
// number that is none. Static: never freed.
const char *unstale_code_name(uint32_t code);

// Frees a string that the library handed out as `char *`. NULL: does nothing.
//
// The caller's part:
// `string` is NULL or was handed out by this library and not freed yet.
void unstale_string_free(char *string);

// The library's version, e.g. "0.1.0". Static: never freed.
const char *unstale_version(void);

// Connects. `config_json` is a JSON object with the client's options, or NULL for none, e.g. `{"url":
// "mqtt://localhost", "staleness_bound": "10s"}`. Without a `url` here or in the environment (`UNSTALE_URL`) nothing
// leaves this process. Options that are not named come from the URL's query, then from the environment, then from the
// defaults.
//
// Blocks until the broker answered, at most `connect_timeout` (5 s); not at all with `"lazy": true`.
//
// Errors: `UNSTALE_CONFIG` (not a JSON object, an unknown or impossible option), `UNSTALE_CONNECT`, `UNSTALE_AUTH`,
// `UNSTALE_TLS`, `UNSTALE_TIMEOUT`, `UNSTALE_INVALID_ARGUMENT` (NULL, not UTF-8).
//
// The caller's part:
// `config_json` is NULL or NUL-terminated.
unstale_result unstale_client_connect(const char *config_json,
                                      unstale_client **client);

// Opens the cache of a namespace: `[A-Za-z0-9._-]`, 1 to 64 characters, not starting with `_`; "" means no namespace.
// `config_json` is a JSON object with the cache's options, or NULL for none, e.g. `{"ttl": "1m", "max_entries":
// 50000}`. Does not wait for the network. Once per namespace and client.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad namespace, one that is open already), `UNSTALE_CONFIG`,
// `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// The strings are NULL or NUL-terminated.
unstale_result unstale_client_cache(unstale_client *client,
                                    const char *ns,
                                    const char *config_json,
                                    unstale_cache **cache);

// The client's state as a JSON object: the transport, whether it is connected, what waits to be sent, counters. `json`
// is freed with `unstale_string_free`. Works on a closed client too. Does not wait.
//
// Errors: `UNSTALE_INVALID_ARGUMENT`.
//
// The caller's part:
// `client` is a live client.
unstale_result unstale_client_status(unstale_client *client,
                                     char **json);

// Calls `callback` with the new state (the JSON object of `unstale_client_status`) whenever the connection's state
// changes. It is called on the client's own event thread, one call at a time, and may call the library; a slow one
// delays the other events.
//
// `subscription` ends it (`unstale_subscription_cancel`); it may be NULL for "until the client is freed".
//
// Errors: `UNSTALE_INVALID_ARGUMENT`.
//
// The caller's part:
// `client` is a live client; `callback` and `userdata_free` may be called with `userdata` on any thread.
unstale_result unstale_client_on_status(unstale_client *client,
                                        unstale_event_fn callback,
                                        void *userdata,
                                        unstale_free_fn userdata_free,
                                        unstale_subscription **subscription);

// Waits, for at most `timeout_ms` (0 to ten years), until this process has applied the invalidation that `token` names
// (from `unstale_receipt_token`, perhaps in another process): what is read here afterwards is at least as new.
// `reached` is false when the time ran out first; true at once if this client has no cache of the token's namespace.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, not a token), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `token` is NULL or NUL-terminated.
unstale_result unstale_client_wait_for(unstale_client *client,
                                       const char *token,
                                       uint64_t timeout_ms,
                                       bool *reached);

// Sends what waits to be sent, for at most `timeout_ms`, says goodbye and disconnects. `unsent` (or NULL) becomes the
// number of messages that could not be sent. May be called at any time, from any thread, twice: calls still running
// and later ones give `UNSTALE_CLOSED`. The handles stay; free them as ever.
//
// Errors: `UNSTALE_INVALID_ARGUMENT`, `UNSTALE_FORKED`.
//
// The caller's part:
// `client` is a live client.
unstale_result unstale_client_close(unstale_client *client,
                                    uint64_t timeout_ms,
                                    size_t *unsent);

// Frees the handle. A client that was not closed is disconnected without waiting once its caches are freed too, and
// loses what was not sent yet: close it first. NULL, or a client freed before: does nothing.
//
// No other thread may be inside a call with this handle.
//
// The caller's part:
// `client` is NULL or one that `unstale_client_connect` handed out.
void unstale_client_free(unstale_client *client);

// Looks a key up. `value` becomes a counted view without a copy, to be released with `unstale_value_release`; not
// found: `data` is NULL. Never blocks, never waits for the network.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_get(unstale_cache *cache,
                                 const char *key,
                                 size_t key_len,
                                 unstale_value *value);

// Looks a key up and gives only the `data` of its value, as a number, without a reference: nothing to release. 0: not
// found, or an error (`unstale_cache_get` says which). For values made by `unstale_value_new` whose `data` is the
// number of an object in a table of yours: one call per hit instead of two.
//
// The value may be freed by another thread before this returns. So never dereference it, and never reuse a number: a
// number that your table no longer has is a miss.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
size_t unstale_cache_peek(unstale_cache *cache,
                          const char *key,
                          size_t key_len);

// Whether `unstale_cache_get` would find the key now.
//
// Errors: as `unstale_cache_get`.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_contains(unstale_cache *cache,
                                      const char *key,
                                      size_t key_len,
                                      bool *contained);

// Stores a value here; publishes nothing. `options` may be NULL. `stored` (or NULL) becomes false if the value was
// refused: its lease was fenced by an invalidation or used before, or its version is lower than the newest one known.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a value without data, a bad key, tag, dependency, version or duration, a
// freed lease), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// The pointers are valid for the lengths given with them.
unstale_result unstale_cache_set(unstale_cache *cache,
                                 const char *key,
                                 size_t key_len,
                                 const unstale_value *value,
                                 const unstale_set_options *options,
                                 bool *stored);

// Stores the new value here and invalidates the key everywhere else, after a write to the source. `options` must have
// a `lease` taken before that write, or a version. If that lease was fenced or that version is too low, it is an
// invalidation only; `unstale_receipt_stored` says which. `receipt` (or NULL) is freed with `unstale_receipt_free`.
// Does not wait for the network.
//
// Errors: as `unstale_cache_set`, and `UNSTALE_INVALID_ARGUMENT` without a lease or version.
//
// The caller's part:
// The pointers are valid for the lengths given with them.
unstale_result unstale_cache_update(unstale_cache *cache,
                                    const char *key,
                                    size_t key_len,
                                    const unstale_value *value,
                                    const unstale_set_options *options,
                                    unstale_receipt **receipt);

// Removes a key here, and here only; a load of it that is under way is not stored. `held` (or NULL) becomes true if
// there was an entry.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_evict(unstale_cache *cache,
                                   const char *key,
                                   size_t key_len,
                                   bool *held);

// Removes everything here, and here only; loads under way are not stored.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache.
unstale_result unstale_cache_clear_local(unstale_cache *cache);

// The cache's `load_timeout` in milliseconds: how long a reader waits for another's load. `UNSTALE_NO_LIMIT` if it has
// none, or for a cache that is NULL or freed. For bindings whose readers wait in their own way and ask
// `unstale_join_wait` with 0.
//
// The caller's part:
// `cache` is a live cache.
uint64_t unstale_cache_load_timeout(unstale_cache *cache);

// Number of entries held, dead ones that were not removed yet included; 0 for a cache that is NULL or freed.
//
// The caller's part:
// `cache` is a live cache.
size_t unstale_cache_len(unstale_cache *cache);

// The cache's counters (hits, misses, loads, invalidations, …) as a JSON object. `json` is freed with
// `unstale_string_free`. Works on a closed client too.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL).
//
// The caller's part:
// `cache` is a live cache.
unstale_result unstale_cache_stats(unstale_cache *cache,
                                   char **json);

// Calls `callback` for each invalidation that was applied here, with a JSON object: `namespace`, `keys`, `tags`,
// `prefixes`, `all`, `origin` ("local" or "remote"), `src`, `seq`. It is called on the client's own event thread,
// after the entries are gone, one call at a time, and may call the library; a slow one delays the other events.
//
// `subscription` ends it (`unstale_subscription_cancel`); it may be NULL for "as long as the cache lives".
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL).
//
// The caller's part:
// `cache` is a live cache; `callback` and `userdata_free` may be called with `userdata` on any thread.
unstale_result unstale_cache_on_invalidated(unstale_cache *cache,
                                            unstale_event_fn callback,
                                            void *userdata,
                                            unstale_free_fn userdata_free,
                                            unstale_subscription **subscription);

// Frees the handle. Values that were got from it stay valid until they are released. NULL, or a cache freed before:
// does nothing.
//
// No other thread may be inside a call with this handle.
//
// The caller's part:
// `cache` is NULL or one that `unstale_client_cache` handed out.
void unstale_cache_free(unstale_cache *cache);

// Makes a counted copy of `len` bytes at `data`, e.g. as a loader's answer. `value` is released by the caller.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL). Any thread.
//
// The caller's part:
// `data` points to `len` readable bytes.
unstale_result unstale_value_copy(const void *data,
                                  size_t len,
                                  unstale_value *value);

// Makes a counted value of memory or of an object of yours, without a copy. `free_fn(userdata)` is called exactly
// once: when the last reference is gone, on whatever thread that happens, or before this returns if it fails.
//
// `data` need not be an address: it may be the number of an object in a table of yours, but not NULL; the library
// never reads it. So live objects of another language can be cached. `value` is released by the caller.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (`data` or `value` NULL). Any thread.
//
// The caller's part:
// What `data` points to does not change until `free_fn` is called; `free_fn` may be called on any thread.
unstale_result unstale_value_new(const void *data,
                                 size_t len,
                                 unstale_free_fn free_fn,
                                 void *userdata,
                                 unstale_value *value);

// Adds a reference: `copy` views the same bytes and is released apart. A value without an owner is copied.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, or a value that is none). Any thread.
//
// The caller's part:
// `value` is one that the library handed out and that was not released yet, or memory of the caller's.
unstale_result unstale_value_clone(const unstale_value *value,
                                   unstale_value *copy);

// Gives the reference of `value` back and clears its fields, so that a second call does nothing. NULL is allowed. Any
// thread.
//
// The caller's part:
// `value` holds what the library wrote, and no other copy of this struct is released too.
void unstale_value_release(unstale_value *value);

// Removes a key here and everywhere else. `receipt` (or NULL) is freed with `unstale_receipt_free`. Applied here
// before this returns; does not wait for the network.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_invalidate(unstale_cache *cache,
                                        const char *key,
                                        size_t key_len,
                                        unstale_receipt **receipt);

// Says that `version` (0 to 2^53 - 1) of a key is now current: entries with a lower version or none fall, here and
// everywhere else, and lower ones are refused for `tombstone_ttl`.
//
// Errors: as `unstale_cache_invalidate`, and `UNSTALE_INVALID_ARGUMENT` for a version out of range.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_invalidate_version(unstale_cache *cache,
                                                const char *key,
                                                size_t key_len,
                                                uint64_t version,
                                                unstale_receipt **receipt);

// Invalidates many keys at once, all or (if one is bad) none. `items` may be NULL if `count` is 0.
//
// Errors: as `unstale_cache_invalidate_version`.
//
// The caller's part:
// `items` has `count` items, whose keys have the lengths that they say.
unstale_result unstale_cache_invalidate_many(unstale_cache *cache,
                                             const unstale_key_version *items,
                                             size_t count,
                                             unstale_receipt **receipt);

// Removes every entry that has one of these tags, here and everywhere else. `tags` may be NULL if `count` is 0.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad tag), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `tags` has `count` items of the lengths that they say.
unstale_result unstale_cache_invalidate_tags(unstale_cache *cache,
                                             const unstale_str *tags,
                                             size_t count,
                                             unstale_receipt **receipt);

// Removes every entry whose key starts with `prefix` (1 to 1,024 bytes), here and everywhere else.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad prefix), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache; `prefix` has `prefix_len` bytes.
unstale_result unstale_cache_invalidate_prefix(unstale_cache *cache,
                                               const char *prefix,
                                               size_t prefix_len,
                                               unstale_receipt **receipt);

// Removes everything, here and everywhere else. Takes the same few microseconds for a million entries as for none.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache.
unstale_result unstale_cache_invalidate_all(unstale_cache *cache,
                                            unstale_receipt **receipt);

// The token that names this invalidation, fit for an HTTP header: another process gives it to
// `unstale_client_wait_for` to read what was written here. `token` is freed with `unstale_string_free`.
//
// Errors: `UNSTALE_INVALID_ARGUMENT`.
//
// The caller's part:
// `token` is writable.
unstale_result unstale_receipt_token(unstale_receipt *receipt,
                                     char **token);

// Whether `unstale_cache_update` stored its value here; false for one that was an invalidation only, and for
// `invalidate…`.
//
// Errors: `UNSTALE_INVALID_ARGUMENT`.
//
// The caller's part:
// `stored` is writable.
unstale_result unstale_receipt_stored(unstale_receipt *receipt,
                                      bool *stored);

// Waits, for at most `timeout_ms` (0 to ten years), until the broker has acknowledged the message. `delivered` is
// false when the time ran out first (0: only looks), or the client was closed.
//
// Errors: `UNSTALE_INVALID_ARGUMENT`.
//
// The caller's part:
// `delivered` is writable.
unstale_result unstale_receipt_wait(unstale_receipt *receipt,
                                    uint64_t timeout_ms,
                                    bool *delivered);

// Frees the receipt. NULL, or one freed before: does nothing.
void unstale_receipt_free(unstale_receipt *receipt);

// Takes a lease. Take it before you read the source, then `unstale_cache_set` with it: if the key, or a tag or
// dependency given there, was invalidated in between, the value is not stored. For `unstale_cache_update`, take it
// before you write to the source. Several may be open for one key.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// `cache` is a live cache; `key` has `key_len` bytes.
unstale_result unstale_cache_lease(unstale_cache *cache,
                                   const char *key,
                                   size_t key_len,
                                   unstale_lease **lease);

// Gives the lease back, used or not. NULL, or one freed before: does nothing.
void unstale_lease_free(unstale_lease *lease);

// Gets a key, or loads it by calling `loader` on this thread; if another thread loads it already, waits for that one's
// answer instead (single flight). A value that was invalidated while it was being loaded is returned to those who
// waited for it, but not stored. `options` (or NULL) is what the value is stored with, and is checked before anything
// is loaded.
//
// `value` is released with `unstale_value_release`; not found: `data` is NULL. If this or the joined loader failed,
// the result is `UNSTALE_LOAD` and `failure` (or NULL) says how; its `error` is released by the caller. `failure` is
// written only then.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key or option), `UNSTALE_LOAD`, `UNSTALE_TIMEOUT` (`load_timeout`),
// `UNSTALE_CLOSED`, `UNSTALE_FORKED`. The loader may call the library, but not for the same key of the same cache.
//
// The caller's part:
// The pointers are valid for the lengths given with them; `loader` keeps its contract.
unstale_result unstale_cache_get_or_load(unstale_cache *cache,
                                         const char *key,
                                         size_t key_len,
                                         const unstale_set_options *options,
                                         unstale_loader_fn loader,
                                         void *userdata,
                                         unstale_value *value,
                                         unstale_failure *failure);

// The first half of a read-through for callers that run loads in their own way (another thread, an event loop, another
// language's cancellation): look up, and if it is a miss, become the leader of a load or join the one that runs. Does
// not block. `options` (or NULL) is what the value will be stored with. The caller's loop:
//
//     begin → HIT: value. ABSENT: not found. LEAD: load, then unstale_load_finish or unstale_load_fail.
//             JOIN: unstale_join_wait → VALUE, ABSENT or FAILED: that. AGAIN: begin again.
//                   TIMED_OUT: wait again or give up.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key or option), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
//
// The caller's part:
// The pointers are valid for the lengths given with them.
unstale_result unstale_cache_begin(unstale_cache *cache,
                                   const char *key,
                                   size_t key_len,
                                   const unstale_set_options *options,
                                   unstale_begun *begun);

// Ends a load with its value and frees the handle; whoever joined gets the value. `value` NULL or without data means
// "not found". `stored` (or NULL) becomes false if it was not stored, because an invalidation came meanwhile, or
// because "not found" is not cached.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (a load that was ended before; a bad value, which leaves the load open).
//
// The caller's part:
// `value` is NULL or valid.
unstale_result unstale_load_finish(unstale_load *load,
                                   const unstale_value *value,
                                   bool *stored);

// Ends a load with a failure and frees the handle; whoever joined gets the same code and error.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (a load that was ended before; `failure` NULL or with code 0 or with a bad error,
// which leaves the load open).
//
// The caller's part:
// `failure` is NULL or valid.
unstale_result unstale_load_fail(unstale_load *load,
                                 const unstale_failure *failure);

// Gives a load up and frees the handle; whoever joined begins again. NULL, or one ended before: does nothing.
void unstale_load_abandon(unstale_load *load);

// Waits until the joined load ends, for at most `timeout_ms` (0: only looks; `UNSTALE_NO_LIMIT`: no limit). Several
// threads may wait with one join, and it may wait again; each answer's `value` or `failure.error` is released apart.
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a freed join, a wait in the loader of the same load).
//
// The caller's part:
// `joined` is writable.
unstale_result unstale_join_wait(unstale_join *join,
                                 uint64_t timeout_ms,
                                 unstale_joined *joined);

// Frees a join; threads that wait with it go on. NULL, or one freed before: does nothing.
void unstale_join_free(unstale_join *join);

// Ends a subscription and frees the handle. No call of its callback starts after this returned; one that runs right
// now on another thread goes on, and `userdata_free` is called when it is over. May be called from the callback. NULL,
// or one cancelled before: does nothing.
void unstale_subscription_cancel(unstale_subscription *subscription);

// Sends log records of `max_level` (a number of `unstale_log_level`) and graver to `callback`, for the whole process,
// in place of the callback set before. `UNSTALE_LOG_OFF` or a NULL callback ends it. Quiet by default; each condition
// is logged at most once a minute.
//
// The callback is called on a thread of its own, one record at a time, and may call the library. 1,000 records wait
// for a slow one; beyond, the newest are dropped, and how many is logged. When this returns, the callback set before
// has had all its records, is not called any more and its `userdata` is freed (from within the callback itself: right
// after it returns).
//
// Errors: `UNSTALE_INVALID_ARGUMENT` (no such level).
//
// The caller's part:
// `callback` and `userdata_free` may be called with `userdata` on any thread.
unstale_result unstale_set_log(uint32_t max_level,
                               unstale_log_fn callback,
                               void *userdata,
                               unstale_free_fn userdata_free);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* UNSTALE_H */

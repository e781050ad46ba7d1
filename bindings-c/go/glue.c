#include <stdlib.h>

#include "_cgo_export.h"
#include "glue.h"

// ---- Freed values -------------------------------------------------------------------------------------------------------

us_shard us_shards[US_SHARDS];

uint32_t *us_grow(uint32_t shard, uint32_t k) {
    uint32_t *next = calloc((size_t)US_FIRST_SEGMENT << k, sizeof *next);
    us_shards[shard].next[k] = next;
    return next;
}

void us_free(void *userdata) {
    uint32_t index = (uint32_t)(uintptr_t)userdata;
    us_shard *shard = &us_shards[index & (US_SHARDS - 1)];
    uint32_t slot = index >> US_SHARD_BITS;
    // Segment k begins at slot US_FIRST_SEGMENT * (2^k - 1).
    uint32_t k = 31 - (uint32_t)__builtin_clz(slot / US_FIRST_SEGMENT + 1);
    uint32_t *next = &shard->next[k][slot - US_FIRST_SEGMENT * ((1u << k) - 1)];
    uint32_t head = __atomic_load_n(&shard->head, __ATOMIC_RELAXED);
    do {
        *next = head;
    } while (!__atomic_compare_exchange_n(&shard->head, &head, slot + 1, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

// ---- Helpers ------------------------------------------------------------------------------------------------------------

#define CLIENT(handle) ((unstale_client *)(handle))
#define CACHE(handle) ((unstale_cache *)(handle))

static const unstale_result OK = {UNSTALE_OK, 0};
static const unstale_result NO_MEMORY = {UNSTALE_INTERNAL, 0};

static unstale_result value_of(uint64_t number, unstale_value *value) {
    return unstale_value_new((void *)(uintptr_t)number, 0, us_free, (void *)(uintptr_t)number, value);
}

// The texts as the library wants them; few ones without an allocation.
typedef struct {
    unstale_str few[16];
    unstale_str *all;
} us_texts;

static bool texts_of(us_texts *texts, const char *text, const size_t *lens, size_t count) {
    texts->all = texts->few;
    if (count > sizeof texts->few / sizeof texts->few[0]) {
        texts->all = malloc(count * sizeof *texts->all);
        if (texts->all == NULL) return false;
    }
    for (size_t i = 0; i < count; i++) {
        texts->all[i].data = text;
        texts->all[i].len = lens[i];
        text += lens[i];
    }
    return true;
}

static void texts_free(us_texts *texts) {
    if (texts->all != texts->few) free(texts->all);
}

static unstale_set_options options_of(const us_terms *terms, const us_texts *texts) {
    unstale_set_options options = {0};
    options.ttl_ms = terms->ttl_ms;
    options.tags = texts->all;
    options.tags_len = terms->tags;
    options.depends_on = texts->all + terms->tags;
    options.depends_on_len = terms->depends_on;
    options.version = terms->version;
    options.lease = (unstale_lease *)terms->lease;
    options.has_version = terms->has_version;
    return options;
}

// ---- Clients ------------------------------------------------------------------------------------------------------------

unstale_result us_connect(const char *config, uintptr_t *client) {
    unstale_client *made = NULL;
    unstale_result result = unstale_client_connect(config, &made);
    *client = (uintptr_t)made;
    return result;
}

unstale_result us_open(uintptr_t client, const char *ns, const char *config, uintptr_t *cache) {
    unstale_cache *made = NULL;
    unstale_result result = unstale_client_cache(CLIENT(client), ns, config, &made);
    *cache = (uintptr_t)made;
    return result;
}

unstale_result us_status(uintptr_t client, char **json) { return unstale_client_status(CLIENT(client), json); }

unstale_result us_stats(uintptr_t cache, char **json) { return unstale_cache_stats(CACHE(cache), json); }

unstale_result us_close(uintptr_t client, uint64_t timeout_ms, size_t *unsent) {
    return unstale_client_close(CLIENT(client), timeout_ms, unsent);
}

us_bool us_wait_for(uintptr_t client, const char *token, uint64_t timeout_ms) {
    us_bool answer = {OK, false};
    answer.result = unstale_client_wait_for(CLIENT(client), token, timeout_ms, &answer.flag);
    return answer;
}

// ---- Entries ------------------------------------------------------------------------------------------------------------

size_t us_nothing(uintptr_t cache, const char *key, size_t len) { return cache + (uintptr_t)key + len; }

size_t us_peek(uintptr_t cache, const char *key, size_t len) { return unstale_cache_peek(CACHE(cache), key, len); }

us_begun us_get(uintptr_t cache, const char *key, size_t len) {
    us_begun answer = {0};
    unstale_value value = {NULL, 0, NULL};
    answer.result = unstale_cache_get(CACHE(cache), key, len, &value);
    answer.number = (uintptr_t)value.data;
    answer.owner = (uintptr_t)value.owner;
    return answer;
}

us_bool us_contains(uintptr_t cache, const char *key, size_t len) {
    us_bool answer = {OK, false};
    answer.result = unstale_cache_contains(CACHE(cache), key, len, &answer.flag);
    return answer;
}

us_bool us_set(uintptr_t cache, const char *key, size_t len, uint64_t number) {
    us_bool answer = {OK, false};
    unstale_value value;
    answer.result = value_of(number, &value);
    if (answer.result.code == UNSTALE_OK) {
        answer.result = unstale_cache_set(CACHE(cache), key, len, &value, NULL, &answer.flag);
        unstale_value_release(&value);
    }
    return answer;
}

us_bool us_set_with(uintptr_t cache, const char *key, size_t len, uint64_t number, const us_terms *terms, const char *text, const size_t *lens) {
    us_bool answer = {OK, false};
    unstale_value value;
    us_texts texts;
    answer.result = value_of(number, &value);
    if (answer.result.code != UNSTALE_OK) return answer;
    if (texts_of(&texts, text, lens, terms->tags + terms->depends_on)) {
        unstale_set_options options = options_of(terms, &texts);
        answer.result = unstale_cache_set(CACHE(cache), key, len, &value, &options, &answer.flag);
        texts_free(&texts);
    } else {
        answer.result = NO_MEMORY;
    }
    unstale_value_release(&value);
    return answer;
}

us_made us_update(uintptr_t cache, const char *key, size_t len, uint64_t number, const us_terms *terms, const char *text, const size_t *lens) {
    us_made made = {OK, 0, false};
    unstale_value value;
    us_texts texts;
    made.result = value_of(number, &value);
    if (made.result.code != UNSTALE_OK) return made;
    if (texts_of(&texts, text, lens, terms->tags + terms->depends_on)) {
        unstale_set_options options = options_of(terms, &texts);
        unstale_receipt *receipt = NULL;
        made.result = unstale_cache_update(CACHE(cache), key, len, &value, &options, &receipt);
        if (made.result.code == UNSTALE_OK) {
            made.receipt = (uintptr_t)receipt;
            unstale_receipt_stored(receipt, &made.stored);
        }
        texts_free(&texts);
    } else {
        made.result = NO_MEMORY;
    }
    unstale_value_release(&value);
    return made;
}

unstale_result us_clear_local(uintptr_t cache) { return unstale_cache_clear_local(CACHE(cache)); }

size_t us_len(uintptr_t cache) { return unstale_cache_len(CACHE(cache)); }

uint64_t us_load_timeout(uintptr_t cache) { return unstale_cache_load_timeout(CACHE(cache)); }

us_bool us_evict(uintptr_t cache, const char *key, size_t len) {
    us_bool answer = {OK, false};
    answer.result = unstale_cache_evict(CACHE(cache), key, len, &answer.flag);
    return answer;
}

// ---- Invalidations ------------------------------------------------------------------------------------------------------

#define MADE(call)                           \
    do {                                     \
        unstale_receipt *receipt = NULL;     \
        us_made made = {OK, 0, false};       \
        made.result = (call);                \
        made.receipt = (uintptr_t)receipt;   \
        return made;                         \
    } while (0)

us_made us_invalidate(uintptr_t cache, const char *key, size_t len) {
    MADE(unstale_cache_invalidate(CACHE(cache), key, len, &receipt));
}

us_made us_invalidate_version(uintptr_t cache, const char *key, size_t len, uint64_t version) {
    MADE(unstale_cache_invalidate_version(CACHE(cache), key, len, version, &receipt));
}

us_made us_invalidate_many(uintptr_t cache, const char *text, const size_t *lens, const uint64_t *versions, size_t count) {
    us_made made = {NO_MEMORY, 0, false};
    unstale_key_version *items = calloc(count + 1, sizeof *items);
    if (items == NULL) return made;
    for (size_t i = 0; i < count; i++) {
        items[i].key = text;
        items[i].key_len = lens[i];
        items[i].version = versions[i];
        items[i].has_version = versions[i] != UINT64_MAX;
        text += lens[i];
    }
    unstale_receipt *receipt = NULL;
    made.result = unstale_cache_invalidate_many(CACHE(cache), items, count, &receipt);
    made.receipt = (uintptr_t)receipt;
    free(items);
    return made;
}

us_made us_invalidate_tags(uintptr_t cache, const char *text, const size_t *lens, size_t count) {
    us_made made = {NO_MEMORY, 0, false};
    us_texts texts;
    if (!texts_of(&texts, text, lens, count)) return made;
    unstale_receipt *receipt = NULL;
    made.result = unstale_cache_invalidate_tags(CACHE(cache), texts.all, count, &receipt);
    made.receipt = (uintptr_t)receipt;
    texts_free(&texts);
    return made;
}

us_made us_invalidate_prefix(uintptr_t cache, const char *prefix, size_t len) {
    MADE(unstale_cache_invalidate_prefix(CACHE(cache), prefix, len, &receipt));
}

us_made us_invalidate_all(uintptr_t cache) { MADE(unstale_cache_invalidate_all(CACHE(cache), &receipt)); }

us_bool us_receipt_wait(uintptr_t receipt, uint64_t timeout_ms) {
    us_bool answer = {OK, false};
    answer.result = unstale_receipt_wait((unstale_receipt *)receipt, timeout_ms, &answer.flag);
    return answer;
}

unstale_result us_receipt_token(uintptr_t receipt, char **token) {
    return unstale_receipt_token((unstale_receipt *)receipt, token);
}

// ---- Loads and leases ---------------------------------------------------------------------------------------------------

us_handle us_lease(uintptr_t cache, const char *key, size_t len) {
    us_handle made = {OK, 0};
    unstale_lease *lease = NULL;
    made.result = unstale_cache_lease(CACHE(cache), key, len, &lease);
    made.handle = (uintptr_t)lease;
    return made;
}

us_begun us_begin(uintptr_t cache, const char *key, size_t len, const us_terms *terms, const char *text, const size_t *lens, bool hold) {
    us_begun answer = {0};
    unstale_begun begun;
    if (terms == NULL) {
        answer.result = unstale_cache_begin(CACHE(cache), key, len, NULL, &begun);
    } else {
        us_texts texts;
        if (!texts_of(&texts, text, lens, terms->tags + terms->depends_on)) {
            answer.result = NO_MEMORY;
            return answer;
        }
        unstale_set_options options = options_of(terms, &texts);
        answer.result = unstale_cache_begin(CACHE(cache), key, len, &options, &begun);
        texts_free(&texts);
    }
    if (answer.result.code != UNSTALE_OK) return answer;
    answer.state = begun.state;
    answer.load_id = begun.load_id;
    switch (begun.state) {
        case UNSTALE_BEGIN_HIT:
            answer.number = (uintptr_t)begun.value.data;
            if (hold) {
                answer.owner = (uintptr_t)begun.value.owner;
            } else {
                unstale_value_release(&begun.value);
            }
            break;
        case UNSTALE_BEGIN_LEAD: answer.handle = (uintptr_t)begun.load; break;
        case UNSTALE_BEGIN_JOIN: answer.handle = (uintptr_t)begun.join; break;
        default: break;
    }
    return answer;
}

void us_load_finish(uintptr_t load, uint64_t number) {
    unstale_value value;
    if (number == 0) {
        unstale_load_finish((unstale_load *)load, NULL, NULL);
    } else if (value_of(number, &value).code == UNSTALE_OK) {
        unstale_load_finish((unstale_load *)load, &value, NULL);
        unstale_value_release(&value);
    }
}

void us_load_fail(uintptr_t load, uint64_t number) {
    unstale_failure failure = {1, {NULL, 0, NULL}};
    if (value_of(number, &failure.error).code == UNSTALE_OK) {
        unstale_load_fail((unstale_load *)load, &failure);
        unstale_value_release(&failure.error);
    }
}

us_joined us_join_look(uintptr_t join) {
    us_joined answer = {0, 0, UNSTALE_JOIN_AGAIN};
    unstale_joined joined;
    if (unstale_join_wait((unstale_join *)join, 0, &joined).code != UNSTALE_OK) return answer;
    // At most one of the two is a value.
    unstale_value *value = joined.state == UNSTALE_JOIN_FAILED ? &joined.failure.error : &joined.value;
    answer.number = (uintptr_t)value->data;
    answer.owner = (uintptr_t)value->owner;
    answer.state = joined.state;
    return answer;
}

void us_release(uint64_t number, uintptr_t owner) {
    unstale_value value = {(void *)(uintptr_t)number, 0, (unstale_owner *)owner};
    unstale_value_release(&value);
}

// ---- Events and log -----------------------------------------------------------------------------------------------------

static void on_event(void *userdata, const char *json, size_t len) {
    unstaleGoEvent((uint64_t)(uintptr_t)userdata, (char *)json, len);
}

static void on_log(void *userdata, uint32_t level, const char *target, const char *message) {
    (void)userdata;
    unstaleGoLog(level, (char *)target, (char *)message);
}

us_handle us_on_status(uintptr_t client, uint64_t number) {
    us_handle made = {OK, 0};
    unstale_subscription *subscription = NULL;
    made.result = unstale_client_on_status(CLIENT(client), on_event, (void *)(uintptr_t)number, us_free, &subscription);
    made.handle = (uintptr_t)subscription;
    return made;
}

us_handle us_on_invalidated(uintptr_t cache, uint64_t number) {
    us_handle made = {OK, 0};
    unstale_subscription *subscription = NULL;
    made.result = unstale_cache_on_invalidated(CACHE(cache), on_event, (void *)(uintptr_t)number, us_free, &subscription);
    made.handle = (uintptr_t)subscription;
    return made;
}

unstale_result us_set_log(uint32_t level) { return unstale_set_log(level, level == UNSTALE_LOG_OFF ? NULL : on_log, NULL, NULL); }

// ---- Ends ---------------------------------------------------------------------------------------------------------------

void us_client_free(uintptr_t client) { unstale_client_free(CLIENT(client)); }
void us_cache_free(uintptr_t cache) { unstale_cache_free(CACHE(cache)); }
void us_receipt_free(uintptr_t receipt) { unstale_receipt_free((unstale_receipt *)receipt); }
void us_lease_free(uintptr_t lease) { unstale_lease_free((unstale_lease *)lease); }
void us_load_abandon(uintptr_t load) { unstale_load_abandon((unstale_load *)load); }
void us_join_free(uintptr_t join) { unstale_join_free((unstale_join *)join); }
void us_cancel(uintptr_t subscription) { unstale_subscription_cancel((unstale_subscription *)subscription); }

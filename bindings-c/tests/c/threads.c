/* Many threads on one cache, with live values: none is freed twice, early or never. */
#include "check.h"

#define THREADS 6
#define ROUNDS 3000
#define KEYS 32

static unstale_cache *cache;
static counter made = COUNTER_INIT, freed = COUNTER_INIT;

/* A live value that knows whether it lives. */
typedef struct object {
    uint32_t alive;
    uint32_t key;
} object;

static void object_free(void *userdata) {
    object *o = (object *)userdata;
    CHECK(o->alive == 0x600d);
    o->alive = 0xdead;
    free(o);
    counter_add(&freed);
}

static int32_t make(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    object *o = (object *)malloc(sizeof *o);
    (void)userdata;
    o->alive = 0x600d;
    o->key = (uint32_t)strtoul(key + key_len - 2, NULL, 10);
    counter_add(&made);
    return (int32_t)unstale_value_new(o, sizeof *o, object_free, o, value).code;
}

static unsigned next_random(unsigned *state) {
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

static void look(const unstale_value *value, unsigned key) {
    if (value->data == NULL) return;
    const object *o = (const object *)value->data;
    CHECK(value->len == sizeof *o && o->alive == 0x600d && o->key == key);
}

static void *work(void *userdata) {
    unsigned state = *(unsigned *)userdata;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned k = next_random(&state) % KEYS;
        char key[16];
        unstale_value value;
        snprintf(key, sizeof key, "key:%02u", k);
        switch (next_random(&state) % 10) {
            case 0: OK(unstale_cache_invalidate(cache, KEY(key), NULL)); break;
            case 1: OK(unstale_cache_evict(cache, KEY(key), NULL)); break;
            case 2: {
                unstale_set_options options = no_options();
                OK(unstale_cache_lease(cache, KEY(key), &options.lease));
                CHECK(make(NULL, KEY(key), &value) == 0);
                OK(unstale_cache_set(cache, KEY(key), &value, &options, NULL));
                unstale_value_release(&value);
                unstale_lease_free(options.lease);
                break;
            }
            case 3: {
                unstale_begun begun;
                OK(unstale_cache_begin(cache, KEY(key), NULL, &begun));
                if (begun.state == UNSTALE_BEGIN_HIT) look(&begun.value, k);
                unstale_value_release(&begun.value);
                unstale_load_abandon(begun.load);
                unstale_join_free(begun.join);
                break;
            }
            case 4: {
                unstale_receipt *receipt = NULL;
                char *token = NULL;
                OK(unstale_cache_invalidate_prefix(cache, KEY("key:0"), &receipt));
                OK(unstale_receipt_token(receipt, &token));
                unstale_string_free(token);
                unstale_receipt_free(receipt);
                break;
            }
            case 5:
            case 6:
                OK(unstale_cache_get_or_load(cache, KEY(key), NULL, make, NULL, &value, NULL));
                CHECK(value.data != NULL);
                look(&value, k);
                unstale_value_release(&value);
                break;
            default:
                OK(unstale_cache_get(cache, KEY(key), &value));
                look(&value, k);
                unstale_value_release(&value);
        }
    }
    return NULL;
}

static void values_live_exactly_as_long_as_somebody_holds_them(void) {
    unstale_client *client = connect_to("{\"url\": \"memory://threads\"}");
    pthread_t threads[THREADS];
    unsigned seeds[THREADS];
    cache = open_cache(client, "threads", "{\"max_entries\": 20}");
    for (int i = 0; i < THREADS; i++) {
        seeds[i] = (unsigned)i + 1;
        CHECK(pthread_create(&threads[i], NULL, work, &seeds[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK(counter_get(&made) > 0);
    finish(client, cache);
    EVENTUALLY(counter_get(&freed) == counter_get(&made));
}

static void *use_until_closed(void *userdata) {
    unstale_value value;
    (void)userdata;
    for (;;) {
        unstale_result result = unstale_cache_get_or_load(cache, KEY("key:01"), NULL, make, NULL, &value, NULL);
        if (result.code == UNSTALE_CLOSED) return NULL;
        OK(result);
        unstale_value_release(&value);
        result = unstale_cache_invalidate(cache, KEY("key:01"), NULL);
        if (result.code == UNSTALE_CLOSED) return NULL;
        OK(result);
    }
}

static void a_client_may_be_closed_while_others_use_it(void) {
    unstale_client *client = connect_to("{\"url\": \"memory://threads\"}");
    pthread_t threads[THREADS];
    cache = open_cache(client, "closing", NULL);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, use_until_closed, NULL) == 0);
    for (int i = 0; i < 20; i++) check_pause_1ms();
    OK(unstale_client_close(client, 1000, NULL));
    OK(unstale_client_close(client, 1000, NULL));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    unstale_cache_free(cache);
    unstale_client_free(client);
    EVENTUALLY(counter_get(&freed) == counter_get(&made));
}

CHECK_MAIN(TEST(values_live_exactly_as_long_as_somebody_holds_them), TEST(a_client_may_be_closed_while_others_use_it))

/* Every function with everything wrong: a documented error, and nothing changes. */
#include "check.h"

static unstale_client *client;
static unstale_cache *cache;

/* Outputs that a failing call must leave alone. */
typedef struct outputs {
    unstale_value value;
    unstale_begun begun;
    unstale_joined joined;
    unstale_receipt *receipt;
    unstale_lease *lease;
    unstale_cache *cache;
    unstale_client *client;
    unstale_subscription *subscription;
    char *string;
    size_t number;
    bool flag;
} outputs;

static outputs out, untouched;

static void begin(const char *ns) {
    client = connect_to("{\"url\": \"memory://bad-input\"}");
    cache = open_cache(client, ns, NULL);
    memset(&out, 0xa5, sizeof out);
    memcpy(&untouched, &out, sizeof out);
    put(cache, "kept", "kept");
}

static void end(void) {
    CHECK(memcmp(&out, &untouched, sizeof out) == 0);
    CHECK(holds(cache, "kept", "kept"));
    CHECK(unstale_cache_len(cache) == 1);
    finish(client, cache);
}

static int loader_calls;

static int32_t count_loads(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    (void)userdata, (void)key, (void)key_len, (void)value;
    loader_calls++;
    return 0;
}

static void hear(void *userdata, const char *json, size_t json_len) { (void)userdata, (void)json, (void)json_len; }

/* Each call that takes a cache and a key, with this cache and key. */
static void every_call_with_a_key(uint32_t wanted, unstale_cache *c, const char *key, size_t len) {
    unstale_value value = value_of("v");
    unstale_set_options options = no_options();
    unstale_key_version item;
    memset(&item, 0, sizeof item);
    item.key = key, item.key_len = len;
    CHECK_CODE(wanted, unstale_cache_get(c, key, len, &out.value));
    CHECK(unstale_cache_peek(c, key, len) == 0);
    CHECK_CODE(wanted, unstale_cache_contains(c, key, len, &out.flag));
    CHECK_CODE(wanted, unstale_cache_set(c, key, len, &value, NULL, &out.flag));
    CHECK_CODE(wanted, unstale_cache_evict(c, key, len, &out.flag));
    CHECK_CODE(wanted, unstale_cache_lease(c, key, len, &out.lease));
    CHECK_CODE(wanted, unstale_cache_invalidate(c, key, len, &out.receipt));
    CHECK_CODE(wanted, unstale_cache_invalidate_version(c, key, len, 1, &out.receipt));
    CHECK_CODE(wanted, unstale_cache_invalidate_many(c, &item, 1, &out.receipt));
    CHECK_CODE(wanted, unstale_cache_begin(c, key, len, NULL, &out.begun));
    CHECK_CODE(wanted, unstale_cache_get_or_load(c, key, len, NULL, count_loads, NULL, &out.value, NULL));
    options.has_version = 1;
    CHECK_CODE(wanted, unstale_cache_update(c, key, len, &value, &options, &out.receipt));
    CHECK(loader_calls == 0);
}

/* Each call that takes a cache, but no key. */
static void every_call_without_a_key(uint32_t wanted, unstale_cache *c) {
    unstale_str tag = str_of("t");
    CHECK_CODE(wanted, unstale_cache_clear_local(c));
    CHECK_CODE(wanted, unstale_cache_invalidate_tags(c, &tag, 1, &out.receipt));
    CHECK_CODE(wanted, unstale_cache_invalidate_prefix(c, KEY("p"), &out.receipt));
    CHECK_CODE(wanted, unstale_cache_invalidate_all(c, &out.receipt));
}

static void keys_that_are_none(void) {
    char long_key[1025];
    begin("keys");
    memset(long_key, 'k', sizeof long_key);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, NULL, 3);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, NULL, 0);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "", 0);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, long_key, sizeof long_key);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "a\0b", 3);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "\xff\xfe", 2);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "\xed\xa0\x80", 3); /* a surrogate */
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "cut \xc3", 5);     /* half a character */
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, "huge", SIZE_MAX);
    CHECK_CODE(UNSTALE_OK, unstale_cache_evict(cache, long_key, 1024, NULL)); /* the longest that is one */
    INVALID(unstale_cache_invalidate_prefix(cache, "", 0, &out.receipt));
    INVALID(unstale_cache_invalidate_prefix(cache, NULL, 4, &out.receipt));
    INVALID(unstale_cache_invalidate_prefix(cache, "\xff", 1, &out.receipt));
    INVALID(unstale_cache_invalidate_prefix(cache, long_key, sizeof long_key, &out.receipt));
    end();
}

static void a_message_names_the_argument(void) {
    begin("messages");
    CHECK(strstr(message_of(unstale_cache_get(NULL, KEY("k"), &out.value)), "cache is NULL"));
    CHECK(strstr(message_of(unstale_cache_get(cache, NULL, 1, &out.value)), "key is NULL"));
    CHECK(strstr(message_of(unstale_cache_get(cache, KEY("k"), NULL)), "value is NULL"));
    CHECK(strstr(message_of(unstale_cache_get(cache, "ab\xff", 3, &out.value)), "key is not UTF-8 (at byte 2)"));
    unstale_str tags[2] = {{"good", 4}, {NULL, 4}};
    CHECK(strstr(message_of(unstale_cache_invalidate_tags(cache, tags, 2, &out.receipt)), "tags[1] is NULL"));
    unstale_cache_free(NULL);
    end();
}

static void null_caches_and_clients(void) {
    begin("null");
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, NULL, KEY("kept"));
    every_call_without_a_key(UNSTALE_INVALID_ARGUMENT, NULL);
    INVALID(unstale_cache_stats(NULL, &out.string));
    INVALID(unstale_cache_on_invalidated(NULL, hear, NULL, NULL, &out.subscription));
    INVALID(unstale_client_cache(NULL, "ns", NULL, &out.cache));
    INVALID(unstale_client_status(NULL, &out.string));
    INVALID(unstale_client_on_status(NULL, hear, NULL, NULL, &out.subscription));
    INVALID(unstale_client_wait_for(NULL, "u1:a:1:", 0, &out.flag));
    INVALID(unstale_client_close(NULL, 0, &out.number));
    CHECK(unstale_cache_len(NULL) == 0);
    CHECK(unstale_cache_load_timeout(NULL) == UNSTALE_NO_LIMIT);
    end();
}

static void null_outputs_and_inputs(void) {
    unstale_value value = value_of("v"), none;
    memset(&none, 0, sizeof none);
    begin("outputs");
    INVALID(unstale_cache_get(cache, KEY("kept"), NULL));
    INVALID(unstale_cache_contains(cache, KEY("kept"), NULL));
    INVALID(unstale_cache_lease(cache, KEY("k"), NULL));
    INVALID(unstale_cache_begin(cache, KEY("k"), NULL, NULL));
    INVALID(unstale_cache_stats(cache, NULL));
    INVALID(unstale_client_status(client, NULL));
    INVALID(unstale_client_cache(client, "ns", NULL, NULL));
    INVALID(unstale_client_cache(client, NULL, NULL, &out.cache));
    INVALID(unstale_client_connect(NULL, NULL));
    INVALID(unstale_client_wait_for(client, NULL, 0, &out.flag));
    INVALID(unstale_client_wait_for(client, "u1:a:1:", 0, NULL));
    INVALID(unstale_cache_set(cache, KEY("k"), NULL, NULL, &out.flag));
    INVALID(unstale_cache_set(cache, KEY("k"), &none, NULL, &out.flag));
    INVALID(unstale_cache_update(cache, KEY("k"), NULL, NULL, &out.receipt));
    INVALID(unstale_cache_get_or_load(cache, KEY("k"), NULL, NULL, NULL, &out.value, NULL));
    INVALID(unstale_cache_get_or_load(cache, KEY("k"), NULL, count_loads, NULL, NULL, NULL));
    INVALID(unstale_cache_invalidate_many(cache, NULL, 1, &out.receipt));
    INVALID(unstale_cache_invalidate_tags(cache, NULL, 1, &out.receipt));
    INVALID(unstale_cache_on_invalidated(cache, NULL, NULL, NULL, &out.subscription));
    INVALID(unstale_client_on_status(client, NULL, NULL, NULL, &out.subscription));
    value.len = SIZE_MAX;
    INVALID(unstale_cache_set(cache, KEY("k"), &value, NULL, &out.flag));
    CHECK(loader_calls == 0);
    end();
}

static void strings_that_are_not_utf8(void) {
    begin("utf8");
    INVALID(unstale_client_connect("{\"url\": \"memory://\xff\"}", &out.client));
    INVALID(unstale_client_cache(client, "ns\xff", NULL, &out.cache));
    INVALID(unstale_client_cache(client, "ns", "{\"ttl\": \"\xff\"}", &out.cache));
    INVALID(unstale_client_wait_for(client, "u1:\xff", 0, &out.flag));
    end();
}

static void options_out_of_range(void) {
    unstale_value value = value_of("v");
    unstale_set_options options;
    unstale_str text = {"", 0};
    begin("options");
    for (int i = 0; i < 8; i++) {
        options = no_options();
        switch (i) {
            case 0: options.ttl_ms = UINT64_MAX; break;
            case 1: options.ttl_ms = 400ull * 365 * 24 * 3600 * 1000; break;
            case 2: options.has_version = 1, options.version = 1ull << 53; break;
            case 3: options.tags = &text, options.tags_len = 1; break;
            case 4: options.depends_on = &text, options.depends_on_len = 1; break;
            case 5: options.tags_len = 1; break;
            case 6: options.depends_on = &text, options.depends_on_len = SIZE_MAX; break;
            default: options.reserved[3] = 1;
        }
        INVALID(unstale_cache_set(cache, KEY("k"), &value, &options, &out.flag));
        INVALID(unstale_cache_begin(cache, KEY("k"), &options, &out.begun));
        INVALID(unstale_cache_get_or_load(cache, KEY("k"), &options, count_loads, NULL, &out.value, NULL));
        options.has_version = 1;
        INVALID(unstale_cache_update(cache, KEY("kept"), &value, &options, &out.receipt));
    }
    INVALID(unstale_cache_invalidate_version(cache, KEY("kept"), 1ull << 53, &out.receipt));
    unstale_key_version item;
    memset(&item, 0, sizeof item);
    item.key = "kept", item.key_len = 4, item.reserved[0] = 9;
    INVALID(unstale_cache_invalidate_many(cache, &item, 1, &out.receipt));
    item.reserved[0] = 0, item.has_version = 1, item.version = UINT64_MAX;
    INVALID(unstale_cache_invalidate_many(cache, &item, 1, &out.receipt));
    INVALID(unstale_client_wait_for(client, "u1:a:1:options", UINT64_MAX, &out.flag));
    INVALID(unstale_client_close(client, UINT64_MAX, &out.number));
    CHECK(loader_calls == 0);
    end();
}

static void handles_that_are_none(void) {
    unstale_set_options options = no_options();
    unstale_value value = value_of("v");
    uintptr_t garbage[] = {1, 2, 3, 4, 5, 4096, (uintptr_t)-1, (uintptr_t)1 << 40};
    begin("garbage");
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        INVALID(unstale_receipt_token((unstale_receipt *)garbage[i], &out.string));
        INVALID(unstale_receipt_stored((unstale_receipt *)garbage[i], &out.flag));
        INVALID(unstale_receipt_wait((unstale_receipt *)garbage[i], 0, &out.flag));
        INVALID(unstale_load_finish((unstale_load *)garbage[i], &value, &out.flag));
        INVALID(unstale_join_wait((unstale_join *)garbage[i], 0, &out.joined));
        options.lease = (unstale_lease *)garbage[i];
        INVALID(unstale_cache_set(cache, KEY("k"), &value, &options, &out.flag));
        unstale_receipt_free((unstale_receipt *)garbage[i]);
        unstale_lease_free((unstale_lease *)garbage[i]);
        unstale_load_abandon((unstale_load *)garbage[i]);
        unstale_join_free((unstale_join *)garbage[i]);
        unstale_subscription_cancel((unstale_subscription *)garbage[i]);
    }
    INVALID(unstale_receipt_token(NULL, &out.string));
    INVALID(unstale_load_finish(NULL, &value, &out.flag));
    INVALID(unstale_join_wait(NULL, 0, &out.joined));
    /* A handle of another kind. */
    unstale_receipt *receipt = NULL;
    OK(unstale_cache_invalidate(cache, KEY("k"), &receipt));
    INVALID(unstale_join_wait((unstale_join *)receipt, 0, &out.joined));
    unstale_lease_free((unstale_lease *)receipt);
    bool delivered = false;
    OK(unstale_receipt_wait(receipt, 0, &delivered));
    INVALID(unstale_receipt_token(receipt, NULL));
    INVALID(unstale_receipt_stored(receipt, NULL));
    INVALID(unstale_receipt_wait(receipt, 0, NULL));
    INVALID(unstale_receipt_wait(receipt, UINT64_MAX, &out.flag));
    unstale_receipt_free(receipt);
    end();
}

static void a_closed_client_says_so(void) {
    char *json = NULL;
    unstale_receipt *receipt = NULL;
    bool delivered = true;
    begin("closed");
    OK(unstale_cache_invalidate(cache, KEY("before"), &receipt));
    OK(unstale_client_close(client, 1000, NULL));
    every_call_with_a_key(UNSTALE_CLOSED, cache, KEY("kept"));
    every_call_without_a_key(UNSTALE_CLOSED, cache);
    CHECK_CODE(UNSTALE_CLOSED, unstale_client_cache(client, "late", NULL, &out.cache));
    CHECK_CODE(UNSTALE_CLOSED, unstale_client_wait_for(client, "u1:a:1:closed", 0, &out.flag));
    OK(unstale_client_close(client, 0, NULL));
    OK(unstale_receipt_wait(receipt, 0, &delivered));
    OK(unstale_client_status(client, &json));
    CHECK(strstr(json, "\"state\":\"closed\""));
    unstale_string_free(json);
    OK(unstale_cache_stats(cache, &json));
    unstale_string_free(json);
    unstale_receipt_free(receipt);
    CHECK(memcmp(&out, &untouched, sizeof out) == 0);
    unstale_cache_free(cache);
    unstale_client_free(client);
}

static void freed_handles_are_noticed(void) {
    begin("freed");
    OK(unstale_client_close(client, 1000, NULL));
    unstale_cache_free(cache);
    every_call_with_a_key(UNSTALE_INVALID_ARGUMENT, cache, KEY("kept"));
    every_call_without_a_key(UNSTALE_INVALID_ARGUMENT, cache);
    INVALID(unstale_cache_stats(cache, &out.string));
    CHECK(unstale_cache_len(cache) == 0);
    CHECK(unstale_cache_load_timeout(cache) == UNSTALE_NO_LIMIT);
    unstale_cache_free(cache);
    unstale_client_free(client);
    INVALID(unstale_client_cache(client, "ns", NULL, &out.cache));
    INVALID(unstale_client_status(client, &out.string));
    INVALID(unstale_client_close(client, 0, &out.number));
    unstale_client_free(client);
    CHECK(memcmp(&out, &untouched, sizeof out) == 0);
}

static void handles_may_be_freed_in_any_order(void) {
    unstale_receipt *receipt = NULL;
    unstale_lease *lease = NULL;
    bool flag;
    char *token = NULL;
    client = connect_to("{\"url\": \"memory://bad-input\"}");
    cache = open_cache(client, "order", NULL);
    OK(unstale_cache_invalidate(cache, KEY("k"), &receipt));
    OK(unstale_cache_lease(cache, KEY("k"), &lease));
    unstale_client_free(client); /* the caches keep it going */
    put(cache, "k", "v");
    CHECK(holds(cache, "k", "v"));
    unstale_cache_free(cache);
    OK(unstale_receipt_token(receipt, &token));
    OK(unstale_receipt_wait(receipt, 0, &flag));
    unstale_string_free(token);
    unstale_lease_free(lease);
    unstale_receipt_free(receipt);
}

CHECK_MAIN(TEST(keys_that_are_none), TEST(a_message_names_the_argument), TEST(null_caches_and_clients),
           TEST(null_outputs_and_inputs), TEST(strings_that_are_not_utf8), TEST(options_out_of_range),
           TEST(handles_that_are_none), TEST(a_closed_client_says_so), TEST(freed_handles_are_noticed),
           TEST(handles_may_be_freed_in_any_order))

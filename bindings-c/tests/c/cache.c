/* Storing, looking up, options, invalidating, receipts: one process. */
#include "check.h"

static unstale_client *client;
static unstale_cache *cache;

static void begin(const char *ns) {
    client = connect_to("{\"url\": \"memory://cache\"}");
    cache = open_cache(client, ns, NULL);
}

static void end(void) { finish(client, cache); }

static void what_was_set_is_got(void) {
    unstale_value empty = value_of(""), view;
    begin("set");
    CHECK(holds(cache, "k", NULL));
    put(cache, "k", "one");
    CHECK(holds(cache, "k", "one"));
    put(cache, "k", "two");
    CHECK(holds(cache, "k", "two"));
    OK(unstale_cache_set(cache, KEY("empty"), &empty, NULL, NULL));
    OK(unstale_cache_get(cache, KEY("empty"), &view));
    CHECK(view.data != NULL && view.len == 0);
    unstale_value_release(&view);
    CHECK(unstale_cache_len(cache) == 2);
    end();
}

static void bytes_are_bytes(void) {
    char bytes[256];
    unstale_value value, view;
    begin("bytes");
    for (int i = 0; i < 256; i++) bytes[i] = (char)i;
    value.data = bytes, value.len = sizeof bytes, value.owner = NULL;
    OK(unstale_cache_set(cache, KEY("k"), &value, NULL, NULL));
    OK(unstale_cache_get(cache, KEY("k"), &view));
    CHECK(view.len == 256 && memcmp(view.data, bytes, 256) == 0);
    unstale_value_release(&view);
    end();
}

static void a_key_is_bytes_with_a_length(void) {
    begin("key-length");
    put(cache, "user:42", "whole");
    unstale_value view;
    OK(unstale_cache_get(cache, "user:42 and more", 7, &view));
    CHECK(view.data != NULL);
    unstale_value_release(&view);
    OK(unstale_cache_get(cache, "user:42", 6, &view));
    CHECK(view.data == NULL);
    put(cache, "clé", "é");
    CHECK(holds(cache, "clé", "é"));
    end();
}

static void contains_and_peek_agree_with_get(void) {
    bool contained = true;
    begin("contains");
    OK(unstale_cache_contains(cache, KEY("k"), &contained));
    CHECK(!contained && unstale_cache_peek(cache, KEY("k")) == 0);
    put(cache, "k", "v");
    OK(unstale_cache_contains(cache, KEY("k"), &contained));
    CHECK(contained && unstale_cache_peek(cache, KEY("k")) != 0);
    end();
}

static void evict_and_clear_local_are_local(void) {
    unstale_client *other = connect_to("{\"url\": \"memory://cache\"}");
    unstale_cache *there = open_cache(other, "evict", NULL);
    bool held = false, reached = false;
    unstale_receipt *receipt = NULL;
    char *token = NULL;
    begin("evict");
    settle(other);
    put(cache, "a", "1");
    put(cache, "b", "1");
    put(there, "a", "1");
    put(there, "b", "1");
    OK(unstale_cache_evict(cache, KEY("a"), &held));
    CHECK(held);
    OK(unstale_cache_evict(cache, KEY("a"), &held));
    CHECK(!held);
    OK(unstale_cache_evict(cache, KEY("b"), NULL));
    put(cache, "b", "2");
    OK(unstale_cache_clear_local(cache));
    CHECK(holds(cache, "b", NULL));
    /* Whatever had been published would have come before this. */
    OK(unstale_cache_invalidate(cache, KEY("other"), &receipt));
    OK(unstale_receipt_token(receipt, &token));
    OK(unstale_client_wait_for(other, token, 5000, &reached));
    CHECK(reached && holds(there, "a", "1") && holds(there, "b", "1"));
    unstale_string_free(token);
    unstale_receipt_free(receipt);
    finish(other, there);
    end();
}

static void an_entry_lives_for_its_ttl(void) {
    unstale_set_options options = no_options();
    unstale_value value = value_of("short");
    begin("ttl");
    options.ttl_ms = 30;
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, NULL));
    EVENTUALLY(holds(cache, "k", NULL));
    options.ttl_ms = 600000;
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, NULL));
    CHECK(holds(cache, "k", "short"));
    end();
}

static void tags_and_dependencies_make_an_entry_fall(void) {
    unstale_str tags[2], keys[1], gone;
    unstale_set_options options = no_options();
    unstale_value value = value_of("v");
    begin("tags");
    tags[0] = str_of("team:1"), tags[1] = str_of("region:eu"), keys[0] = str_of("user:42");
    options.tags = tags, options.tags_len = 2, options.depends_on = keys, options.depends_on_len = 1;
    const char *falls[] = {"team:1", "region:eu"};
    for (int i = 0; i < 2; i++) {
        OK(unstale_cache_set(cache, KEY("page"), &value, &options, NULL));
        gone = str_of(falls[i]);
        CHECK(holds(cache, "page", "v"));
        OK(unstale_cache_invalidate_tags(cache, &gone, 1, NULL));
        CHECK(holds(cache, "page", NULL));
    }
    OK(unstale_cache_set(cache, KEY("page"), &value, &options, NULL));
    OK(unstale_cache_invalidate(cache, KEY("user:42"), NULL));
    CHECK(holds(cache, "page", NULL));
    OK(unstale_cache_invalidate_tags(cache, NULL, 0, NULL));
    end();
}

static void a_fenced_lease_stores_nothing(void) {
    unstale_set_options options = no_options();
    unstale_value value = value_of("loaded");
    bool stored = true;
    begin("lease");
    OK(unstale_cache_lease(cache, KEY("k"), &options.lease));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, &stored));
    CHECK(!stored && holds(cache, "k", NULL));
    unstale_lease_free(options.lease);

    OK(unstale_cache_lease(cache, KEY("k"), &options.lease));
    INVALID(unstale_cache_set(cache, KEY("another key"), &value, &options, &stored));
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, &stored));
    CHECK(stored && holds(cache, "k", "loaded"));
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, &stored));
    CHECK(!stored); /* used before */
    unstale_lease_free(options.lease);
    INVALID(unstale_cache_set(cache, KEY("k"), &value, &options, &stored)); /* freed */
    unstale_lease_free(options.lease);
    end();
}

static void a_lower_version_is_refused(void) {
    unstale_set_options options = no_options();
    unstale_value value = value_of("v");
    bool stored = true;
    begin("version");
    OK(unstale_cache_invalidate_version(cache, KEY("k"), 7, NULL));
    options.has_version = 1, options.version = 6;
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, &stored));
    CHECK(!stored);
    options.version = 7;
    OK(unstale_cache_set(cache, KEY("k"), &value, &options, &stored));
    CHECK(stored);
    OK(unstale_cache_invalidate_version(cache, KEY("k"), 7, NULL)); /* it is current */
    CHECK(holds(cache, "k", "v"));
    OK(unstale_cache_invalidate_version(cache, KEY("k"), 8, NULL));
    CHECK(holds(cache, "k", NULL));
    end();
}

static void update_stores_here_and_says_so(void) {
    unstale_set_options options = no_options();
    unstale_value value = value_of("new");
    unstale_receipt *receipt = NULL;
    bool stored = false;
    begin("update");
    put(cache, "k", "old");
    INVALID(unstale_cache_update(cache, KEY("k"), &value, NULL, &receipt));
    INVALID(unstale_cache_update(cache, KEY("k"), &value, &options, &receipt));
    CHECK(holds(cache, "k", "old") && receipt == NULL);

    OK(unstale_cache_lease(cache, KEY("k"), &options.lease));
    OK(unstale_cache_update(cache, KEY("k"), &value, &options, &receipt));
    OK(unstale_receipt_stored(receipt, &stored));
    CHECK(stored && holds(cache, "k", "new"));
    unstale_receipt_free(receipt);
    unstale_lease_free(options.lease);

    OK(unstale_cache_lease(cache, KEY("k"), &options.lease));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    OK(unstale_cache_update(cache, KEY("k"), &value, &options, &receipt));
    OK(unstale_receipt_stored(receipt, &stored));
    CHECK(!stored && holds(cache, "k", NULL));
    unstale_receipt_free(receipt);
    unstale_lease_free(options.lease);
    end();
}

static void many_keys_fall_together_or_not_at_all(void) {
    unstale_key_version items[3];
    begin("many");
    memset(items, 0, sizeof items);
    items[0].key = "a", items[0].key_len = 1;
    items[1].key = "b", items[1].key_len = 1, items[1].version = 3, items[1].has_version = 1;
    items[2].key = "c", items[2].key_len = 0; /* empty: not a key */
    put(cache, "a", "1");
    put(cache, "b", "1");
    put(cache, "c", "1");
    INVALID(unstale_cache_invalidate_many(cache, items, 3, NULL));
    CHECK(holds(cache, "a", "1") && holds(cache, "b", "1") && holds(cache, "c", "1"));
    OK(unstale_cache_invalidate_many(cache, items, 2, NULL));
    CHECK(holds(cache, "a", NULL) && holds(cache, "b", NULL) && holds(cache, "c", "1"));
    OK(unstale_cache_invalidate_many(cache, NULL, 0, NULL));
    end();
}

static void prefixes_and_all(void) {
    begin("prefix");
    put(cache, "user:1", "1");
    put(cache, "user:2", "1");
    put(cache, "sku:1", "1");
    OK(unstale_cache_invalidate_prefix(cache, KEY("user:"), NULL));
    CHECK(holds(cache, "user:1", NULL) && holds(cache, "user:2", NULL) && holds(cache, "sku:1", "1"));
    OK(unstale_cache_invalidate_all(cache, NULL));
    CHECK(holds(cache, "sku:1", NULL));
    end();
}

static void a_token_lets_another_client_wait(void) {
    unstale_client *other = connect_to("{\"url\": \"memory://cache\"}");
    unstale_cache *there = open_cache(other, "token", NULL);
    unstale_receipt *receipt = NULL;
    char *token = NULL;
    bool reached = false, delivered = false, stored = true;
    begin("token");
    settle(other);
    put(there, "k", "old");
    OK(unstale_cache_invalidate(cache, KEY("k"), &receipt));
    OK(unstale_receipt_token(receipt, &token));
    CHECK(strncmp(token, "u1:", 3) == 0);
    OK(unstale_client_wait_for(other, token, 5000, &reached));
    CHECK(reached && holds(there, "k", NULL));
    OK(unstale_receipt_wait(receipt, 5000, &delivered));
    CHECK(delivered);
    OK(unstale_receipt_stored(receipt, &stored));
    CHECK(!stored);
    INVALID(unstale_client_wait_for(other, "not a token", 0, &reached));
    unstale_string_free(token);
    unstale_receipt_free(receipt);
    INVALID(unstale_receipt_token(receipt, &token));
    INVALID(unstale_receipt_wait(receipt, 0, &delivered));
    INVALID(unstale_receipt_stored(receipt, &stored));
    unstale_receipt_free(receipt);
    finish(other, there);
    end();
}

static void counters_and_state_are_json(void) {
    char *json = NULL;
    begin("json");
    put(cache, "k", "v");
    holds(cache, "k", "v");
    OK(unstale_cache_stats(cache, &json));
    CHECK(json[0] == '{' && strstr(json, "\"hits\":1") && strstr(json, "\"entries\":1"));
    unstale_string_free(json);
    OK(unstale_client_status(client, &json));
    CHECK(json[0] == '{' && strstr(json, "\"transport\":\"memory\""));
    unstale_string_free(json);
    end();
}

static void options_come_as_json(void) {
    unstale_client *c = NULL;
    unstale_cache *k = NULL;
    const char *bad[] = {"", "7", "[]", "{", "{\"url\": 7}", "{\"url\": \"nonsense\"}", "{\"staleness_bound\": \"-1s\"}", "{\"ttl\": \"1s\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK_CODE(UNSTALE_CONFIG, unstale_client_connect(bad[i], &c));
    CHECK(c == NULL);
    c = connect_to("{\"url\": \"memory://options\", \"staleness_bound\": \"10s\"}");
    CHECK_CODE(UNSTALE_CONFIG, unstale_client_cache(c, "ns", "{\"ttl\": \"soon\"}", &k));
    CHECK_CODE(UNSTALE_CONFIG, unstale_client_cache(c, "ns", "{\"url\": \"x\"}", &k));
    INVALID(unstale_client_cache(c, "_reserved", NULL, &k));
    INVALID(unstale_client_cache(c, "no spaces", NULL, &k));
    CHECK(k == NULL);
    OK(unstale_client_cache(c, "ns", "{\"ttl\": \"1m\", \"max_entries\": 100}", &k));
    unstale_cache *second = NULL;
    INVALID(unstale_client_cache(c, "ns", NULL, &second)); /* open already */
    CHECK(second == NULL);
    OK(unstale_client_cache(c, "", NULL, &second));
    unstale_cache_free(second);
    finish(c, k);
}

static void without_an_url_nothing_leaves_this_process(void) {
    unstale_client *c = connect_to(NULL);
    char *json = NULL;
    OK(unstale_client_status(c, &json));
    CHECK(strstr(json, "\"transport\":\"memory\"") != NULL);
    unstale_string_free(json);
    OK(unstale_client_close(c, 1000, NULL));
    unstale_client_free(c);
}

CHECK_MAIN(TEST(what_was_set_is_got), TEST(bytes_are_bytes), TEST(a_key_is_bytes_with_a_length),
           TEST(contains_and_peek_agree_with_get), TEST(evict_and_clear_local_are_local), TEST(an_entry_lives_for_its_ttl),
           TEST(tags_and_dependencies_make_an_entry_fall), TEST(a_fenced_lease_stores_nothing),
           TEST(a_lower_version_is_refused), TEST(update_stores_here_and_says_so),
           TEST(many_keys_fall_together_or_not_at_all), TEST(prefixes_and_all), TEST(a_token_lets_another_client_wait),
           TEST(counters_and_state_are_json), TEST(options_come_as_json), TEST(without_an_url_nothing_leaves_this_process))

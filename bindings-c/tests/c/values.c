/* Counted values: copies, memory of the caller's, live objects, and who frees what when. */
#include "check.h"

static void a_copy_outlives_its_source(void) {
    char source[] = "9.99";
    unstale_value value;
    OK(unstale_value_copy(source, 4, &value));
    memset(source, 'x', 4);
    CHECK(value.len == 4 && memcmp(value.data, "9.99", 4) == 0 && value.owner != NULL);
    unstale_value_release(&value);
}

static void an_empty_value_differs_from_none(void) {
    unstale_value value;
    OK(unstale_value_copy("", 0, &value));
    CHECK(value.data != NULL && value.len == 0);
    unstale_value_release(&value);
    INVALID(unstale_value_copy(NULL, 0, &value));
}

static void release_clears_so_that_a_second_does_nothing(void) {
    counter freed = COUNTER_INIT;
    unstale_value value;
    OK(unstale_value_new("live", 4, counter_add, &freed, &value));
    unstale_value_release(&value);
    CHECK(value.data == NULL && value.len == 0 && value.owner == NULL && freed.count == 1);
    unstale_value_release(&value);
    CHECK(freed.count == 1);
}

static void memory_of_the_callers_is_handed_over_without_a_copy(void) {
    char *memory = (char *)malloc(5);
    unstale_value value;
    memcpy(memory, "heap", 5);
    OK(unstale_value_new(memory, 4, free, memory, &value));
    CHECK(value.data == memory);
    unstale_value_release(&value); /* the leak checkers see to it that this freed */
}

static void a_clone_keeps_the_value(void) {
    counter freed = COUNTER_INIT;
    unstale_value value, clone;
    OK(unstale_value_new("live", 4, counter_add, &freed, &value));
    OK(unstale_value_clone(&value, &clone));
    CHECK(clone.data == value.data && clone.owner == value.owner);
    unstale_value_release(&value);
    CHECK(freed.count == 0);
    unstale_value_release(&clone);
    CHECK(freed.count == 1);
}

static void a_clone_of_plain_memory_is_a_copy(void) {
    unstale_value plain = value_of("plain"), clone;
    OK(unstale_value_clone(&plain, &clone));
    CHECK(clone.owner != NULL && clone.data != plain.data && clone.len == 5);
    unstale_value_release(&clone);
}

static void a_value_that_cannot_be_made_is_freed_at_once(void) {
    counter freed = COUNTER_INIT;
    unstale_value value;
    INVALID(unstale_value_new(NULL, 4, counter_add, &freed, &value));
    CHECK(freed.count == 1);
    INVALID(unstale_value_new("live", 4, counter_add, &freed, NULL));
    CHECK(freed.count == 2);
    OK(unstale_value_new("no destructor", 4, NULL, NULL, &value));
    unstale_value_release(&value);
}

static void impossible_values_are_refused(void) {
    unstale_value value = value_of("x"), out;
    INVALID(unstale_value_clone(NULL, &out));
    INVALID(unstale_value_clone(&value, NULL));
    value.len = SIZE_MAX;
    INVALID(unstale_value_clone(&value, &out));
    value.data = NULL;
    INVALID(unstale_value_clone(&value, &out));
    INVALID(unstale_value_copy("x", SIZE_MAX, &out));
    INVALID(unstale_value_copy("x", 1, NULL));
}

static void a_live_object_stays_until_the_last_of_cache_and_views_lets_go(void) {
    counter freed = COUNTER_INIT;
    unstale_client *client = connect_to("{\"url\": \"memory://values\"}");
    unstale_cache *cache = open_cache(client, "live", NULL);
    unstale_value value, view;
    /* A number in a table of ours, not an address. */
    OK(unstale_value_new((const void *)(uintptr_t)42, 0, counter_add, &freed, &value));
    OK(unstale_cache_set(cache, KEY("k"), &value, NULL, NULL));
    unstale_value_release(&value);
    CHECK(counter_get(&freed) == 0);
    OK(unstale_cache_get(cache, KEY("k"), &view));
    CHECK((uintptr_t)view.data == 42 && view.len == 0);
    CHECK(unstale_cache_peek(cache, KEY("k")) == 42);
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    CHECK(unstale_cache_peek(cache, KEY("k")) == 0);
    CHECK(counter_get(&freed) == 0);
    unstale_value_release(&view);
    EVENTUALLY(counter_get(&freed) == 1);
    finish(client, cache);
    CHECK(counter_get(&freed) == 1);
}

static void a_view_outlives_cache_and_client(void) {
    unstale_client *client = connect_to("{\"url\": \"memory://values\"}");
    unstale_cache *cache = open_cache(client, "views", NULL);
    unstale_value view;
    put(cache, "k", "still here");
    OK(unstale_cache_get(cache, KEY("k"), &view));
    finish(client, cache);
    CHECK(view.len == 10 && memcmp(view.data, "still here", 10) == 0);
    unstale_value_release(&view);
}

static void freeing_the_cache_frees_what_it_holds(void) {
    counter freed = COUNTER_INIT;
    unstale_client *client = connect_to("{\"url\": \"memory://values\"}");
    unstale_cache *cache = open_cache(client, "held", NULL);
    for (int i = 0; i < 100; i++) {
        char key[16];
        unstale_value value;
        snprintf(key, sizeof key, "k%d", i);
        OK(unstale_value_new("live", 4, counter_add, &freed, &value));
        OK(unstale_cache_set(cache, KEY(key), &value, NULL, NULL));
        unstale_value_release(&value);
    }
    finish(client, cache);
    EVENTUALLY(counter_get(&freed) == 100);
}

CHECK_MAIN(TEST(a_copy_outlives_its_source), TEST(an_empty_value_differs_from_none),
           TEST(release_clears_so_that_a_second_does_nothing), TEST(memory_of_the_callers_is_handed_over_without_a_copy),
           TEST(a_clone_keeps_the_value), TEST(a_clone_of_plain_memory_is_a_copy),
           TEST(a_value_that_cannot_be_made_is_freed_at_once), TEST(impossible_values_are_refused),
           TEST(a_live_object_stays_until_the_last_of_cache_and_views_lets_go), TEST(a_view_outlives_cache_and_client),
           TEST(freeing_the_cache_frees_what_it_holds))

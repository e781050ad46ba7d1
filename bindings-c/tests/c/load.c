/* Read through: loaders, single flight, fences, and the two-phase form. */
#include "check.h"

static unstale_client *client;
static unstale_cache *cache;

static void begin(const char *ns, const char *config) {
    client = connect_to("{\"url\": \"memory://load\"}");
    cache = open_cache(client, ns, config);
}

static void end(void) { finish(client, cache); }

/* A source, and what its loader is told to do. */
typedef struct source {
    const char *text; /* NULL: not found */
    int32_t fail;     /* not 0: fail with this code, and `text` beside it */
    counter calls;
    /* An invalidation that arrives during the load. */
    unstale_cache *invalidate;
    /* Held until somebody opens it. */
    pthread_mutex_t gate;
    int gated;
    unstale_value live; /* an error object, or a value, to be given as it is */
} source;

static void source_init(source *s, const char *text) {
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->calls.lock, NULL);
    pthread_mutex_init(&s->gate, NULL);
    s->text = text;
}

static int32_t loader(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    source *s = (source *)userdata;
    counter_add(&s->calls);
    CHECK(value->data == NULL && value->owner == NULL);
    if (s->invalidate) OK(unstale_cache_invalidate(s->invalidate, key, key_len, NULL));
    if (s->gated) {
        pthread_mutex_lock(&s->gate);
        pthread_mutex_unlock(&s->gate);
    }
    if (s->live.data)
        OK(unstale_value_clone(&s->live, value));
    else if (s->text)
        OK(unstale_value_copy(s->text, strlen(s->text), value));
    return s->fail;
}

static unstale_result load(const char *key, source *s, unstale_value *value, unstale_failure *failure) {
    return unstale_cache_get_or_load(cache, KEY(key), NULL, loader, s, value, failure);
}

static bool is_text(unstale_value *value, const char *text) {
    bool same = value->data != NULL && value->len == strlen(text) && memcmp(value->data, text, value->len) == 0;
    unstale_value_release(value);
    return same;
}

static void a_miss_loads_and_a_hit_does_not(void) {
    source s;
    unstale_value value;
    begin("miss", NULL);
    source_init(&s, "from the source");
    OK(load("k", &s, &value, NULL));
    CHECK(is_text(&value, "from the source"));
    OK(load("k", &s, &value, NULL));
    CHECK(is_text(&value, "from the source"));
    CHECK(s.calls.count == 1);
    end();
}

static void not_found_is_cached_only_on_request(void) {
    source s;
    unstale_value value = value_of("untouched");
    begin("absent", NULL);
    source_init(&s, NULL);
    OK(load("k", &s, &value, NULL));
    CHECK(value.data == NULL);
    OK(load("k", &s, &value, NULL));
    CHECK(value.data == NULL && s.calls.count == 2);
    end();

    begin("negative", "{\"negative_ttl\": \"1m\"}");
    OK(load("k", &s, &value, NULL));
    OK(load("k", &s, &value, NULL));
    CHECK(value.data == NULL && s.calls.count == 3);
    unstale_begun begun;
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &begun));
    CHECK(begun.state == UNSTALE_BEGIN_ABSENT);
    end();
}

static void a_failure_reaches_the_caller_unchanged(void) {
    source s;
    unstale_value value = value_of("untouched");
    unstale_failure failure;
    begin("failure", NULL);
    source_init(&s, "no such table: users");
    s.fail = 1001;
    unstale_result result = load("k", &s, &value, &failure);
    CHECK(result.code == UNSTALE_LOAD);
    CHECK(strstr(message_of(result), "no such table: users") && strstr(message_of(result), "1001"));
    CHECK(failure.code == 1001 && is_text(&failure.error, "no such table: users"));
    CHECK(strcmp((const char *)value.data, "untouched") == 0);
    CHECK_CODE(UNSTALE_LOAD, load("k", &s, &value, NULL));
    s.text = NULL;
    CHECK_CODE(UNSTALE_LOAD, load("k", &s, &value, &failure));
    CHECK(failure.code == 1001 && failure.error.data == NULL);
    CHECK(holds(cache, "k", NULL));
    end();
}

static void a_live_error_object_comes_back_as_it_is(void) {
    counter freed = COUNTER_INIT;
    source s;
    unstale_value value;
    unstale_failure failure;
    begin("live-error", NULL);
    source_init(&s, NULL);
    s.fail = -7;
    OK(unstale_value_new((const void *)(uintptr_t)7, 0, counter_add, &freed, &s.live));
    CHECK_CODE(UNSTALE_LOAD, load("k", &s, &value, &failure));
    CHECK(failure.code == -7 && (uintptr_t)failure.error.data == 7);
    unstale_value_release(&failure.error);
    unstale_value_release(&s.live);
    CHECK(counter_get(&freed) == 1);
    end();
}

static int32_t static_loader(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    (void)key, (void)key_len;
    value->data = userdata;
    value->len = 6;
    return 0;
}

static int32_t confused_loader(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    (void)userdata, (void)key, (void)key_len;
    value->len = 9; /* without data */
    return 0;
}

static void a_loader_may_point_to_memory_that_outlives_it(void) {
    char memory[] = "static";
    unstale_value value;
    unstale_failure failure;
    begin("static", NULL);
    OK(unstale_cache_get_or_load(cache, KEY("k"), NULL, static_loader, memory, &value, NULL));
    memset(memory, 'x', 6);
    CHECK(is_text(&value, "static"));
    CHECK(holds(cache, "k", "static"));
    CHECK_CODE(UNSTALE_LOAD, unstale_cache_get_or_load(cache, KEY("c"), NULL, confused_loader, NULL, &value, &failure));
    CHECK(failure.code == -1);
    unstale_value_release(&failure.error);
    end();
}

static void a_value_invalidated_during_its_load_is_returned_but_not_stored(void) {
    source s;
    unstale_value value;
    begin("race", NULL);
    source_init(&s, "already old");
    s.invalidate = cache;
    OK(load("k", &s, &value, NULL));
    CHECK(is_text(&value, "already old"));
    CHECK(holds(cache, "k", NULL));
    end();
}

typedef struct reader {
    pthread_t thread;
    source *s;
    unstale_result result;
    unstale_value value;
    unstale_failure failure;
} reader;

static void *read_through(void *userdata) {
    reader *r = (reader *)userdata;
    r->result = load("k", r->s, &r->value, &r->failure);
    return NULL;
}

static unsigned long counted(const char *name) {
    char *json = NULL, *at;
    char quoted[64];
    unsigned long n = 0;
    OK(unstale_cache_stats(cache, &json));
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    at = strstr(json, quoted);
    CHECK(at != NULL);
    if (at) n = strtoul(at + strlen(quoted), NULL, 10);
    unstale_string_free(json);
    return n;
}

#define READERS 8

static void read_together(source *s, reader *readers) {
    pthread_mutex_lock(&s->gate);
    s->gated = 1;
    for (int i = 0; i < READERS; i++) {
        memset(&readers[i], 0, sizeof readers[i]);
        readers[i].s = s;
        CHECK(pthread_create(&readers[i].thread, NULL, read_through, &readers[i]) == 0);
    }
    EVENTUALLY(counted("joins") == READERS - 1);
    pthread_mutex_unlock(&s->gate);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i].thread, NULL);
}

static void many_readers_share_one_load(void) {
    source s;
    reader readers[READERS];
    begin("flight", NULL);
    source_init(&s, "once");
    read_together(&s, readers);
    CHECK(s.calls.count == 1);
    for (int i = 0; i < READERS; i++) {
        CHECK(readers[i].result.code == UNSTALE_OK);
        CHECK(is_text(&readers[i].value, "once"));
    }
    end();
}

static void many_readers_share_one_failure(void) {
    source s;
    reader readers[READERS];
    begin("flight-failure", NULL);
    source_init(&s, "broken");
    s.fail = 5;
    read_together(&s, readers);
    CHECK(s.calls.count == 1);
    for (int i = 0; i < READERS; i++) {
        CHECK(readers[i].result.code == UNSTALE_LOAD && readers[i].failure.code == 5);
        CHECK(is_text(&readers[i].failure.error, "broken"));
    }
    end();
}

static int32_t nested_loader(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    source *s = (source *)userdata;
    unstale_value inner;
    (void)key, (void)key_len;
    /* Everything but a load of the same key is allowed here. */
    put(cache, "aside", "set by a loader");
    OK(load("inner", s, &inner, NULL));
    *value = inner; /* the reference goes on to the library */
    return 0;
}

static void a_loader_may_use_the_library(void) {
    source s;
    unstale_value value;
    begin("nested", NULL);
    source_init(&s, "from within");
    OK(unstale_cache_get_or_load(cache, KEY("outer"), NULL, nested_loader, &s, &value, NULL));
    CHECK(is_text(&value, "from within"));
    CHECK(holds(cache, "outer", "from within") && holds(cache, "inner", "from within") && holds(cache, "aside", "set by a loader"));
    end();
}

static int32_t circular_loader(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    unstale_value inner;
    unstale_result *result = (unstale_result *)userdata;
    *result = unstale_cache_get_or_load(cache, key, key_len, NULL, circular_loader, userdata, &inner, NULL);
    return (int32_t)unstale_value_copy("outer", 5, value).code;
}

static void a_loader_that_asks_for_its_own_key_is_told_so(void) {
    unstale_value value;
    unstale_result inner = {0, 0};
    begin("circle", NULL);
    OK(unstale_cache_get_or_load(cache, KEY("k"), NULL, circular_loader, &inner, &value, NULL));
    CHECK(inner.code == UNSTALE_INVALID_ARGUMENT);
    CHECK(is_text(&value, "outer"));
    end();
}

static void the_two_phases_do_what_get_or_load_does(void) {
    unstale_begun lead, join, again;
    unstale_joined joined;
    unstale_value value = value_of("v");
    unstale_str tag = str_of("t");
    unstale_set_options options = no_options();
    bool stored = false;
    begin("phases", NULL);
    options.tags = &tag, options.tags_len = 1;
    OK(unstale_cache_begin(cache, KEY("k"), &options, &lead));
    CHECK(lead.state == UNSTALE_BEGIN_LEAD && lead.load != NULL && lead.join == NULL && lead.value.data == NULL);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &join));
    CHECK(join.state == UNSTALE_BEGIN_JOIN && join.join != NULL && join.load == NULL && join.load_id == lead.load_id);
    OK(unstale_join_wait(join.join, 0, &joined));
    CHECK(joined.state == UNSTALE_JOIN_TIMED_OUT);
    OK(unstale_join_wait(join.join, 5, &joined));
    CHECK(joined.state == UNSTALE_JOIN_TIMED_OUT);
    OK(unstale_load_finish(lead.load, &value, &stored));
    CHECK(stored);
    for (int i = 0; i < 2; i++) { /* a join can be asked twice */
        OK(unstale_join_wait(join.join, UNSTALE_NO_LIMIT, &joined));
        CHECK(joined.state == UNSTALE_JOIN_VALUE && is_text(&joined.value, "v"));
    }
    unstale_join_free(join.join);
    INVALID(unstale_join_wait(join.join, 0, &joined));
    INVALID(unstale_load_finish(lead.load, &value, &stored));
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &again));
    CHECK(again.state == UNSTALE_BEGIN_HIT && is_text(&again.value, "v"));
    OK(unstale_cache_invalidate_tags(cache, &tag, 1, NULL)); /* the options were stored with it */
    CHECK(holds(cache, "k", NULL));
    end();
}

static void a_failed_load_fails_its_joins(void) {
    unstale_begun lead, join;
    unstale_joined joined;
    unstale_failure failure;
    begin("phases-fail", NULL);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &lead));
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &join));
    memset(&failure, 0, sizeof failure);
    INVALID(unstale_load_fail(lead.load, NULL));
    INVALID(unstale_load_fail(lead.load, &failure)); /* code 0 */
    failure.code = 3, failure.error = value_of("why");
    OK(unstale_load_fail(lead.load, &failure));
    INVALID(unstale_load_fail(lead.load, &failure));
    OK(unstale_join_wait(join.join, 1000, &joined));
    CHECK(joined.state == UNSTALE_JOIN_FAILED && joined.failure.code == 3 && is_text(&joined.failure.error, "why"));
    unstale_join_free(join.join);
    end();
}

static void an_abandoned_load_lets_its_joins_begin_again(void) {
    unstale_begun lead, join;
    unstale_joined joined;
    begin("phases-abandon", NULL);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &lead));
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &join));
    unstale_load_abandon(lead.load);
    unstale_load_abandon(lead.load);
    OK(unstale_join_wait(join.join, 1000, &joined));
    CHECK(joined.state == UNSTALE_JOIN_AGAIN);
    unstale_join_free(join.join);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &lead));
    CHECK(lead.state == UNSTALE_BEGIN_LEAD);
    /* Not found. */
    bool stored = true;
    OK(unstale_load_finish(lead.load, NULL, &stored));
    CHECK(!stored);
    end();
}

static void a_fenced_load_is_not_stored_but_reaches_its_joins(void) {
    unstale_begun lead, join;
    unstale_joined joined;
    unstale_value value = value_of("old");
    bool stored = true;
    begin("phases-fence", NULL);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &lead));
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &join));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    OK(unstale_load_finish(lead.load, &value, &stored));
    CHECK(!stored);
    OK(unstale_join_wait(join.join, 1000, &joined));
    CHECK(joined.state == UNSTALE_JOIN_VALUE && is_text(&joined.value, "old"));
    unstale_join_free(join.join);
    CHECK(holds(cache, "k", NULL));
    end();
}

static void loads_may_stay_open_when_the_client_ends(void) {
    unstale_begun lead, join;
    unstale_joined joined;
    unstale_value value = value_of("late");
    begin("open", NULL);
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &lead));
    OK(unstale_cache_begin(cache, KEY("k"), NULL, &join));
    end();
    OK(unstale_load_finish(lead.load, &value, NULL));
    OK(unstale_join_wait(join.join, 1000, &joined));
    CHECK(joined.state == UNSTALE_JOIN_VALUE || joined.state == UNSTALE_JOIN_AGAIN);
    unstale_value_release(&joined.value);
    unstale_join_free(join.join);
}

CHECK_MAIN(TEST(a_miss_loads_and_a_hit_does_not), TEST(not_found_is_cached_only_on_request),
           TEST(a_failure_reaches_the_caller_unchanged), TEST(a_live_error_object_comes_back_as_it_is),
           TEST(a_loader_may_point_to_memory_that_outlives_it),
           TEST(a_value_invalidated_during_its_load_is_returned_but_not_stored), TEST(many_readers_share_one_load),
           TEST(many_readers_share_one_failure), TEST(a_loader_may_use_the_library),
           TEST(a_loader_that_asks_for_its_own_key_is_told_so), TEST(the_two_phases_do_what_get_or_load_does),
           TEST(a_failed_load_fails_its_joins), TEST(an_abandoned_load_lets_its_joins_begin_again),
           TEST(a_fenced_load_is_not_stored_but_reaches_its_joins), TEST(loads_may_stay_open_when_the_client_ends))

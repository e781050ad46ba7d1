/* Subscriptions, log, and who frees userdata when. */
#include "check.h"

static unstale_client *client;
static unstale_cache *cache;

static void begin(const char *ns) {
    client = connect_to("{\"url\": \"memory://events\"}");
    cache = open_cache(client, ns, NULL);
}

static void end(void) { finish(client, cache); }

/* What a callback heard. */
typedef struct listener {
    counter calls;
    counter freed;
    char last[1024];
    void (*then)(struct listener *);
    unstale_subscription *subscription;
} listener;

static void listener_init(listener *l) {
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->calls.lock, NULL);
    pthread_mutex_init(&l->freed.lock, NULL);
}

static void hear(void *userdata, const char *json, size_t json_len) {
    listener *l = (listener *)userdata;
    CHECK(strlen(json) == json_len && json[0] == '{' && json[json_len - 1] == '}');
    pthread_mutex_lock(&l->calls.lock);
    snprintf(l->last, sizeof l->last, "%s", json);
    pthread_mutex_unlock(&l->calls.lock);
    if (l->then) l->then(l);
    counter_add(&l->calls);
}

static void let_go(void *userdata) { counter_add(&((listener *)userdata)->freed); }

static bool heard(listener *l, const char *part) {
    pthread_mutex_lock(&l->calls.lock);
    bool found = strstr(l->last, part) != NULL;
    pthread_mutex_unlock(&l->calls.lock);
    return found;
}

static void invalidations_are_told_until_cancelled(void) {
    listener l;
    unstale_str tag = str_of("t");
    begin("told");
    listener_init(&l);
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, &l.subscription));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    EVENTUALLY(counter_get(&l.calls) == 1);
    CHECK(heard(&l, "\"keys\":[\"k\"]") && heard(&l, "\"origin\":\"local\"") && heard(&l, "\"namespace\":\"told\""));
    OK(unstale_cache_invalidate_tags(cache, &tag, 1, NULL));
    EVENTUALLY(counter_get(&l.calls) == 2);
    CHECK(heard(&l, "\"tags\":[\"t\"]"));
    CHECK(counter_get(&l.freed) == 0);
    unstale_subscription_cancel(l.subscription);
    EVENTUALLY(counter_get(&l.freed) == 1);
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    unstale_subscription_cancel(l.subscription);
    end();
    CHECK(counter_get(&l.calls) == 2 && counter_get(&l.freed) == 1);
}

static void invalidations_by_others_are_told_too(void) {
    listener l;
    unstale_client *other = connect_to("{\"url\": \"memory://events\"}");
    unstale_cache *there = open_cache(other, "remote", NULL);
    begin("remote");
    listener_init(&l);
    settle(client);
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, NULL));
    OK(unstale_cache_invalidate_all(there, NULL));
    EVENTUALLY(counter_get(&l.calls) == 1);
    CHECK(heard(&l, "\"all\":true") && heard(&l, "\"origin\":\"remote\"") && heard(&l, "\"seq\":1"));
    finish(other, there);
    end();
    /* Not cancelled: it ends with the client. */
    EVENTUALLY(counter_get(&l.freed) == 1);
}

static void the_state_is_told(void) {
    listener l;
    begin("state");
    listener_init(&l);
    OK(unstale_client_on_status(client, hear, &l, let_go, NULL));
    OK(unstale_client_close(client, 1000, NULL));
    EVENTUALLY(heard(&l, "\"state\":\"closed\""));
    end();
    EVENTUALLY(counter_get(&l.freed) == 1);
}

static void userdata_is_freed_when_the_call_fails(void) {
    listener l;
    begin("fails");
    listener_init(&l);
    INVALID(unstale_cache_on_invalidated(cache, NULL, &l, let_go, NULL));
    INVALID(unstale_cache_on_invalidated(NULL, hear, &l, let_go, NULL));
    INVALID(unstale_client_on_status(client, NULL, &l, let_go, NULL));
    INVALID(unstale_client_on_status(NULL, hear, &l, let_go, NULL));
    CHECK(counter_get(&l.freed) == 4);
    INVALID(unstale_set_log(6, NULL, &l, let_go));
    CHECK(counter_get(&l.freed) == 5);
    end();
    CHECK(counter_get(&l.freed) == 5 && counter_get(&l.calls) == 0);
}

static void cancel_itself(listener *l) { unstale_subscription_cancel(l->subscription); }

static void a_callback_may_cancel_itself(void) {
    listener l;
    begin("cancel-inside");
    listener_init(&l);
    l.then = cancel_itself;
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, &l.subscription));
    for (int i = 0; i < 10; i++) OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    EVENTUALLY(counter_get(&l.freed) == 1);
    CHECK(counter_get(&l.calls) == 1);
    end();
}

static void use_the_library(listener *l) {
    (void)l;
    put(cache, "from a callback", "v");
    CHECK(holds(cache, "from a callback", "v"));
}

static void a_callback_may_use_the_library(void) {
    listener l;
    begin("use-inside");
    listener_init(&l);
    l.then = use_the_library;
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, NULL));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    EVENTUALLY(counter_get(&l.calls) == 1);
    CHECK(holds(cache, "from a callback", "v"));
    end();
    EVENTUALLY(counter_get(&l.freed) == 1);
}

static void close_the_client(listener *l) {
    (void)l;
    OK(unstale_client_close(client, 5000, NULL));
}

static void a_callback_may_close_the_client(void) {
    listener l;
    begin("close-inside");
    listener_init(&l);
    l.then = close_the_client;
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, NULL));
    OK(unstale_cache_invalidate(cache, KEY("k"), NULL));
    EVENTUALLY(counter_get(&l.calls) == 1);
    CHECK_CODE(UNSTALE_CLOSED, unstale_cache_invalidate(cache, KEY("k"), NULL));
    end();
    EVENTUALLY(counter_get(&l.freed) == 1);
}

static void free_everything(listener *l) {
    (void)l;
    unstale_cache_free(cache);
    unstale_client_free(client);
}

static void a_callback_may_free_cache_and_client(void) {
    listener l;
    unstale_client *other = connect_to("{\"url\": \"memory://events\"}");
    unstale_cache *there = open_cache(other, "free-inside", NULL);
    begin("free-inside");
    listener_init(&l);
    settle(client);
    l.then = free_everything;
    OK(unstale_cache_on_invalidated(cache, hear, &l, let_go, NULL));
    /* By another client: no thread may be inside a call with what is freed. */
    OK(unstale_cache_invalidate(there, KEY("k"), NULL));
    EVENTUALLY(counter_get(&l.calls) == 1);
    EVENTUALLY(counter_get(&l.freed) == 1);
    INVALID(unstale_cache_clear_local(cache));
    finish(other, there);
}

/* The log. */

static counter records = COUNTER_INIT;
static char last_record[1024];

static void log_record(void *userdata, uint32_t level, const char *target, const char *message) {
    CHECK(level >= UNSTALE_LOG_ERROR && level <= UNSTALE_LOG_TRACE);
    CHECK(strncmp(target, "unstale", 7) == 0 && message[0] != 0);
    pthread_mutex_lock(&records.lock);
    snprintf(last_record, sizeof last_record, "%s", message);
    pthread_mutex_unlock(&records.lock);
    /* It may use the library. */
    unstale_string_free(NULL);
    INVALID(unstale_value_copy(NULL, 0, NULL));
    counter_add(&records);
    (void)userdata;
}

/* A connection that nobody answers makes the library speak. */
static void make_it_speak(void) {
    int before = counter_get(&records);
    unstale_client *lazy = connect_to("{\"url\": \"mqtt://127.0.0.1:1\", \"lazy\": true}");
    EVENTUALLY(counter_get(&records) > before);
    OK(unstale_client_close(lazy, 0, NULL));
    unstale_client_free(lazy);
}

static void the_log_speaks_when_asked_and_is_quiet_after(void) {
    counter freed = COUNTER_INIT, freed_too = COUNTER_INIT;
    OK(unstale_set_log(UNSTALE_LOG_TRACE, log_record, &freed, counter_add));
    make_it_speak();
    CHECK(counter_get(&records) > 0);
    /* Another in its place: the first one is done when this returns. */
    OK(unstale_set_log(UNSTALE_LOG_TRACE, log_record, &freed_too, counter_add));
    CHECK(counter_get(&freed) == 1 && counter_get(&freed_too) == 0);
    OK(unstale_set_log(UNSTALE_LOG_OFF, NULL, NULL, NULL));
    CHECK(counter_get(&freed_too) == 1);
    int heard_so_far = counter_get(&records);
    unstale_client *lazy = connect_to("{\"url\": \"mqtt://127.0.0.1:1\", \"lazy\": true}");
    OK(unstale_client_close(lazy, 0, NULL));
    unstale_client_free(lazy);
    CHECK(counter_get(&records) == heard_so_far);
}

static counter ended_inside = COUNTER_INIT;

static void log_and_end(void *userdata, uint32_t level, const char *target, const char *message) {
    (void)userdata, (void)level, (void)target, (void)message;
    OK(unstale_set_log(UNSTALE_LOG_OFF, NULL, NULL, NULL));
    counter_add(&records);
}

static void the_log_may_be_ended_from_its_own_callback(void) {
    OK(unstale_set_log(UNSTALE_LOG_TRACE, log_and_end, &ended_inside, counter_add));
    make_it_speak();
    EVENTUALLY(counter_get(&ended_inside) == 1);
}

CHECK_MAIN(TEST(invalidations_are_told_until_cancelled), TEST(invalidations_by_others_are_told_too), TEST(the_state_is_told),
           TEST(userdata_is_freed_when_the_call_fails), TEST(a_callback_may_cancel_itself),
           TEST(a_callback_may_use_the_library), TEST(a_callback_may_close_the_client),
           TEST(a_callback_may_free_cache_and_client), TEST(the_log_speaks_when_asked_and_is_quiet_after),
           TEST(the_log_may_be_ended_from_its_own_callback))

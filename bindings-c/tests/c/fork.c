/* After fork: the child is told so, can free what it inherited, and can connect anew; the parent notices nothing. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static unstale_client *client;
static unstale_cache *cache;

/* One of each, made by the parent. */
static struct {
    unstale_receipt *receipt;
    unstale_lease *lease;
    unstale_begun lead, join;
    unstale_subscription *subscription;
    unstale_value view;
} inherited;

static void hear(void *userdata, const char *json, size_t json_len) { (void)userdata, (void)json, (void)json_len; }

static int32_t load_nothing(void *userdata, const char *key, size_t key_len, unstale_value *value) {
    (void)userdata, (void)key, (void)key_len, (void)value;
    return 0;
}

#define FORKED(call) CHECK_CODE(UNSTALE_FORKED, call)

/* In the child. */
static void every_call_says_forked(void) {
    unstale_value value = value_of("v");
    unstale_str tag = str_of("t");
    unstale_set_options options = no_options();
    unstale_key_version item;
    unstale_begun begun;
    unstale_joined joined;
    unstale_lease *lease = NULL;
    unstale_cache *other = NULL;
    bool flag = true;
    char *text = NULL;
    memset(&item, 0, sizeof item);
    item.key = "k", item.key_len = 1;
    options.has_version = 1;
    FORKED(unstale_cache_get(cache, KEY("k"), &value));
    CHECK(unstale_cache_peek(cache, KEY("k")) == 0);
    FORKED(unstale_cache_contains(cache, KEY("k"), &flag));
    FORKED(unstale_cache_set(cache, KEY("k"), &value, NULL, NULL));
    FORKED(unstale_cache_update(cache, KEY("k"), &value, &options, NULL));
    FORKED(unstale_cache_get_or_load(cache, KEY("k"), NULL, load_nothing, NULL, &value, NULL));
    FORKED(unstale_cache_begin(cache, KEY("k"), NULL, &begun));
    FORKED(unstale_cache_lease(cache, KEY("k"), &lease));
    FORKED(unstale_cache_evict(cache, KEY("k"), NULL));
    FORKED(unstale_cache_clear_local(cache));
    FORKED(unstale_cache_invalidate(cache, KEY("k"), NULL));
    FORKED(unstale_cache_invalidate_version(cache, KEY("k"), 1, NULL));
    FORKED(unstale_cache_invalidate_many(cache, &item, 1, NULL));
    FORKED(unstale_cache_invalidate_tags(cache, &tag, 1, NULL));
    FORKED(unstale_cache_invalidate_prefix(cache, KEY("k"), NULL));
    FORKED(unstale_cache_invalidate_all(cache, NULL));
    FORKED(unstale_client_cache(client, "another", NULL, &other));
    FORKED(unstale_client_wait_for(client, "u1:a:1:fork", 10000, &flag));
    FORKED(unstale_client_close(client, 10000, NULL));
    FORKED(unstale_client_status(client, &text));
    FORKED(unstale_cache_stats(cache, &text));
    FORKED(unstale_cache_on_invalidated(cache, hear, NULL, NULL, NULL));
    CHECK(unstale_cache_len(cache) == 0 && unstale_cache_load_timeout(cache) == UNSTALE_NO_LIMIT);
    FORKED(unstale_receipt_token(inherited.receipt, &text));
    FORKED(unstale_receipt_stored(inherited.receipt, &flag));
    FORKED(unstale_receipt_wait(inherited.receipt, 10000, &flag));
    FORKED(unstale_load_finish(inherited.lead.load, &value, NULL));
    FORKED(unstale_join_wait(inherited.join.join, 10000, &joined));
    options.lease = inherited.lease;
    FORKED(unstale_cache_set(cache, KEY("k"), &value, &options, NULL));
    CHECK(flag && text == NULL);
    /* A view is memory of this process. */
    CHECK(memcmp(inherited.view.data, "of the parent", 13) == 0);
    unstale_value_release(&inherited.view);
    /* Freeing is allowed, and final. */
    for (int i = 0; i < 2; i++) {
        unstale_receipt_free(inherited.receipt);
        unstale_lease_free(inherited.lease);
        unstale_load_abandon(inherited.lead.load);
        unstale_join_free(inherited.join.join);
        unstale_subscription_cancel(inherited.subscription);
        unstale_cache_free(cache);
        unstale_client_free(client);
    }
    INVALID(unstale_receipt_token(inherited.receipt, &text));
    INVALID(unstale_load_finish(inherited.lead.load, &value, NULL));
}

static void connect_anew(const char *config) {
    unstale_client *own = connect_to(config);
    unstale_cache *mine = open_cache(own, "fork", NULL);
    put(mine, "k", "of the child");
    CHECK(holds(mine, "k", "of the child"));
    finish(own, mine);
}

static void in_a_child(void (*run)(const char *), const char *config) {
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        run(config);
        fflush(NULL);
        /* By exec: a checker that looked for leaks in the child would find what the parent's other threads held. */
        execl("/bin/sh", "sh", "-c", check_failures ? "exit 1" : "exit 0", (char *)NULL);
        _exit(2);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void child_without_a_broker(const char *config) {
    every_call_says_forked();
    connect_anew(config);
}

static void child_of_a_broker(const char *config) {
    unstale_client *own = NULL;
    every_call_says_forked();
    /* Paho's state does not survive a fork, and the library knows. */
    FORKED(unstale_client_connect(config, &own));
    connect_anew("{\"url\": \"memory://fork\"}");
}

static void make_one_of_each(const char *config) {
    client = connect_to(config);
    cache = open_cache(client, "fork", NULL);
    put(cache, "k", "of the parent");
    OK(unstale_cache_invalidate(cache, KEY("other"), &inherited.receipt));
    OK(unstale_cache_lease(cache, KEY("k"), &inherited.lease));
    OK(unstale_cache_begin(cache, KEY("load"), NULL, &inherited.lead));
    OK(unstale_cache_begin(cache, KEY("load"), NULL, &inherited.join));
    OK(unstale_cache_on_invalidated(cache, hear, NULL, NULL, &inherited.subscription));
    OK(unstale_cache_get(cache, KEY("k"), &inherited.view));
}

static void free_one_of_each(void) {
    unstale_value_release(&inherited.view);
    unstale_subscription_cancel(inherited.subscription);
    unstale_join_free(inherited.join.join);
    unstale_load_abandon(inherited.lead.load);
    unstale_lease_free(inherited.lease);
    unstale_receipt_free(inherited.receipt);
    finish(client, cache);
}

static void fork_with(const char *config, void (*child)(const char *)) {
    unstale_receipt *receipt = NULL;
    unstale_value value = value_of("loaded");
    unstale_joined joined;
    bool delivered = false, stored = false;
    make_one_of_each(config);
    in_a_child(child, config);
    in_a_child(child, config);
    /* The parent goes on as if nothing had happened. */
    OK(unstale_receipt_wait(inherited.receipt, 10000, &delivered));
    CHECK(delivered);
    CHECK(holds(cache, "k", "of the parent"));
    OK(unstale_load_finish(inherited.lead.load, &value, &stored));
    OK(unstale_join_wait(inherited.join.join, 10000, &joined));
    CHECK(stored && joined.state == UNSTALE_JOIN_VALUE);
    unstale_value_release(&joined.value);
    OK(unstale_cache_invalidate(cache, KEY("k"), &receipt));
    OK(unstale_receipt_wait(receipt, 10000, &delivered));
    CHECK(delivered);
    unstale_receipt_free(receipt);
    free_one_of_each();
}

static void without_a_broker(void) { fork_with("{\"url\": \"memory://fork\"}", child_without_a_broker); }

static void with_a_broker(void) {
    char config[256];
    CHECK(getenv("US_BROKER") != NULL);
    snprintf(config, sizeof config, "{\"url\": \"%s\"}", getenv("US_BROKER"));
    fork_with(config, child_of_a_broker);
}

/* Forks while other threads are inside the library: no lock is inherited that nobody will open. */

static volatile int stop;
static pthread_mutex_t stop_lock = PTHREAD_MUTEX_INITIALIZER;

static int stopped(void) {
    pthread_mutex_lock(&stop_lock);
    int now = stop;
    pthread_mutex_unlock(&stop_lock);
    return now;
}

static void *be_busy(void *userdata) {
    (void)userdata;
    while (!stopped()) {
        unstale_receipt *receipt = NULL;
        unstale_lease *lease = NULL;
        unstale_begun begun;
        OK(unstale_cache_invalidate(cache, KEY("busy"), &receipt));
        OK(unstale_cache_lease(cache, KEY("busy"), &lease));
        OK(unstale_cache_begin(cache, KEY("busy"), NULL, &begun));
        INVALID(unstale_value_copy(NULL, 0, NULL));
        unstale_value_release(&begun.value);
        unstale_load_abandon(begun.load);
        unstale_join_free(begun.join);
        unstale_lease_free(lease);
        unstale_receipt_free(receipt);
    }
    return NULL;
}

static void while_others_work(void) {
#if defined(__SANITIZE_ADDRESS__)
    /* The sanitizer's own allocator does not open its locks in a forked child; the other ways of compiling run this. */
    (void)be_busy;
#else
    pthread_t threads[3];
    make_one_of_each("{\"url\": \"memory://fork\"}");
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, be_busy, NULL) == 0);
    for (int i = 0; i < 10; i++) in_a_child(child_without_a_broker, "{\"url\": \"memory://fork\"}");
    pthread_mutex_lock(&stop_lock);
    stop = 1;
    pthread_mutex_unlock(&stop_lock);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    free_one_of_each();
#endif
}

CHECK_MAIN(TEST(without_a_broker), TEST(with_a_broker), TEST(while_others_work))

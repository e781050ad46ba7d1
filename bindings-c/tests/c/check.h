/* A test program is a list of functions run by CHECK_MAIN. C99 and C++11 alike. */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unstale.h"

static int check_failures = 0;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            check_failures++;                                                         \
        }                                                                             \
    } while (0)

/* `call` is expected to give `wanted`. */
#define CHECK_CODE(wanted, call) check_code(wanted, call, #call, __FILE__, __LINE__)
#define OK(call) CHECK_CODE(UNSTALE_OK, call)
#define INVALID(call) CHECK_CODE(UNSTALE_INVALID_ARGUMENT, call)

static inline void check_code(uint32_t wanted, unstale_result result, const char *call, const char *file, int line) {
    if (result.code != wanted) {
        char message[512];
        unstale_result_message(result, message, sizeof message);
        fprintf(stderr, "%s:%d: %s\n  gave %s (%s), not %s\n", file, line, call, unstale_code_name(result.code), message,
                unstale_code_name(wanted));
        check_failures++;
    }
}

/* The message of a result, until the next call. */
static inline const char *message_of(unstale_result result) {
    static char message[512];
    unstale_result_message(result, message, sizeof message);
    return message;
}

/* Polls a condition, for what another thread does. */
#define EVENTUALLY(condition)                                         \
    do {                                                              \
        int tries_ = 0;                                               \
        while (!(condition) && tries_++ < 10000) check_pause_1ms();   \
        CHECK(condition);                                             \
    } while (0)

static inline void check_pause_1ms(void) {
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* A counter that other threads may change. */
typedef struct counter {
    pthread_mutex_t lock;
    int count;
} counter;

#define COUNTER_INIT {PTHREAD_MUTEX_INITIALIZER, 0}

static inline void counter_add(void *userdata) {
    counter *c = (counter *)userdata;
    pthread_mutex_lock(&c->lock);
    c->count++;
    pthread_mutex_unlock(&c->lock);
}

static inline int counter_get(counter *c) {
    pthread_mutex_lock(&c->lock);
    int count = c->count;
    pthread_mutex_unlock(&c->lock);
    return count;
}

/* Short forms for tests: keys and values are C strings. */
#define KEY(text) text, strlen(text)

static inline unstale_value value_of(const char *text) {
    unstale_value value;
    value.data = text;
    value.len = strlen(text);
    value.owner = NULL;
    return value;
}

static inline unstale_str str_of(const char *text) {
    unstale_str str;
    str.data = text;
    str.len = strlen(text);
    return str;
}

static inline unstale_set_options no_options(void) {
    unstale_set_options options;
    memset(&options, 0, sizeof options);
    return options;
}

static inline void put(unstale_cache *cache, const char *key, const char *text) {
    unstale_value value = value_of(text);
    bool stored = false;
    OK(unstale_cache_set(cache, KEY(key), &value, NULL, &stored));
    CHECK(stored);
}

/* Is `text` (NULL: nothing) what the cache holds? */
static inline bool holds(unstale_cache *cache, const char *key, const char *text) {
    unstale_value value;
    bool same;
    memset(&value, 0xee, sizeof value);
    OK(unstale_cache_get(cache, KEY(key), &value));
    same = text == NULL ? value.data == NULL
                        : value.data != NULL && value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
    unstale_value_release(&value);
    return same;
}

/* A client of the in-process transport, on a bus that nobody else uses unless it has the same name. */
static inline unstale_client *connect_to(const char *config) {
    unstale_client *client = NULL;
    OK(unstale_client_connect(config, &client));
    if (client == NULL) {
        fprintf(stderr, "cannot go on without a client\n");
        exit(1);
    }
    return client;
}

static inline unstale_cache *open_cache(unstale_client *client, const char *ns, const char *config) {
    unstale_cache *cache = NULL;
    OK(unstale_client_cache(client, ns, config, &cache));
    if (cache == NULL) {
        fprintf(stderr, "cannot go on without a cache\n");
        exit(1);
    }
    return cache;
}

static inline bool is_live(unstale_client *client) {
    char *json = NULL;
    bool live;
    OK(unstale_client_status(client, &json));
    live = strstr(json, "\"state\":\"live\"") != NULL;
    unstale_string_free(json);
    return live;
}

/* Waits until the caches of a client hear what others publish. */
static inline void settle(unstale_client *client) { EVENTUALLY(is_live(client)); }

static inline void finish(unstale_client *client, unstale_cache *cache) {
    OK(unstale_client_close(client, 5000, NULL));
    unstale_cache_free(cache);
    unstale_client_free(client);
}

typedef struct check_test {
    const char *name;
    void (*run)(void);
} check_test;

#define TEST(name) {#name, name}

/* Prints one line per test, as run.py reads them. */
#define CHECK_MAIN(...)                                                            \
    int main(void) {                                                               \
        static const check_test tests[] = {__VA_ARGS__};                           \
        int failed = 0;                                                            \
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {              \
            check_failures = 0;                                                    \
            tests[i].run();                                                        \
            printf("%s %s\n", check_failures ? "FAILED" : "ok", tests[i].name);    \
            fflush(stdout);                                                        \
            failed += check_failures != 0;                                         \
        }                                                                          \
        return failed != 0;                                                        \
    }

#endif

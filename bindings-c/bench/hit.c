/* What a hit costs through the C interface: JSON lines for `make bench`, median of rounds that take turns. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unstale.h>

enum { ENTRIES = 10000, ROUNDS = 15, READS = 200000, KINDS = 3 };

static char keys[ENTRIES][16];
static size_t lengths[ENTRIES];

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void must(unstale_result result) {
    if (result.code == UNSTALE_OK) return;
    char message[512];
    unstale_result_message(result, message, sizeof message);
    fprintf(stderr, "%s: %s\n", unstale_code_name(result.code), message);
    exit(1);
}

/* Nanoseconds for a get and its release. */
static double read_all(unstale_cache *cache, unsigned entries) {
    double start = now_ns();
    for (unsigned n = 0; n < READS; n++) {
        unsigned i = n * 7919u % entries; /* visits all keys, in no pattern that the CPU would learn */
        unstale_value value;
        if (unstale_cache_get(cache, keys[i], lengths[i], &value).code != UNSTALE_OK || value.data == NULL) {
            fprintf(stderr, "a miss\n");
            exit(1);
        }
        unstale_value_release(&value);
    }
    return (now_ns() - start) / READS;
}

int main(void) {
    /* The first is the Rust bench's; the others differ in nothing but the size of a value, which must not matter. */
    static const struct {
        const char *name;
        unsigned entries;
        size_t size;
    } kinds[KINDS] = {{"C hit", ENTRIES, 64}, {"C hit, 1,000 of 64 B", 1000, 64}, {"C hit, 1,000 of 64 KiB", 1000, 64 * 1024}};
    static char bytes[64 * 1024];
    unstale_client *client;
    unstale_cache *caches[KINDS];
    double times[KINDS][ROUNDS];
    must(unstale_client_connect("{\"url\": \"memory://bench\"}", &client));
    for (unsigned i = 0; i < ENTRIES; i++) lengths[i] = (size_t)snprintf(keys[i], sizeof keys[i], "user:%u", i);
    for (int k = 0; k < KINDS; k++) {
        unstale_value value = {bytes, kinds[k].size, NULL};
        char ns[16];
        snprintf(ns, sizeof ns, "kind%d", k);
        must(unstale_client_cache(client, ns, "{\"max_entries\": 20000}", &caches[k]));
        for (unsigned i = 0; i < kinds[k].entries; i++) must(unstale_cache_set(caches[k], keys[i], lengths[i], &value, NULL, NULL));
    }
    for (int r = 0; r < ROUNDS; r++)
        for (int k = 0; k < KINDS; k++) times[k][r] = read_all(caches[k], kinds[k].entries);
    for (int k = 0; k < KINDS; k++) {
        qsort(times[k], ROUNDS, sizeof times[k][0], by_value);
        printf("{\"what\": \"%s\", \"ns\": %.1f}\n", kinds[k].name, times[k][ROUNDS / 2]);
        unstale_cache_free(caches[k]);
    }
    must(unstale_client_close(client, UNSTALE_CLOSE_TIMEOUT_MS, NULL));
    unstale_client_free(client);
    return 0;
}

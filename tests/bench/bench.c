/* A hit through the C library, at two sizes: JSON lines for `make bench`. The Rust hit of the same run is the peer. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unstale.h>

enum { ENTRIES = 10000, ROUNDS = 15, READS = 200000 };

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void check(unstale_result r) {
  if (r.code != UNSTALE_OK) exit(1);
}

static double hit(unstale_cache *cache, char keys[][16]) {
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (size_t n = 0; n < READS; n++) {
    unstale_value value;
    const char *key = keys[n * 7919 % ENTRIES];
    check(unstale_cache_get(cache, key, strlen(key), &value));
    if (!value.data) exit(2);
    unstale_value_release(&value);
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  return ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / READS;
}

int main(void) {
  static char keys[ENTRIES][16];
  static char bytes[65536];
  const size_t sizes[] = {64, 65536};
  for (size_t s = 0; s < 2; s++) {
    unstale_client *client;
    unstale_cache *cache;
    double times[ROUNDS];
    check(unstale_client_connect("{\"url\": \"memory://bench\"}", &client));
    check(unstale_client_cache(client, "bench", "{\"max_entries\": 20000}", &cache));
    unstale_value value;
    check(unstale_value_copy(bytes, sizes[s], &value));
    for (int i = 0; i < ENTRIES; i++) {
      snprintf(keys[i], sizeof keys[i], "user:%d", i);
      check(unstale_cache_set(cache, keys[i], strlen(keys[i]), &value, NULL, NULL));
    }
    unstale_value_release(&value);
    for (int r = 0; r < ROUNDS; r++) times[r] = hit(cache, keys);
    qsort(times, ROUNDS, sizeof *times, by_value);
    printf("{\"what\": \"C hit, %zu bytes\", \"ns\": %.1f, \"peer\": \"Rust hit\", \"target\": 1.2}\n", sizes[s], times[ROUNDS / 2]);
    unstale_cache_free(cache);
    check(unstale_client_close(client, 5000, NULL));
    unstale_client_free(client);
  }
  return 0;
}

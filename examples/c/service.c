/* A product service in C: reads through its own cache, and tells every other service when it changes something.
 *
 *   service catalogue.db mqtt://127.0.0.1:1883        (commands on stdin: see ../README.md) */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unstale.h>

typedef struct { int price; char name[60]; } product;

static sqlite3 *db;
static unstale_client *client;
static unstale_cache *products;
static long reads, loads;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t invalidated = PTHREAD_COND_INITIALIZER;
static long invalidations;

static void check(unstale_result r) {
  char message[512];
  if (r.code == UNSTALE_OK) return;
  unstale_result_message(r, message, sizeof message);
  fprintf(stderr, "%s: %s\n", unstale_code_name(r.code), message);
  exit(1);
}

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* Runs one statement with up to two texts bound to it. In autocommit it returns after the commit. */
static sqlite3_stmt *sql(const char *text, const char *first, const char *second) {
  sqlite3_stmt *s;
  if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK) goto failed;
  sqlite3_bind_text(s, 1, first, -1, SQLITE_TRANSIENT);
  if (second) sqlite3_bind_text(s, 2, second, -1, SQLITE_TRANSIENT);
  int step = sqlite3_step(s);
  if (step == SQLITE_ROW || step == SQLITE_DONE) return s;
failed:
  fprintf(stderr, "%s: %s\n", text, sqlite3_errmsg(db));
  exit(1);
}

/* The loader: runs only on a miss, once for all threads that want this key. */
static int32_t load(void *userdata, const char *sku, size_t len, unstale_value *value) {
  (void)userdata, (void)len;
  loads++;
  sqlite3_stmt *s = sql("SELECT price, name FROM products WHERE sku = ?", sku, NULL);
  if (sqlite3_data_count(s) > 0) {
    product p = {sqlite3_column_int(s, 0), ""};
    snprintf(p.name, sizeof p.name, "%s", (const char *)sqlite3_column_text(s, 1));
    check(unstale_value_copy(&p, sizeof p, value));
  }
  sqlite3_finalize(s);
  return 0;
}

/* "acme:lamp:7" has the tag "lamp", so that it falls when that kind goes on sale. */
static unstale_str kind(const char *sku) {
  unstale_str tag = {strchr(sku, ':') + 1, 0};
  tag.len = strcspn(tag.data, ":");
  return tag;
}

static int price_of(const char *sku) {
  unstale_str tag = kind(sku);
  unstale_set_options options = {.tags = &tag, .tags_len = 1};
  unstale_value value;
  reads++;
  check(unstale_cache_get_or_load(products, sku, strlen(sku), &options, load, NULL, &value, NULL));
  int price = value.data ? ((const product *)value.data)->price : -1;
  unstale_value_release(&value);
  return price;
}

static void set_price(const char *sku, const char *cents) {
  unstale_str tag = kind(sku);
  unstale_set_options options = {.tags = &tag, .tags_len = 1};
  unstale_value value = {NULL, 0, NULL};
  check(unstale_cache_lease(products, sku, strlen(sku), &options.lease)); /* before the write */
  sqlite3_finalize(sql("UPDATE products SET price = ? WHERE sku = ?", cents, sku));
  long long commit = now();
  load(NULL, sku, strlen(sku), &value);
  check(unstale_cache_update(products, sku, strlen(sku), &value, &options, NULL)); /* kept here, gone elsewhere */
  unstale_value_release(&value);
  unstale_lease_free(options.lease);
  printf("changed %lld\n", commit);
}

static void on_invalidated(void *userdata, const char *json, size_t len) {
  (void)userdata, (void)json, (void)len;
  pthread_mutex_lock(&lock);
  invalidations++;
  pthread_cond_signal(&invalidated);
  pthread_mutex_unlock(&lock);
}

static void until(const char *sku, int cents) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 10;
  for (int late = 0;;) {
    pthread_mutex_lock(&lock);
    long seen = invalidations;
    pthread_mutex_unlock(&lock);
    int price = price_of(sku);
    long long at = now();
    if (price == cents || late) {
      printf("read %d %lld\n", price, at);
      return;
    }
    pthread_mutex_lock(&lock);
    while (seen == invalidations && !late) late = pthread_cond_timedwait(&invalidated, &lock, &end) != 0;
    pthread_mutex_unlock(&lock);
  }
}

int main(int argc, char **argv) {
  if (argc != 3 || sqlite3_open(argv[1], &db) != SQLITE_OK) return 2;
  sqlite3_busy_timeout(db, 10000);
  char config[300];
  snprintf(config, sizeof config, "{\"url\": \"%s\"}", argv[2]);
  check(unstale_client_connect(config, &client));
  check(unstale_client_cache(client, "products", NULL, &products));
  check(unstale_cache_on_invalidated(products, on_invalidated, NULL, NULL, NULL));

  size_t count = 0;
  char (*skus)[40] = calloc(10000, sizeof *skus);
  sqlite3_stmt *s = sql("SELECT sku FROM products WHERE sku > ? ORDER BY sku", "", NULL);
  do snprintf(skus[count++], sizeof *skus, "%s", (const char *)sqlite3_column_text(s, 0));
  while (sqlite3_step(s) == SQLITE_ROW && count < 10000);
  sqlite3_finalize(s);

  char line[200], command[20], a[60], b[20];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    int words = sscanf(line, "%19s %59s %19s", command, a, b);
    if (words == 2 && !strcmp(command, "read")) {
      int price = price_of(a);
      printf("read %d %lld\n", price, now());
    } else if (words == 3 && !strcmp(command, "until")) {
      until(a, atoi(b));
    } else if (words == 3 && !strcmp(command, "price")) {
      set_price(a, b);
    } else if (words == 3 && !strcmp(command, "sale")) {
      unstale_str tag = {a, strlen(a)};
      sqlite3_finalize(sql("UPDATE products SET price = price - ? WHERE kind = ?", b, a));
      printf("changed %lld\n", now());
      check(unstale_cache_invalidate_tags(products, &tag, 1, NULL));
    } else if (words == 3 && !strcmp(command, "rebrand")) {
      sqlite3_finalize(sql("UPDATE products SET price = price + ? WHERE brand = ?", b, a));
      printf("changed %lld\n", now());
      strcat(a, ":");
      check(unstale_cache_invalidate_prefix(products, a, strlen(a), NULL));
    } else if (words == 2 && !strcmp(command, "inflate")) {
      sqlite3_finalize(sql("UPDATE products SET price = price + ?", a, NULL));
      printf("changed %lld\n", now());
      check(unstale_cache_invalidate_all(products, NULL));
    } else if (words == 2 && !strcmp(command, "traffic")) {
      for (long i = 0, n = atol(a); i < n; i++) price_of(skus[i * 7919 % (long)count]);
      printf("traffic %ld %ld\n", reads, loads);
    } else {
      break;
    }
    fflush(stdout);
  }
  check(unstale_client_close(client, 5000, NULL));
  unstale_cache_free(products);
  unstale_client_free(client);
  sqlite3_close(db);
  free(skus);
  return 0;
}

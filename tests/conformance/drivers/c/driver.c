/* The C driver of the conformance script: commands in, public API calls, answers out. See tests/conformance/README.md. */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unstale.h>

enum { LOADER_FAILED = 77 };

/* What the driver keeps by name: caches, events, leases, receipts, loads. A handful each, so a list will do. */
typedef struct named {
  char name[160];
  void *thing;
  struct named *next;
} named;

/* A cache and the events seen on it. */
typedef struct {
  unstale_cache *cache;
  json_t *events;
  pthread_mutex_t lock;
} opened;

/* One get_or_load. */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t finished;
  opened *cache;
  char *key;
  json_t *request; /* its options point into it */
  unstale_set_options options;
  json_t *outcome; /* what the loader is to come to; NULL: not told yet */
  int called, done;
  unstale_result result;
  json_t *value, *failed;
} load;

static unstale_client *client;
static named *caches, *leases, *receipts, *loads;

static void *find(named *list, const char *name) {
  for (; name && list; list = list->next)
    if (strcmp(list->name, name) == 0) return list->thing;
  return NULL;
}

static void keep(named **list, const char *name, void *thing) {
  named *n = calloc(1, sizeof *n);
  snprintf(n->name, sizeof n->name, "%s", name);
  n->thing = thing;
  n->next = *list;
  *list = n;
}

static json_t *mistake(const char *text) {
  return json_pack("{s:{s:s,s:i,s:s}}", "error", "kind", "Driver", "code", -1, "message", text);
}

static json_t *error_of(unstale_result r) {
  char message[4096];
  unstale_result_message(r, message, sizeof message);
  return json_pack("{s:{s:s,s:i,s:s}}", "error", "kind", unstale_code_name(r.code), "code", (int)r.code, "message", message);
}

/* The answer: the result, or the error. Takes `result`. */
static json_t *answer(unstale_result r, json_t *result) {
  if (r.code == UNSTALE_OK) return json_pack("{s:o}", "ok", result);
  json_decref(result);
  return error_of(r);
}

static const char *text(json_t *request, const char *field) { return json_string_value(json_object_get(request, field)); }

/* A field as a string with its length: keys may hold NUL, which is for the library to refuse. */
static unstale_str str(json_t *value) {
  unstale_str s = {json_string_value(value), json_string_length(value)};
  return s;
}

static unstale_str *list(json_t *array, size_t *len) {
  *len = json_array_size(array);
  unstale_str *items = calloc(*len + 1, sizeof *items);
  for (size_t i = 0; i < *len; i++) items[i] = str(json_array_get(array, i));
  return items;
}

static json_t *of_value(const unstale_value *value) {
  return value->data ? json_stringn(value->data, value->len) : json_null();
}

/* False: a lease of that name is not there. */
static int options_of(json_t *request, unstale_set_options *o) {
  json_t *version = json_object_get(request, "version");
  const char *lease = text(request, "lease");
  memset(o, 0, sizeof *o);
  o->ttl_ms = (uint64_t)json_integer_value(json_object_get(request, "ttl_ms"));
  o->tags = list(json_object_get(request, "tags"), &o->tags_len);
  o->depends_on = list(json_object_get(request, "depends_on"), &o->depends_on_len);
  if (json_is_integer(version)) {
    o->has_version = 1;
    o->version = (uint64_t)json_integer_value(version);
  }
  if (lease) o->lease = find(leases, lease);
  return !lease || o->lease;
}

static json_t *receipt_answer(unstale_result r, unstale_receipt *receipt) {
  char *token;
  bool stored = false;
  if (r.code != UNSTALE_OK) return error_of(r);
  r = unstale_receipt_token(receipt, &token);
  if (r.code == UNSTALE_OK) r = unstale_receipt_stored(receipt, &stored);
  if (r.code != UNSTALE_OK) return error_of(r);
  keep(&receipts, token, receipt);
  json_t *a = json_pack("{s:{s:s,s:b}}", "ok", "token", token, "stored", (int)stored);
  unstale_string_free(token);
  return a;
}

/* ---- loads ---- */

/* Waits until the script says what the loader comes to. */
static int32_t loader(void *userdata, const char *key, size_t len, unstale_value *value) {
  load *l = userdata;
  (void)key, (void)len;
  pthread_mutex_lock(&l->lock);
  l->called = 1;
  while (!l->outcome) pthread_cond_wait(&l->finished, &l->lock);
  json_t *fail = json_object_get(l->outcome, "fail"), *found = json_object_get(l->outcome, "value");
  json_t *given = json_is_string(fail) ? fail : found;
  pthread_mutex_unlock(&l->lock);
  if (json_is_string(given) && unstale_value_copy(json_string_value(given), json_string_length(given), value).code != UNSTALE_OK) abort();
  return given == fail && json_is_string(fail) ? LOADER_FAILED : 0;
}

static void tell(load *l, json_t *request) {
  pthread_mutex_lock(&l->lock);
  if (!l->outcome) l->outcome = json_incref(request);
  pthread_cond_signal(&l->finished);
  pthread_mutex_unlock(&l->lock);
}

static void returned(load *l, unstale_result r, unstale_value *value, unstale_failure *failure) {
  pthread_mutex_lock(&l->lock);
  l->done = 1;
  l->result = r;
  l->value = of_value(value);
  if (r.code == UNSTALE_LOAD && failure->code == LOADER_FAILED) {
    l->failed = of_value(&failure->error);
    l->result.code = UNSTALE_OK;
  }
  pthread_mutex_unlock(&l->lock);
  unstale_value_release(value);
  unstale_value_release(&failure->error);
}

/* The blocking form. */
static void load_now(load *l, size_t len) {
  unstale_value value = {NULL, 0, NULL};
  unstale_failure failure = {0, {NULL, 0, NULL}};
  unstale_result r = unstale_cache_get_or_load(l->cache->cache, l->key, len, &l->options, loader, l, &value, &failure);
  returned(l, r, &value, &failure);
}

/* The form in steps, as a program with its own threads or events uses it. */
static void *load_in_steps(void *userdata) {
  load *l = userdata;
  unstale_value value = {NULL, 0, NULL};
  unstale_failure failure = {0, {NULL, 0, NULL}};
  unstale_result r;
  for (;;) {
    unstale_begun begun;
    r = unstale_cache_begin(l->cache->cache, l->key, strlen(l->key), &l->options, &begun);
    if (r.code != UNSTALE_OK) break;
    if (begun.state == UNSTALE_BEGIN_HIT) value = begun.value;
    if (begun.state == UNSTALE_BEGIN_LEAD) {
      int32_t code = loader(l, l->key, strlen(l->key), &value);
      if (code == 0) {
        r = unstale_load_finish(begun.load, &value, NULL);
      } else {
        failure.code = code;
        failure.error = value;
        value.data = NULL, value.owner = NULL;
        unstale_failure shared = failure;
        r = unstale_load_fail(begun.load, &shared);
        if (r.code == UNSTALE_OK) r.code = UNSTALE_LOAD;
      }
    }
    if (begun.state == UNSTALE_BEGIN_JOIN) {
      unstale_joined joined;
      r = unstale_join_wait(begun.join, UNSTALE_NO_LIMIT, &joined);
      unstale_join_free(begun.join);
      if (r.code == UNSTALE_OK && joined.state == UNSTALE_JOIN_AGAIN) continue;
      if (r.code == UNSTALE_OK && joined.state == UNSTALE_JOIN_VALUE) value = joined.value;
      if (r.code == UNSTALE_OK && joined.state == UNSTALE_JOIN_FAILED) {
        failure = joined.failure;
        r.code = UNSTALE_LOAD;
      }
    }
    break;
  }
  returned(l, r, &value, &failure);
  return NULL;
}

static json_t *state_of(load *l) {
  json_t *a;
  pthread_mutex_lock(&l->lock);
  if (l->done && l->result.code != UNSTALE_OK) {
    a = error_of(l->result);
  } else {
    json_t *none = json_null();
    a = json_pack("{s:{s:b,s:b,s:O,s:O}}", "ok", "called", l->called, "done", l->done, "value",
                  l->value && !l->failed ? l->value : none, "failed", l->failed ? l->failed : none);
  }
  pthread_mutex_unlock(&l->lock);
  return a;
}

static load *new_load(opened *cache, json_t *request, const unstale_set_options *options) {
  load *l = calloc(1, sizeof *l);
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->finished, NULL);
  l->cache = cache;
  l->request = json_incref(request);
  l->key = (char *)text(request, "key");
  l->options = *options;
  return l;
}

/* ---- commands ---- */

static void on_event(void *userdata, const char *event, size_t len) {
  opened *o = userdata;
  pthread_mutex_lock(&o->lock);
  json_array_append_new(o->events, json_loadb(event, len, 0, NULL));
  pthread_mutex_unlock(&o->lock);
}

static json_t *parsed(unstale_result r, char *document) {
  if (r.code != UNSTALE_OK) return error_of(r);
  json_t *a = json_pack("{s:o}", "ok", json_loads(document, 0, NULL));
  unstale_string_free(document);
  return a;
}

static json_t *on_cache(opened *o, const char *command, json_t *request) {
  unstale_cache *c = o->cache;
  unstale_str key = str(json_object_get(request, "key"));
  json_t *given = json_object_get(request, "value");
  unstale_value value = {json_string_value(given), json_string_length(given), NULL};
  unstale_receipt *receipt = NULL;
  unstale_set_options options;
  bool flag = false;
  if (!options_of(request, &options)) return mistake("no such lease");

  if (!strcmp(command, "get")) {
    unstale_value found = {NULL, 0, NULL};
    unstale_result r = unstale_cache_get(c, key.data, key.len, &found);
    json_t *a = answer(r, of_value(&found));
    unstale_value_release(&found);
    return a;
  }
  if (!strcmp(command, "set")) {
    unstale_result r = unstale_cache_set(c, key.data, key.len, &value, &options, &flag);
    return answer(r, json_boolean(flag));
  }
  if (!strcmp(command, "get_or_load")) {
    load *l = new_load(o, request, &options);
    tell(l, request);
    load_now(l, key.len);
    return state_of(l);
  }
  if (!strcmp(command, "load_start")) {
    pthread_t thread;
    load *l = new_load(o, request, &options);
    keep(&loads, text(request, "id"), l);
    if (pthread_create(&thread, NULL, load_in_steps, l) != 0) return mistake("no thread");
    pthread_detach(thread);
    return json_pack("{s:n}", "ok");
  }
  if (!strcmp(command, "lease")) {
    unstale_lease *lease = NULL;
    unstale_result r = unstale_cache_lease(c, key.data, key.len, &lease);
    if (r.code == UNSTALE_OK) keep(&leases, text(request, "id"), lease);
    return answer(r, json_null());
  }
  if (!strcmp(command, "update")) {
    unstale_result r = unstale_cache_update(c, key.data, key.len, &value, &options, &receipt);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "invalidate")) {
    unstale_result r = options.has_version ? unstale_cache_invalidate_version(c, key.data, key.len, options.version, &receipt)
                                           : unstale_cache_invalidate(c, key.data, key.len, &receipt);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "invalidate_many")) {
    json_t *keys = json_object_get(request, "keys");
    size_t count = json_array_size(keys);
    unstale_key_version *items = calloc(count + 1, sizeof *items);
    for (size_t i = 0; i < count; i++) {
      json_t *pair = json_array_get(keys, i), *version = json_array_get(pair, 1);
      unstale_str name = str(json_array_get(pair, 0));
      items[i].key = name.data;
      items[i].key_len = name.len;
      items[i].has_version = json_is_integer(version);
      items[i].version = (uint64_t)json_integer_value(version);
    }
    unstale_result r = unstale_cache_invalidate_many(c, items, count, &receipt);
    free(items);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "invalidate_tags")) {
    unstale_result r = unstale_cache_invalidate_tags(c, options.tags, options.tags_len, &receipt);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "invalidate_prefix")) {
    unstale_str prefix = str(json_object_get(request, "prefix"));
    unstale_result r = unstale_cache_invalidate_prefix(c, prefix.data, prefix.len, &receipt);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "invalidate_all")) {
    unstale_result r = unstale_cache_invalidate_all(c, &receipt);
    return receipt_answer(r, receipt);
  }
  if (!strcmp(command, "evict")) {
    unstale_result r = unstale_cache_evict(c, key.data, key.len, &flag);
    return answer(r, json_boolean(flag));
  }
  if (!strcmp(command, "clear_local")) return answer(unstale_cache_clear_local(c), json_null());
  if (!strcmp(command, "stats")) {
    char *document = NULL;
    unstale_result r = unstale_cache_stats(c, &document);
    return parsed(r, document);
  }
  if (!strcmp(command, "watch")) return answer(unstale_cache_on_invalidated(c, on_event, o, NULL, NULL), json_null());
  if (!strcmp(command, "events")) {
    pthread_mutex_lock(&o->lock);
    json_t *a = json_pack("{s:o}", "ok", json_deep_copy(o->events));
    pthread_mutex_unlock(&o->lock);
    return a;
  }
  return mistake("unknown command");
}

static json_t *connect_to(json_t *request) {
  json_t *config = json_deep_copy(json_object_get(request, "options"));
  if (!json_is_object(config)) config = json_object();
  if (text(request, "url")) json_object_set(config, "url", json_object_get(request, "url"));
  char *document = json_dumps(config, 0);
  unstale_client *made = NULL;
  unstale_result r = unstale_client_connect(document, &made);
  free(document);
  json_decref(config);
  if (r.code == UNSTALE_OK) client = made, caches = NULL;
  return answer(r, json_null());
}

static json_t *open_cache(json_t *request) {
  json_t *options = json_object_get(request, "options");
  char *document = json_is_object(options) ? json_dumps(options, 0) : NULL;
  unstale_cache *made = NULL;
  unstale_result r = unstale_client_cache(client, text(request, "ns"), document, &made);
  free(document);
  if (r.code == UNSTALE_OK) {
    opened *o = calloc(1, sizeof *o);
    o->cache = made;
    o->events = json_array();
    pthread_mutex_init(&o->lock, NULL);
    keep(&caches, text(request, "ns"), o);
  }
  return answer(r, json_null());
}

static void write_log(void *userdata, uint32_t level, const char *target, const char *message) {
  (void)userdata;
  fprintf(stderr, "%u %s %s\n", level, target, message);
}

static json_t *serve(const char *command, json_t *request) {
  uint64_t timeout = (uint64_t)json_integer_value(json_object_get(request, "timeout_ms"));
  bool flag = false;
  if (!strcmp(command, "hello")) return json_pack("{s:{s:s,s:i}}", "ok", "language", "c", "protocol", 1);
  if (!strcmp(command, "quit")) return json_pack("{s:n}", "ok");
  if (!strcmp(command, "log")) return answer(unstale_set_log(UNSTALE_LOG_TRACE, write_log, NULL, NULL), json_null());
  if (!strcmp(command, "connect")) return connect_to(request);
  if (!client) return mistake("not connected");
  if (!strcmp(command, "cache")) return open_cache(request);
  if (!strcmp(command, "wait_for")) {
    unstale_result r = unstale_client_wait_for(client, text(request, "token"), timeout, &flag);
    return answer(r, json_boolean(flag));
  }
  if (!strcmp(command, "delivered")) {
    unstale_receipt *receipt = find(receipts, text(request, "token"));
    if (!receipt) return mistake("no receipt with this token");
    unstale_result r = unstale_receipt_wait(receipt, timeout, &flag);
    return answer(r, json_boolean(flag));
  }
  if (!strcmp(command, "status")) {
    char *document = NULL;
    unstale_result r = unstale_client_status(client, &document);
    return parsed(r, document);
  }
  if (!strcmp(command, "close")) {
    size_t unsent = 0;
    unstale_result r = unstale_client_close(client, timeout, &unsent);
    return answer(r, json_integer((json_int_t)unsent));
  }
  if (!strncmp(command, "load_", 5) && strcmp(command, "load_start")) {
    load *l = find(loads, text(request, "id"));
    if (!l) return mistake("no such load");
    if (!strcmp(command, "load_state")) return state_of(l);
    tell(l, request);
    return json_pack("{s:n}", "ok");
  }
  if (!strcmp(command, "lease_drop")) {
    unstale_lease *lease = find(leases, text(request, "id"));
    if (!lease) return mistake("no such lease");
    unstale_lease_free(lease);
    return json_pack("{s:n}", "ok");
  }
  opened *o = find(caches, text(request, "ns"));
  return o ? on_cache(o, command, request) : mistake("no cache of this namespace is open");
}

int main(void) {
  char *line = NULL;
  size_t room = 0;
  ssize_t len;
  while ((len = getline(&line, &room, stdin)) > 0) {
    json_t *request = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
    const char *command = request ? text(request, "cmd") : NULL;
    json_t *a = command ? serve(command, request) : mistake("not a command");
    char *out = json_dumps(a, 0);
    printf("%s\n", out);
    fflush(stdout);
    free(out);
    json_decref(a);
    int quit = command && !strcmp(command, "quit");
    json_decref(request);
    if (quit) break;
  }
  fflush(stdout);
  /* Loads may be open in threads of their own: end without waiting for them. */
  _Exit(0);
}

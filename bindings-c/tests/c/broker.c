/* Two clients over a real broker, plain and with TLS, the latter beside the system's own OpenSSL. */
#include "check.h"

#include <dlfcn.h>

static void between_two_clients(const char *config) {
    unstale_client *writer = connect_to(config), *reader = connect_to(config);
    unstale_cache *written = open_cache(writer, "broker", NULL), *read = open_cache(reader, "broker", NULL);
    unstale_receipt *receipt = NULL;
    bool delivered = false, reached = false;
    char *token = NULL;
    settle(reader);
    put(read, "k", "old");
    OK(unstale_cache_invalidate(written, KEY("k"), &receipt));
    OK(unstale_receipt_wait(receipt, 10000, &delivered));
    CHECK(delivered);
    OK(unstale_receipt_token(receipt, &token));
    OK(unstale_client_wait_for(reader, token, 10000, &reached));
    CHECK(reached && holds(read, "k", NULL));
    unstale_string_free(token);
    unstale_receipt_free(receipt);

    put(read, "a", "1");
    put(read, "b", "1");
    OK(unstale_cache_invalidate_all(written, NULL));
    EVENTUALLY(holds(read, "a", NULL) && holds(read, "b", NULL));
    finish(writer, written);
    finish(reader, read);
}

static void invalidations_cross_a_broker(void) {
    char config[256];
    snprintf(config, sizeof config, "{\"url\": \"%s\"}", getenv("US_BROKER"));
    between_two_clients(config);
}

static void what_was_issued_is_sent_before_close_returns(void) {
    char config[256];
    size_t unsent = 99;
    snprintf(config, sizeof config, "{\"url\": \"%s\"}", getenv("US_BROKER"));
    unstale_client *writer = connect_to(config), *reader = connect_to(config);
    unstale_cache *written = open_cache(writer, "close", NULL), *read = open_cache(reader, "close", NULL);
    settle(reader);
    put(read, "k", "old");
    OK(unstale_cache_invalidate(written, KEY("k"), NULL));
    OK(unstale_client_close(writer, UNSTALE_CLOSE_TIMEOUT_MS, &unsent));
    CHECK(unsent == 0);
    EVENTUALLY(holds(read, "k", NULL));
    unstale_cache_free(written);
    unstale_client_free(writer);
    finish(reader, read);
}

static void a_broker_that_is_not_there_is_an_error_or_awaited(void) {
    unstale_client *client = NULL;
    size_t unsent = 0;
    CHECK_CODE(UNSTALE_CONNECT, unstale_client_connect("{\"url\": \"mqtt://127.0.0.1:1\", \"connect_timeout\": \"2s\"}", &client));
    CHECK(client == NULL);
    client = connect_to("{\"url\": \"mqtt://127.0.0.1:1\", \"lazy\": true}");
    unstale_cache *cache = open_cache(client, "lazy", NULL);
    unstale_receipt *receipt = NULL;
    bool delivered = true;
    put(cache, "k", "v");
    OK(unstale_cache_invalidate(cache, KEY("k"), &receipt));
    CHECK(holds(cache, "k", NULL));
    OK(unstale_receipt_wait(receipt, 10, &delivered));
    CHECK(!delivered);
    OK(unstale_client_close(client, 50, &unsent));
    CHECK(unsent == 1);
    unstale_receipt_free(receipt);
    unstale_cache_free(cache);
    unstale_client_free(client);
}

/* The program's own TLS, in another version than the one that the library carries. */
static void *system_tls(void) {
    void *ssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL);
    CHECK(ssl != NULL);
    return ssl;
}

static void make_a_context(void *ssl) {
    const void *(*method)(void);
    void *(*create)(const void *);
    void (*destroy)(void *);
    void *found = dlsym(ssl, "TLS_client_method");
    memcpy(&method, &found, sizeof found);
    found = dlsym(ssl, "SSL_CTX_new");
    memcpy(&create, &found, sizeof found);
    found = dlsym(ssl, "SSL_CTX_free");
    memcpy(&destroy, &found, sizeof found);
    void *context = create(method());
    CHECK(context != NULL);
    destroy(context);
}

static void tls_works_beside_the_programs_own(void) {
    char config[512];
    void *ssl = system_tls();
    unstale_client *client = NULL;
    if (ssl == NULL) return;
    make_a_context(ssl);
    snprintf(config, sizeof config, "{\"url\": \"%s\", \"connect_timeout\": \"1m\", \"tls\": {\"ca_file\": \"%s\"}}", getenv("US_TLS_BROKER"), getenv("US_CA"));
    between_two_clients(config);
    make_a_context(ssl);
    /* A certificate that nobody vouches for is refused. */
    snprintf(config, sizeof config, "{\"url\": \"%s\", \"connect_timeout\": \"1m\"}", getenv("US_TLS_BROKER"));
    CHECK_CODE(UNSTALE_TLS, unstale_client_connect(config, &client));
    make_a_context(ssl);
}

CHECK_MAIN(TEST(invalidations_cross_a_broker), TEST(what_was_issued_is_sent_before_close_returns),
           TEST(a_broker_that_is_not_there_is_an_error_or_awaited), TEST(tls_works_beside_the_programs_own))

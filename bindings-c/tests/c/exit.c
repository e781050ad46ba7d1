/* A process may end while clients are connecting: their threads go on during its exit handlers, and must find TLS usable there. */
#include "check.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 4, ATTEMPTS = 8 };

static int listener;
static counter attempts = COUNTER_INIT;
static unstale_client *clients[CLIENTS];

/* A port that is no broker's: whoever connects is hung up on, finds out why, and tries again. */
static void *hang_up(void *unused) {
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) return unused;
        close(connection);
        counter_add(&attempts);
    }
}

static void serve(char *url, size_t size) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    pthread_t thread;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 64) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    CHECK(pthread_create(&thread, NULL, hang_up, NULL) == 0);
    snprintf(url, size, "mqtts://127.0.0.1:%d", ntohs(address.sin_port));
}

static void the_process_ends_while_clients_connect(void) {
    char url[64], config[128];
    int i;
    serve(url, sizeof url);
    snprintf(config, sizeof config, "{\"url\": \"%s\", \"lazy\": true}", url);
    for (i = 0; i < CLIENTS; i++) OK(unstale_client_connect(config, &clients[i]));
    EVENTUALLY(counter_get(&attempts) >= CLIENTS);
}

/* An exit handler that takes its time, as those of others may. Registered before any of the library's, it runs after them. */
static void take_time(void) {
    int seen = counter_get(&attempts), tries = 0;
    while (counter_get(&attempts) < seen + ATTEMPTS && tries++ < 10000) check_pause_1ms();
}

static void register_handler(void) { CHECK(atexit(take_time) == 0); }

CHECK_MAIN(TEST(register_handler), TEST(the_process_ends_while_clients_connect))

/* Size and offsets of every struct that crosses; src/layout.rs has the same numbers. */
#include "check.h"

#define SAME(name, condition) typedef char name[(condition) ? 1 : -1]
#define FIELD(type, field, offset) SAME(type##_##field##_is_where_rust_has_it, offsetof(type, field) == (offset))
#define SIZE(type, size) SAME(type##_has_the_size_of_rust, sizeof(type) == (size))

SIZE(unstale_result, 8);
FIELD(unstale_result, code, 0);
FIELD(unstale_result, detail, 4);

SIZE(unstale_str, 16);
FIELD(unstale_str, data, 0);
FIELD(unstale_str, len, 8);

SIZE(unstale_value, 24);
FIELD(unstale_value, data, 0);
FIELD(unstale_value, len, 8);
FIELD(unstale_value, owner, 16);

SIZE(unstale_set_options, 64);
FIELD(unstale_set_options, ttl_ms, 0);
FIELD(unstale_set_options, tags, 8);
FIELD(unstale_set_options, tags_len, 16);
FIELD(unstale_set_options, depends_on, 24);
FIELD(unstale_set_options, depends_on_len, 32);
FIELD(unstale_set_options, version, 40);
FIELD(unstale_set_options, lease, 48);
FIELD(unstale_set_options, has_version, 56);
FIELD(unstale_set_options, reserved, 57);

SIZE(unstale_key_version, 32);
FIELD(unstale_key_version, key, 0);
FIELD(unstale_key_version, key_len, 8);
FIELD(unstale_key_version, version, 16);
FIELD(unstale_key_version, has_version, 24);
FIELD(unstale_key_version, reserved, 25);

SIZE(unstale_failure, 32);
FIELD(unstale_failure, code, 0);
FIELD(unstale_failure, error, 8);

SIZE(unstale_begun, 56);
FIELD(unstale_begun, value, 0);
FIELD(unstale_begun, load, 24);
FIELD(unstale_begun, join, 32);
FIELD(unstale_begun, load_id, 40);
FIELD(unstale_begun, state, 48);
FIELD(unstale_begun, reserved, 52);

SIZE(unstale_joined, 64);
FIELD(unstale_joined, value, 0);
FIELD(unstale_joined, failure, 24);
FIELD(unstale_joined, state, 56);
FIELD(unstale_joined, reserved, 60);

static void structs_have_the_layout_of_rust(void) {
    CHECK(sizeof(unstale_code) == 4); /* the rest was asserted by the compiler */
}

static void numbers_are_those_of_every_language(void) {
    const char *names[] = {"Ok",      "InvalidArgument", "Config", "Connect", "Auth",    "Tls",
                           "Timeout", "Closed",          "Load",   "Internal", "Forked", "Unknown"};
    CHECK(UNSTALE_OK == 0 && UNSTALE_INVALID_ARGUMENT == 1 && UNSTALE_CONFIG == 2 && UNSTALE_CONNECT == 3);
    CHECK(UNSTALE_AUTH == 4 && UNSTALE_TLS == 5 && UNSTALE_TIMEOUT == 6 && UNSTALE_CLOSED == 7);
    CHECK(UNSTALE_LOAD == 8 && UNSTALE_INTERNAL == 9 && UNSTALE_FORKED == 10);
    for (uint32_t code = 0; code < 12; code++) CHECK(strcmp(unstale_code_name(code), names[code]) == 0);
    CHECK(strcmp(unstale_code_name(UINT32_MAX), "Unknown") == 0);
}

CHECK_MAIN(TEST(structs_have_the_layout_of_rust), TEST(numbers_are_those_of_every_language))

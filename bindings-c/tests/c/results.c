/* Results, messages, strings. */
#include "check.h"

static unstale_result failure(void) {
    unstale_client *client = NULL;
    return unstale_client_connect("{\"no_such_option\": 1}", &client);
}

static void a_message_names_what_was_wrong(void) {
    unstale_result result = failure();
    CHECK(result.code == UNSTALE_CONFIG);
    CHECK(strstr(message_of(result), "no_such_option") != NULL);
}

static void a_message_is_cut_to_the_buffer_and_its_length_told(void) {
    unstale_result result = failure();
    char whole[512], part[9];
    size_t len = unstale_result_message(result, whole, sizeof whole);
    CHECK(len == strlen(whole));
    CHECK(unstale_result_message(result, NULL, 0) == len);
    CHECK(unstale_result_message(result, NULL, 100) == len);
    memset(part, 'x', sizeof part);
    CHECK(unstale_result_message(result, part, sizeof part) == len);
    CHECK(strlen(part) == 8 && memcmp(part, whole, 8) == 0);
    part[0] = 'x';
    CHECK(unstale_result_message(result, part, 0) == len && part[0] == 'x');
    CHECK(unstale_result_message(result, part, 1) == len && part[0] == 0);
}

static void *read_elsewhere(void *userdata) {
    unstale_result *result = (unstale_result *)userdata;
    char message[512];
    unstale_result_message(*result, message, sizeof message);
    return strstr(message, "no_such_option") ? userdata : NULL;
}

static void a_message_can_be_read_on_another_thread(void) {
    unstale_result result = failure();
    pthread_t thread;
    void *found = NULL;
    CHECK(pthread_create(&thread, NULL, read_elsewhere, &result) == 0);
    pthread_join(thread, &found);
    CHECK(found == &result);
}

static void an_old_message_becomes_a_general_one(void) {
    unstale_result first = failure();
    for (int i = 0; i < 2000; i++) INVALID(unstale_value_copy(NULL, 1, NULL));
    CHECK(strstr(message_of(first), "no_such_option") == NULL);
    CHECK(strlen(message_of(first)) > 10);
}

static void results_that_nobody_gave_are_harmless(void) {
    unstale_result made_up = {4242, 77777};
    CHECK(strlen(message_of(made_up)) > 0);
    unstale_result fine = {0, 0};
    CHECK(strcmp(message_of(fine), "no error") == 0);
}

static void the_version_is_a_version(void) {
    int major = -1, minor = -1, patch = -1;
    CHECK(sscanf(unstale_version(), "%d.%d.%d", &major, &minor, &patch) == 3);
    CHECK(unstale_version() == unstale_version());
}

static void freeing_null_does_nothing(void) {
    unstale_string_free(NULL);
    unstale_value_release(NULL);
    unstale_client_free(NULL);
    unstale_cache_free(NULL);
    unstale_receipt_free(NULL);
    unstale_lease_free(NULL);
    unstale_load_abandon(NULL);
    unstale_join_free(NULL);
    unstale_subscription_cancel(NULL);
}

CHECK_MAIN(TEST(a_message_names_what_was_wrong), TEST(a_message_is_cut_to_the_buffer_and_its_length_told),
           TEST(a_message_can_be_read_on_another_thread), TEST(an_old_message_becomes_a_general_one),
           TEST(results_that_nobody_gave_are_harmless), TEST(the_version_is_a_version), TEST(freeing_null_does_nothing))

/* Logs every callback with its arguments, for each version of the ABI.
 *
 * Shows: the order of callbacks, and what differs between the versions: the third argument
 * of the headers callbacks, the answer for a header that is not there, the functions that
 * only one version has. Compiled three times: -DABI_0_1_0, -DABI_0_2_0, -DABI_0_2_1.
 *
 * A request decides what else happens: `x-lifecycle: reply` is answered here, `x-lifecycle:
 * pause` waits for the next tick. With `slow` as configuration the plugin is not done when
 * it is asked, but one tick later. */
#include "proxy_wasm.h"

MEMORY_ALLOCATE

#if defined(ABI_0_1_0)
ABI_MARKER(proxy_abi_version_0_1_0)
IMPORT(proxy_get_configuration)(char **data, size_t *size);
IMPORT(proxy_continue_request)(void);
#elif defined(ABI_0_2_0)
ABI_MARKER(proxy_abi_version_0_2_0)
IMPORT(proxy_continue_stream)(uint32_t stream_type);
#elif defined(ABI_0_2_1)
ABI_MARKER(proxy_abi_version_0_2_1)
IMPORT(proxy_continue_stream)(uint32_t stream_type);
IMPORT(proxy_get_log_level)(uint32_t *level);
#else
#error "name the version of the ABI"
#endif

IMPORT(proxy_set_effective_context)(uint32_t id);
IMPORT(proxy_done)(void);

enum { TICK_MS = 20 };

static char line[512];
static size_t line_size;

static void put(const char *text, size_t size) {
    if (size > sizeof line - line_size) {
        size = sizeof line - line_size;
    }
    memcpy(line + line_size, text, size);
    line_size += size;
}

static void put_number(uint32_t number) {
    char digits[10];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(digits + at, sizeof digits - at);
}

static void log_line(void) {
    proxy_log(LOG_INFO, line, line_size);
    line_size = 0;
}

/* `name(1, 2, 3)`. The arguments are an array, so that one macro does for every callback. */
static void log_call(const char *name, const uint32_t *arguments, size_t count) {
    put(name, strlen(name));
    put(TEXT("("));
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            put(TEXT(", "));
        }
        put_number(arguments[i]);
    }
    put(TEXT(")"));
    log_line();
}

#define LOG_CALL(name, ...) \
    log_call(name, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void log_number(const char *name, uint32_t number) {
    put(name, strlen(name));
    put(TEXT(" = "));
    put_number(number);
    log_line();
}

static uint32_t paused;
static uint32_t slow;
static uint32_t leaving;

/* --- the VM and the plugin ---------------------------------------------------------- */

__attribute__((constructor)) static void start(void) {
    put(TEXT("_initialize()"));
    log_line();
}

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) { LOG_CALL("on_context_create", id, parent); }

uint32_t EXPORT(proxy_on_vm_start)(uint32_t root, uint32_t size) {
    LOG_CALL("on_vm_start", root, size);
    return 1;
}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    char *conf = NULL;
    LOG_CALL("on_configure", root, size);
#if defined(ABI_0_1_0)
    proxy_get_configuration(&conf, &size);
#else
    proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &conf, &size);
#endif
    put(TEXT("configuration = "));
    put(conf, size);
    log_line();
#if defined(ABI_0_2_1)
    uint32_t level = 0;
    proxy_get_log_level(&level);
    log_number("log level", level);
#endif
    slow = size == 4 && memcmp(conf, "slow", 4) == 0;
    free(conf);
    return 1;
}

void EXPORT(proxy_on_tick)(uint32_t root) {
    LOG_CALL("on_tick", root);
    proxy_set_tick_period_milliseconds(0);
    if (leaving) {
        log_number("proxy_done", proxy_done());
    }
    if (paused) {
        log_number("set_effective_context", proxy_set_effective_context(paused));
        paused = 0;
#if defined(ABI_0_1_0)
        log_number("continue_request", proxy_continue_request());
#else
        log_number("continue_stream", proxy_continue_stream(0));
#endif
    }
}

uint32_t EXPORT(proxy_on_done)(uint32_t id) {
    LOG_CALL("on_done", id);
    if (id == 1 && slow) {
        leaving = 1;
        proxy_set_tick_period_milliseconds(TICK_MS);
        return 0;
    }
    return 1;
}

void EXPORT(proxy_on_log)(uint32_t id) { LOG_CALL("on_log", id); }

void EXPORT(proxy_on_delete)(uint32_t id) { LOG_CALL("on_delete", id); }

/* --- a connection ------------------------------------------------------------------- */

uint32_t EXPORT(proxy_on_new_connection)(uint32_t id) {
    LOG_CALL("on_new_connection", id);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_downstream_data)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    LOG_CALL("on_downstream_data", id, size, end_of_stream);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_upstream_data)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    LOG_CALL("on_upstream_data", id, size, end_of_stream);
    return ACTION_CONTINUE;
}

void EXPORT(proxy_on_downstream_connection_close)(uint32_t id, uint32_t peer) {
    LOG_CALL("on_downstream_connection_close", id, peer);
}

void EXPORT(proxy_on_upstream_connection_close)(uint32_t id, uint32_t peer) {
    LOG_CALL("on_upstream_connection_close", id, peer);
}

/* --- a request ---------------------------------------------------------------------- */

static uint32_t is_asked(const char *what) {
    char *value = NULL;
    size_t size = 0;
    proxy_get_header_map_value(MAP_REQUEST_HEADERS, TEXT("x-lifecycle"), &value, &size);
    uint32_t same = size == strlen(what) && memcmp(value, what, size) == 0;
    free(value);
    return same;
}

static uint32_t answer_request(uint32_t id) {
    char *value = NULL;
    size_t size = 0;
    log_number("missing header", proxy_get_header_map_value(MAP_REQUEST_HEADERS, TEXT("x-absent"), &value, &size));
    if (is_asked("reply")) {
        proxy_send_local_response(403, TEXT("lifecycle"), TEXT("reply"), NULL, 0, NO_GRPC_STATUS);
        return ACTION_PAUSE;
    }
    if (is_asked("pause")) {
        paused = id;
        proxy_set_effective_context(1);
        proxy_set_tick_period_milliseconds(TICK_MS);
        return ACTION_PAUSE;
    }
    return ACTION_CONTINUE;
}

#if defined(ABI_0_1_0)
uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t num_headers) {
    LOG_CALL("on_request_headers", id, num_headers);
    return answer_request(id);
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t num_headers) {
    LOG_CALL("on_response_headers", id, num_headers);
    return ACTION_CONTINUE;
}
#else
uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t num_headers, uint32_t end_of_stream) {
    LOG_CALL("on_request_headers", id, num_headers, end_of_stream);
    return answer_request(id);
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t num_headers, uint32_t end_of_stream) {
    LOG_CALL("on_response_headers", id, num_headers, end_of_stream);
    return ACTION_CONTINUE;
}

void EXPORT(proxy_on_foreign_function)(uint32_t root, uint32_t function, uint32_t size) {
    LOG_CALL("on_foreign_function", root, function, size);
}
#endif

uint32_t EXPORT(proxy_on_request_body)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    LOG_CALL("on_request_body", id, size, end_of_stream);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_request_trailers)(uint32_t id, uint32_t num_trailers) {
    LOG_CALL("on_request_trailers", id, num_trailers);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_request_metadata)(uint32_t id, uint32_t count) {
    LOG_CALL("on_request_metadata", id, count);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_body)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    LOG_CALL("on_response_body", id, size, end_of_stream);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_trailers)(uint32_t id, uint32_t num_trailers) {
    LOG_CALL("on_response_trailers", id, num_trailers);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_metadata)(uint32_t id, uint32_t count) {
    LOG_CALL("on_response_metadata", id, count);
    return ACTION_CONTINUE;
}

/* --- answers to a root context ------------------------------------------------------ */

void EXPORT(proxy_on_http_call_response)(uint32_t root, uint32_t token, uint32_t headers, uint32_t size,
                                         uint32_t trailers) {
    LOG_CALL("on_http_call_response", root, token, headers, size, trailers);
}

void EXPORT(proxy_on_grpc_receive_initial_metadata)(uint32_t root, uint32_t token, uint32_t count) {
    LOG_CALL("on_grpc_receive_initial_metadata", root, token, count);
}

void EXPORT(proxy_on_grpc_receive)(uint32_t root, uint32_t token, uint32_t size) {
    LOG_CALL("on_grpc_receive", root, token, size);
}

void EXPORT(proxy_on_grpc_receive_trailing_metadata)(uint32_t root, uint32_t token, uint32_t count) {
    LOG_CALL("on_grpc_receive_trailing_metadata", root, token, count);
}

void EXPORT(proxy_on_grpc_close)(uint32_t root, uint32_t token, uint32_t status) {
    LOG_CALL("on_grpc_close", root, token, status);
}

void EXPORT(proxy_on_queue_ready)(uint32_t root, uint32_t token) { LOG_CALL("on_queue_ready", root, token); }

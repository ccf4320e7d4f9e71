/* Does in each callback what its configuration says, and logs what comes of it.
 *
 * Shows: HTTP calls and foreign functions with their answers, ticks, queues and properties, from any callback, of
 * root contexts too. One step a line, `<callback> <action> <arguments>`, in the order of the lines:
 *
 *     configure http auth 1000 <pairs> <body> <trailers>
 *     request_headers foreign compress <arguments>
 *     request_headers pause
 *     answer resume 0
 *     configure refuse
 *
 * Arguments that may hold anything are hexadecimal, "-" for empty; so are results in the log. A step that is about a
 * stream (resume, reply, header, get, set) acts for the stream whose call was answered, else for the newest one. */
#include "proxy_wasm.h"

ABI_MARKER(proxy_abi_version_0_2_1)
MEMORY_ALLOCATE

IMPORT(proxy_http_call)(const char *upstream, size_t upstream_size, const char *headers, size_t headers_size,
                        const char *body, size_t body_size, const char *trailers, size_t trailers_size,
                        uint32_t timeout, uint32_t *token);
IMPORT(proxy_call_foreign_function)(const char *name, size_t name_size, const char *arguments, size_t arguments_size,
                                    char **results, size_t *results_size);
IMPORT(proxy_get_status)(uint32_t *code, char **message, size_t *size);
IMPORT(proxy_get_header_map_pairs)(uint32_t map, char **data, size_t *size);
IMPORT(proxy_set_effective_context)(uint32_t id);
IMPORT(proxy_continue_stream)(uint32_t stream_type);
IMPORT(proxy_get_property)(const char *path, size_t path_size, char **value, size_t *size);
IMPORT(proxy_set_property)(const char *path, size_t path_size, const char *value, size_t size);
IMPORT(proxy_register_shared_queue)(const char *name, size_t name_size, uint32_t *token);
IMPORT(proxy_enqueue_shared_queue)(uint32_t token, const char *value, size_t size);
IMPORT(proxy_dequeue_shared_queue)(uint32_t token, char **value, size_t *size);

enum { BUFFER_CALL_RESPONSE_BODY = 4, BUFFER_CALL_DATA = 8, MAP_CALL_RESPONSE_HEADERS = 6, MAP_CALL_RESPONSE_TRAILERS };
enum { LAST_TOKEN = 16384 };

typedef struct {
    char *data;
    size_t size;
} bytes;

static bytes conf;
static char line[65536];
static size_t line_size;
static uint32_t stream, queue;
/* Whose call a token is: HTTP calls' numbers are multiples of 4. */
static uint32_t caller[LAST_TOKEN / 4];

#include "text.h"

/* --- steps --- */

static void http(bytes arguments, uint32_t context) {
    bytes upstream = word(&arguments);
    uint32_t timeout = number(word(&arguments)), token = 0;
    bytes headers = unhex_word(&arguments), body = unhex_word(&arguments), trailers = unhex_word(&arguments);
    uint32_t status = proxy_http_call(upstream.data, upstream.size, headers.data, headers.size, body.data, body.size,
                                      trailers.data, trailers.size, timeout, &token);
    if (status == STATUS_OK && token < LAST_TOKEN) {
        caller[token / 4] = context;
    }
    put_number(status);
    put_text(" token ");
    put_number(token);
    free(headers.data), free(body.data), free(trailers.data);
}

static void foreign(bytes arguments) {
    bytes name = word(&arguments), value = unhex_word(&arguments), result = {0};
    put_number(proxy_call_foreign_function(name.data, name.size, value.data, value.size, &result.data, &result.size));
    put_text(" ");
    put_hex(result);
    free(value.data), free(result.data);
}

static void property(bytes arguments, int set) {
    bytes path = unhex_word(&arguments), value = {0};
    if (set) {
        value = unhex_word(&arguments);
        put_number(proxy_set_property(path.data, path.size, value.data, value.size));
    } else {
        put_number(proxy_get_property(path.data, path.size, &value.data, &value.size));
        put_text(" ");
        put_hex(value);
    }
    free(path.data), free(value.data);
}

static void header(bytes arguments) {
    uint32_t map = number(word(&arguments));
    bytes name = word(&arguments), value = {0};
    put_number(proxy_get_header_map_value(map, name.data, name.size, &value.data, &value.size));
    put_text(" ");
    put(value.data, value.size);
    free(value.data);
}

static void queue_step(bytes action, bytes arguments) {
    bytes value = {0};
    if (is(action, "dequeue")) {
        put_number(proxy_dequeue_shared_queue(queue, &value.data, &value.size));
        put_text(" ");
        put_hex(value);
    } else {
        value = unhex_word(&arguments);
        put_number(is(action, "register") ? proxy_register_shared_queue(value.data, value.size, &queue)
                                          : proxy_enqueue_shared_queue(queue, value.data, value.size));
    }
    free(value.data);
}

/* 1 when the callback is to answer "pause", or in on_configure "no". */
static uint32_t step(bytes action, bytes arguments, uint32_t context) {
    if (is(action, "pause") || is(action, "refuse")) {
        put_text("0");
        return ACTION_PAUSE;
    }
    if (is(action, "http")) {
        http(arguments, context);
    } else if (is(action, "foreign")) {
        foreign(arguments);
    } else if (is(action, "get") || is(action, "set")) {
        property(arguments, is(action, "set"));
    } else if (is(action, "header")) {
        header(arguments);
    } else if (is(action, "stream")) {
        put_number(proxy_set_effective_context(stream));
    } else if (is(action, "resume")) {
        put_number(proxy_continue_stream(number(arguments)));
    } else if (is(action, "reply")) {
        put_number(proxy_send_local_response(number(arguments), TEXT("callouts"), TEXT("replied"), NULL, 0,
                                             NO_GRPC_STATUS));
    } else if (is(action, "period")) {
        put_number(proxy_set_tick_period_milliseconds(number(arguments)));
    } else if (is(action, "trap")) {
        __builtin_trap();
    } else {
        queue_step(action, arguments);
    }
    return ACTION_CONTINUE;
}

/* Every step of this callback. */
static uint32_t run(const char *callback, uint32_t context) {
    uint32_t verdict = ACTION_CONTINUE;
    for (size_t from = 0, to; from < conf.size; from = to + 1) {
        for (to = from; to < conf.size && conf.data[to] != '\n'; to++) {
        }
        bytes rest = {conf.data + from, to - from};
        if (!is(word(&rest), callback)) {
            continue;
        }
        bytes action = word(&rest), peek = rest, first = word(&peek);
        put_text(callback);
        put_text(" ");
        put(action.data, action.size);
        put_text(" ");
        put(first.data, first.size > 32 ? 32 : first.size);
        put_text(" = ");
        verdict |= step(action, rest, context);
        log_line();
    }
    return verdict;
}

/* --- callbacks --- */

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {
    if (parent != 0) {
        stream = id;
    }
}

uint32_t EXPORT(proxy_on_vm_start)(uint32_t root, size_t size) {
    /* A step in on_vm_start can only come from the VM's configuration. */
    proxy_get_buffer_bytes(BUFFER_VM_CONFIGURATION, 0, size, &conf.data, &conf.size);
    run("vm_start", 0);
    return 1;
}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &conf.data, &conf.size);
    return run("configure", 0) == ACTION_CONTINUE;
}

void EXPORT(proxy_on_tick)(uint32_t root) { run("tick", 0); }

void EXPORT(proxy_on_queue_ready)(uint32_t root, uint32_t token) { run("queue", 0); }

uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, uint32_t end) { return run("request_headers", id); }

uint32_t EXPORT(proxy_on_request_body)(uint32_t id, size_t size, uint32_t end) { return run("request_body", id); }

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, uint32_t end) { return run("response_headers", id); }

uint32_t EXPORT(proxy_on_response_body)(uint32_t id, size_t size, uint32_t end) { return run("response_body", id); }

void EXPORT(proxy_on_log)(uint32_t id) { run(id == stream ? "log" : "root_log", id); }

uint32_t EXPORT(proxy_on_done)(uint32_t id) {
    run(id == stream ? "done" : "root_done", id);
    return 1;
}

static void log_status(const char *callback) {
    uint32_t code = 0;
    bytes message = {0};
    proxy_get_status(&code, &message.data, &message.size);
    put_text(callback);
    put_text(" status ");
    put_number(code);
    put_text(" ");
    put(message.data, message.size);
    log_line();
    free(message.data);
}

static uint32_t u32(const char *data) {
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static void log_pairs(uint32_t map) {
    bytes pairs = {0};
    proxy_get_header_map_pairs(map, &pairs.data, &pairs.size);
    uint32_t count = pairs.size < 4 ? 0 : u32(pairs.data);
    const char *at = pairs.data + 4 + 8 * count;
    for (uint32_t pair = 0; pair < count; pair++) {
        for (uint32_t part = 0; part < 2; part++) {
            uint32_t size = u32(pairs.data + 4 + 8 * pair + 4 * part);
            put_text(part ? ": " : map == MAP_CALL_RESPONSE_HEADERS ? "answer header " : "answer trailer ");
            put(at, size);
            at += size + 1;
        }
        log_line();
    }
    free(pairs.data);
}

void EXPORT(proxy_on_http_call_response)(uint32_t root, uint32_t token, uint32_t headers, size_t size, uint32_t trailers) {
    const uint32_t numbers[] = {token, headers, (uint32_t)size, trailers};
    put_text("answer");
    for (size_t at = 0; at < 4; at++) {
        put_text(" ");
        put_number(numbers[at]);
    }
    log_line();
    log_status("answer");
    log_pairs(MAP_CALL_RESPONSE_HEADERS);
    log_pairs(MAP_CALL_RESPONSE_TRAILERS);
    if (size > 0) {
        bytes body = {0};
        proxy_get_buffer_bytes(BUFFER_CALL_RESPONSE_BODY, 0, size, &body.data, &body.size);
        put_text("answer body ");
        put_hex(body);
        log_line();
        free(body.data);
    }
    uint32_t context = token < LAST_TOKEN ? caller[token / 4] : 0;
    if (context != 0 && proxy_set_effective_context(context) != STATUS_OK) {
        proxy_log(LOG_INFO, TEXT("answer without a stream"));
        return;
    }
    run("answer", context);
}

void EXPORT(proxy_on_foreign_function)(uint32_t root, uint32_t function, size_t size) {
    bytes arguments = {0};
    uint32_t status = proxy_get_buffer_bytes(BUFFER_CALL_DATA, 0, size, &arguments.data, &arguments.size);
    put_text("foreign_function ");
    put_number(function);
    put_text(" ");
    put_number((uint32_t)size);
    put_text(" = ");
    put_number(status);
    put_text(" ");
    put_hex(arguments);
    log_line();
    free(arguments.data);
    log_status("foreign_function");
    run("foreign_function", 0);
}

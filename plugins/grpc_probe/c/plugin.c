/* Makes gRPC calls from a script, and logs every callback and every status.
 *
 * Shows: what a plugin without an SDK sees of gRPC, callback by callback. Compiled twice: -DSHORT
 * imports the two hostcalls as the oldest SDKs do, without initial metadata.
 *
 * Each line of `conf` is `EVENT COMMAND ARGUMENT ...`. An event is `request`, or a gRPC callback of one token:
 * `initial:6`, `receive:5`, `trailing:6`, `close:6`. A line runs once, when its event first comes. In an argument
 * `%0a` is a byte, `_` alone is nothing.
 *
 *   call UPSTREAM SERVICE METHOD METADATA MESSAGE TIMEOUT      stream UPSTREAM SERVICE METHOD METADATA
 *   send TOKEN MESSAGE    end TOKEN MESSAGE    close TOKEN    cancel TOKEN    status    trap
 *
 * METADATA is `name=value`, several joined by `&`. */
#include "proxy_wasm.h"

MEMORY_ALLOCATE
ABI_MARKER(proxy_abi_version_0_2_1)

#if defined(SHORT)
#define METADATA_PARAMETERS
#define METADATA_ARGUMENTS
#else
#define METADATA_PARAMETERS const char *metadata, size_t metadata_size,
#define METADATA_ARGUMENTS pairs, pairs_size,
#endif

IMPORT(proxy_grpc_call)(const char *upstream, size_t upstream_size, const char *service, size_t service_size,
                        const char *method, size_t method_size, METADATA_PARAMETERS const char *message,
                        size_t message_size, uint32_t timeout, uint32_t *token);
IMPORT(proxy_grpc_stream)(const char *upstream, size_t upstream_size, const char *service, size_t service_size,
                          const char *method, size_t method_size, METADATA_PARAMETERS uint32_t *token);
IMPORT(proxy_grpc_send)(uint32_t token, const char *message, size_t message_size, uint32_t end_stream);
IMPORT(proxy_grpc_close)(uint32_t token);
IMPORT(proxy_grpc_cancel)(uint32_t token);
IMPORT(proxy_get_status)(uint32_t *code, char **message, size_t *size);
IMPORT(proxy_get_header_map_pairs)(uint32_t map, char **pairs, size_t *size);

enum { MOST_LINES = 64, MOST_ARGUMENTS = 8, MAP_INITIAL = 4, MAP_TRAILING = 5, BUFFER_MESSAGE = 5 };

#include "line.h"

/* --- the script --------------------------------------------------------------------------- */

static char *script[MOST_LINES];
static size_t script_size;

static size_t value_of(char digit) { return (size_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10); }

/* Decodes in place: what is left, and how long it is. */
static size_t decode(char *text) {
    size_t size = 0;
    if (text[0] == '_' && text[1] == 0) {
        return 0;
    }
    for (; *text; size++) {
        if (*text == '%') {
            text[0] = (char)(value_of(text[1]) * 16 + value_of(text[2]));
            memmove(text + 1, text + 3, strlen(text + 3) + 1);
        }
        text++;
    }
    return size;
}

#if !defined(SHORT)
static char pairs[4096];

static void store(char *at, size_t number) {
    for (size_t i = 0; i < 4; i++) {
        at[i] = (char)(number >> (8 * i));
    }
}

/* `a=1&b=2` as the ABI's pairs, in `pairs`. */
static size_t encode_pairs(char *text) {
    size_t count = 0, head = 4, size;
    char *parts[2 * MOST_ARGUMENTS];
    size_t sizes[2 * MOST_ARGUMENTS];
    if (strcmp(text, "_") == 0) {
        return 0;
    }
    for (char *next; text; text = next) {
        next = strchr(text, '&');
        if (next) {
            *next++ = 0;
        }
        char *value = strchr(text, '=');
        *value++ = 0;
        parts[2 * count] = text;
        parts[2 * count + 1] = value;
        sizes[2 * count] = decode(text);
        sizes[2 * count + 1] = decode(value);
        count++;
    }
    store(pairs, count);
    size = 4 + 8 * count;
    for (size_t i = 0; i < 2 * count; i++) {
        store(pairs + head + 4 * i, sizes[i]);
        memcpy(pairs + size, parts[i], sizes[i]);
        size += sizes[i];
        pairs[size++] = 0;
    }
    return size;
}
#endif

static void log_status(const char *name, uint32_t status) {
    put(name);
    put(" = ");
    put_number(status);
}

static uint32_t number_of(const char *text) {
    uint32_t number = 0;
    while (*text >= '0' && *text <= '9') {
        number = number * 10 + (uint32_t)(*text++ - '0');
    }
    return number;
}

static void open(char **argument, int is_stream) {
    uint32_t token = 0;
    size_t sizes[MOST_ARGUMENTS];
    for (size_t i = 1; i < 4; i++) {
        sizes[i] = decode(argument[i]);
    }
#if !defined(SHORT)
    size_t pairs_size = encode_pairs(argument[4]);
#endif
    if (is_stream) {
        log_status("stream", proxy_grpc_stream(argument[1], sizes[1], argument[2], sizes[2], argument[3], sizes[3],
                                               METADATA_ARGUMENTS & token));
    } else {
        sizes[5] = decode(argument[5]);
        log_status("call", proxy_grpc_call(argument[1], sizes[1], argument[2], sizes[2], argument[3], sizes[3],
                                           METADATA_ARGUMENTS argument[5], sizes[5], number_of(argument[6]), &token));
    }
    put(", token ");
    put_number(token);
    log_line();
}

static void perform(char *command) {
    char *argument[MOST_ARGUMENTS] = {0};
    size_t count = 0;
    for (; command && count < MOST_ARGUMENTS; count++) {
        argument[count] = command;
        command = strchr(command, ' ');
        if (command) {
            *command++ = 0;
        }
    }
    uint32_t token = count > 1 ? number_of(argument[1]) : 0;
    if (strcmp(argument[0], "call") == 0 || strcmp(argument[0], "stream") == 0) {
        open(argument, argument[0][0] == 's');
    } else if (strcmp(argument[0], "send") == 0 || strcmp(argument[0], "end") == 0) {
        size_t size = decode(argument[2]);
        log_status(argument[0], proxy_grpc_send(token, argument[2], size, argument[0][0] == 'e'));
        log_line();
    } else if (strcmp(argument[0], "close") == 0) {
        log_status("close", proxy_grpc_close(token));
        log_line();
    } else if (strcmp(argument[0], "cancel") == 0) {
        log_status("cancel", proxy_grpc_cancel(token));
        log_line();
    } else if (strcmp(argument[0], "status") == 0) {
        uint32_t code = 0;
        char *message = NULL;
        size_t size = 0;
        log_status("status", proxy_get_status(&code, &message, &size));
        put(", ");
        put_number(code);
        put_byte(' ');
        put_bytes(message, size);
        log_line();
    } else if (strcmp(argument[0], "trap") == 0) {
        __builtin_trap();
    }
}

/* Runs the lines of this event that did not run before. */
static void event(const char *name, uint32_t token) {
    char wanted[32] = {0};
    line_size = 0;
    put(name);
    if (token) {
        put_byte(':');
        put_number(token);
    }
    put_byte(' ');
    memcpy(wanted, line, line_size);
    line_size = 0;
    for (size_t i = 0; i < script_size; i++) {
        char *entry = script[i];
        if (entry && strncmp(entry, wanted, strlen(wanted)) == 0) {
            script[i] = NULL;
            perform(entry + strlen(wanted));
        }
    }
}

/* --- callbacks ------------------------------------------------------------------------------ */

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    char *conf = NULL;
    proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &conf, &size);
    char *text = calloc(1, size + 1);
    memcpy(text, conf, size);
    for (char *next; text && script_size < MOST_LINES; text = next) {
        next = strchr(text, '\n');
        if (next) {
            *next++ = 0;
        }
        script[script_size++] = text;
    }
    return 1;
}

uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t headers, uint32_t end) {
    event("request", 0);
    return ACTION_CONTINUE;
}

static void log_callback(const char *name, uint32_t token, uint32_t number) {
    put(name);
    put_byte('(');
    put_number(token);
    put(", ");
    put_number(number);
    put_byte(')');
}

static uint32_t load(const char *at) {
    const unsigned char *bytes = (const unsigned char *)at;
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void log_map(const char *name, uint32_t token, uint32_t number, uint32_t map) {
    char *found = NULL;
    size_t size = 0;
    log_callback(name, token, number);
    proxy_get_header_map_pairs(map, &found, &size);
    uint32_t count = size ? load(found) : 0;
    const char *at = found + 4 + 8 * count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = load(found + 4 + 8 * i), value = load(found + 8 + 8 * i);
        put_byte(' ');
        put_bytes(at, key);
        put_byte('=');
        put_bytes(at + key + 1, value);
        at += key + value + 2;
    }
    log_line();
}

void EXPORT(proxy_on_grpc_receive_initial_metadata)(uint32_t root, uint32_t token, uint32_t elements) {
    log_map("initial", token, elements, MAP_INITIAL);
    event("initial", token);
}

void EXPORT(proxy_on_grpc_receive)(uint32_t root, uint32_t token, uint32_t size) {
    char *message = NULL;
    size_t found = 0;
    proxy_get_buffer_bytes(BUFFER_MESSAGE, 0, size, &message, &found);
    log_callback("receive", token, size);
    put_byte(' ');
    put_bytes(message, found < 64 ? found : 64);
    log_line();
    event("receive", token);
}

void EXPORT(proxy_on_grpc_receive_trailing_metadata)(uint32_t root, uint32_t token, uint32_t elements) {
    log_map("trailing", token, elements, MAP_TRAILING);
    event("trailing", token);
}

void EXPORT(proxy_on_grpc_close)(uint32_t root, uint32_t token, uint32_t status) {
    log_callback("close", token, status);
    log_line();
    event("close", token);
}

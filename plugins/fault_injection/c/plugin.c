/* Answers a share of the requests by itself: the plugin that exists in four languages.
 *
 * Shows: the raw ABI without any SDK, a table of contexts of one's own, header pairs
 * written by hand, a refused configuration. */
#include "json.h"
#include "proxy_wasm.h"

ABI_MARKER(proxy_abi_version_0_2_1)
MEMORY_ALLOCATE

typedef struct conf {
    unsigned http_status;
    unsigned percentage;
    char *body;
    size_t body_size;
} conf;

/* Root contexts own a conf; a stream context only points at its root. */
typedef struct context {
    uint32_t id;
    struct context *root;
    conf conf;
    struct context *next;
} context;

static context *contexts;

static context *find(uint32_t id) {
    context *found = contexts;
    while (found != NULL && found->id != id) {
        found = found->next;
    }
    return found;
}

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {
    context *created = calloc(1, sizeof *created);
    created->id = id;
    created->root = parent == 0 ? created : find(parent);
    created->next = contexts;
    contexts = created;
}

void EXPORT(proxy_on_delete)(uint32_t id) {
    for (context **link = &contexts; *link != NULL; link = &(*link)->next) {
        if ((*link)->id == id) {
            context *gone = *link;
            *link = gone->next;
            free(gone->conf.body);
            free(gone);
            return;
        }
    }
}

static bool key_is(const json_value *key, const char *name) {
    char *decoded = malloc(key->size);
    size_t size = json_decode_string(key, decoded);
    bool same = size == strlen(name) && memcmp(decoded, name, size) == 0;
    free(decoded);
    return same;
}

/* NULL, or what is wrong. Of a key written twice the last one counts. */
static const char *read_conf(const char *text, size_t size, conf *out) {
    json_value whole, key, value, http_status = {0}, body = {0}, percentage = {0};
    const char *cursor = NULL;

    if (size == 0) {
        return "conf is empty";
    }
    if (!json_parse(text, size, &whole)) {
        return "conf is not JSON";
    }
    if (whole.kind != JSON_OBJECT) {
        return "conf is not an object";
    }
    while (json_next_member(&whole, &cursor, &key, &value)) {
        if (key_is(&key, "http_status")) {
            http_status = value;
        } else if (key_is(&key, "body")) {
            body = value;
        } else if (key_is(&key, "percentage")) {
            percentage = value;
        }
    }

    out->http_status = 200;
    if (http_status.text != NULL && !json_integer(&http_status, 200, 599, &out->http_status)) {
        return "http_status is not an integer from 200 to 599";
    }
    if (body.text != NULL && body.kind != JSON_STRING) {
        return "body is not a string";
    }
    out->percentage = 100;
    if (percentage.text != NULL && !json_integer(&percentage, 0, 100, &out->percentage)) {
        return "percentage is not an integer from 0 to 100";
    }
    if (body.text != NULL) {
        out->body = malloc(body.size);
        out->body_size = json_decode_string(&body, out->body);
    }
    return NULL;
}

static void log_error(const char *reason) {
    static const char prefix[] = "fault_injection: ";
    char line[sizeof prefix + 64];
    size_t size = strlen(reason);
    memcpy(line, prefix, sizeof prefix - 1);
    memcpy(line + sizeof prefix - 1, reason, size);
    proxy_log(LOG_ERROR, line, sizeof prefix - 1 + size);
}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    char *text = NULL;
    conf read = {0};
    if (size > 0 && proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &text, &size) != STATUS_OK) {
        size = 0;
    }
    const char *reason = read_conf(text, size, &read);
    free(text);
    if (reason != NULL) {
        log_error(reason);
        return 0;
    }
    context *owner = find(root);
    free(owner->conf.body);
    owner->conf = read;
    return 1;
}

/* A number from 0 to 99: the clock alone would repeat itself where it is coarse. */
static unsigned roll(uint32_t id) {
    uint64_t mixed = 0;
    proxy_get_current_time_nanoseconds(&mixed);
    mixed += id * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((mixed ^ mixed >> 31) % 100);
}

/* Header pairs: their number, the sizes of each name and value, then both with a NUL after each. */
static const struct {
    uint32_t count, name_size, value_size;
    char name[sizeof "x-wasm-plugin"];
    char value[sizeof "fault_injection/c"];
} headers = {1, sizeof "x-wasm-plugin" - 1, sizeof "fault_injection/c" - 1, "x-wasm-plugin", "fault_injection/c"};

uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t num_headers, uint32_t end_of_stream) {
    const conf *conf = &find(id)->root->conf;
    if (roll(id) >= conf->percentage) {
        return ACTION_CONTINUE;
    }
    size_t headers_size = offsetof(__typeof__(headers), value) + sizeof headers.value;
    proxy_send_local_response(conf->http_status, NULL, 0, conf->body, conf->body_size, (const char *)&headers,
                              headers_size, NO_GRPC_STATUS);
    return ACTION_PAUSE;
}

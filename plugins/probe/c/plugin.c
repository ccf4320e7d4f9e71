/* Calls what its configuration says, in the callback that it says, and logs what the host answered.
 *
 * A script is lines of `phase: command arguments`. The phase is a callback (`request_headers`, `tick`, ...; those of
 * a root context that streams have too are `root_create`, `root_done`, `root_delete`), `initialize`, or `malloc`: what
 * to do while the host allocates. `request_end` and `response_end` are body callbacks that end the stream: as which call
 * that comes depends on how a server reads. `phase@2` is only its second call. The command is the name of a hostcall or WASI
 * function, `proxy_` left out or not, and each is logged as
 *
 *     request_headers: get_header_map_value 0 "x-a" = 0 -> "b"
 *
 * Arguments: a number (decimal, 0x..., negative); "text" with the escapes \xNN \" \\, which is its address and its size;
 * "text"*9 repeats it; *"text" is the address alone; $0 to $3 are addresses of results; %a is a number that was kept,
 * %self, %root and %stream are context ids. Parameters that are left over are filled with $0, $1, ...
 *
 * Other commands:
 *     return N      what this callback answers
 *     args          log the callback's own arguments
 *     keep a 2      keep the result in $2 under the letter a
 *     show 2 16     log 16 bytes at the address that stands in $2 (show $2 16: the bytes of the result itself)
 *     refuse N      the allocator gives no memory the next N times; `refuse N 0xfffffff0` gives that address
 *     trap
 *
 * What is to happen before the configuration can be read stands in the environment variable PROBE, in the same form.
 * Compiled three times: -DABI_0_1_0, -DABI_0_2_0, -DABI_0_2_1. */
#include "hostcalls.h"

#include "script.h"

#if defined(ABI_0_1_0)
ABI_MARKER(proxy_abi_version_0_1_0)
#elif defined(ABI_0_2_0)
ABI_MARKER(proxy_abi_version_0_2_0)
#else
ABI_MARKER(proxy_abi_version_0_2_1)
#endif

/* --- contexts: which script a context follows ----------------------------------------- */

enum { MAX_CONTEXTS = 1024 };

static uint32_t root_of[MAX_CONTEXTS];
static Script scripts[MAX_CONTEXTS];
static Script environment;

static Script *script_of(uint32_t context) {
    uint32_t root = context < MAX_CONTEXTS ? root_of[context] : 0;
    return root != 0 ? &scripts[root] : &environment;
}

#define RUN(phase, context, fallback, ...)                                                   \
    run(&environment, script_of(context), phase, context, root_of[(context) % MAX_CONTEXTS], fallback, \
        (const uint32_t[]){context, __VA_ARGS__}, sizeof((const uint32_t[]){context, __VA_ARGS__}) / sizeof(uint32_t))

/* --- memory --------------------------------------------------------------------------- */

void *EXPORT(proxy_on_memory_allocate)(size_t size) { return allocate(&environment, size); }

/* --- the VM and the plugin ------------------------------------------------------------ */

__attribute__((constructor)) static void start(void) {
    static char variables[1 << 16];
    static uint32_t addresses[16];
    uint32_t count = 0, size = 0;
    host_environ_sizes_get((uint32_t)&count, (uint32_t)&size);
    if (count == 0 || count > 16 || size > sizeof variables) {
        return;
    }
    host_environ_get((uint32_t)addresses, (uint32_t)variables);
    for (uint32_t i = 0; i < count; i++) {
        const char *variable = (const char *)addresses[i];
        if (strncmp(variable, "PROBE=", 6) == 0) {
            environment.text = variable + 6;
            environment.size = strlen(variable + 6);
        }
    }
    run(&environment, &environment, "initialize", 0, 0, 0, NULL, 0);
}

static void read_script(uint32_t root) {
    if (root >= MAX_CONTEXTS || scripts[root].text != NULL) {
        return;
    }
    char *text = NULL;
    size_t size = 0;
#if defined(ABI_0_1_0)
    host_proxy_get_configuration((uint32_t)&text, (uint32_t)&size);
#else
    host_proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, 0xffffffff, (uint32_t)&text, (uint32_t)&size);
#endif
    scripts[root].text = text;
    scripts[root].size = size;
}

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {
    if (id < MAX_CONTEXTS) {
        root_of[id] = parent == 0 ? id : parent;
    }
    if (parent != 0) {
        last_stream = id;
    }
    RUN(parent == 0 ? "root_create" : "stream_create", id, 0, parent);
}

uint32_t EXPORT(proxy_on_vm_start)(uint32_t root, uint32_t size) {
    return RUN("vm_start", root, 1, size);
}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, uint32_t size) {
    read_script(root);
    return RUN("configure", root, 1, size);
}

void EXPORT(proxy_on_tick)(uint32_t root) { RUN("tick", root, 0); }

void EXPORT(proxy_on_queue_ready)(uint32_t root, uint32_t token) { RUN("queue_ready", root, 0, token); }

uint32_t EXPORT(proxy_on_done)(uint32_t id) {
    return RUN(root_of[id % MAX_CONTEXTS] == id ? "root_done" : "done", id, 1);
}

void EXPORT(proxy_on_log)(uint32_t id) { RUN(root_of[id % MAX_CONTEXTS] == id ? "root_log" : "log", id, 0); }

void EXPORT(proxy_on_delete)(uint32_t id) { RUN(root_of[id % MAX_CONTEXTS] == id ? "root_delete" : "delete", id, 0); }

/* --- a request ------------------------------------------------------------------------ */

#if defined(ABI_0_1_0)
uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count) {
    return RUN("request_headers", id, 0, count);
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count) {
    return RUN("response_headers", id, 0, count);
}
#else
uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, uint32_t end_of_stream) {
    return RUN("request_headers", id, 0, count, end_of_stream);
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, uint32_t end_of_stream) {
    return RUN("response_headers", id, 0, count, end_of_stream);
}

void EXPORT(proxy_on_foreign_function)(uint32_t root, uint32_t function, uint32_t size) {
    RUN("foreign_function", root, 0, function, size);
}
#endif

uint32_t EXPORT(proxy_on_request_body)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    uint32_t answer = RUN("request_body", id, 0, size, end_of_stream);
    return end_of_stream ? RUN("request_end", id, answer, size, end_of_stream) : answer;
}

uint32_t EXPORT(proxy_on_request_trailers)(uint32_t id, uint32_t count) {
    return RUN("request_trailers", id, 0, count);
}

uint32_t EXPORT(proxy_on_response_body)(uint32_t id, uint32_t size, uint32_t end_of_stream) {
    uint32_t answer = RUN("response_body", id, 0, size, end_of_stream);
    return end_of_stream ? RUN("response_end", id, answer, size, end_of_stream) : answer;
}

uint32_t EXPORT(proxy_on_response_trailers)(uint32_t id, uint32_t count) {
    return RUN("response_trailers", id, 0, count);
}

/* --- answers to a root context -------------------------------------------------------- */

void EXPORT(proxy_on_http_call_response)(uint32_t root, uint32_t token, uint32_t headers, uint32_t size,
                                         uint32_t trailers) {
    RUN("http_call_response", root, 0, token, headers, size, trailers);
}

void EXPORT(proxy_on_grpc_receive_initial_metadata)(uint32_t root, uint32_t token, uint32_t count) {
    RUN("grpc_receive_initial_metadata", root, 0, token, count);
}

void EXPORT(proxy_on_grpc_receive)(uint32_t root, uint32_t token, uint32_t size) {
    RUN("grpc_receive", root, 0, token, size);
}

void EXPORT(proxy_on_grpc_receive_trailing_metadata)(uint32_t root, uint32_t token, uint32_t count) {
    RUN("grpc_receive_trailing_metadata", root, 0, token, count);
}

void EXPORT(proxy_on_grpc_close)(uint32_t root, uint32_t token, uint32_t status) {
    RUN("grpc_close", root, 0, token, status);
}

/* Reads two request headers and adds one, reads one response header and adds one.
 *
 * Shows: the least that a plugin of headers does, without any SDK. What `make bench` calls "the header plugin" is this
 * one, so it takes no configuration: nothing but the hostcalls is measured. */
#include "proxy_wasm.h"

ABI_MARKER(proxy_abi_version_0_2_1)
MEMORY_ALLOCATE

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {}

static void read_header(uint32_t map, const char *key, size_t size) {
    char *value = NULL;
    size_t length = 0;
    if (proxy_get_header_map_value(map, key, size, &value, &length) == STATUS_OK) {
        free(value);
    }
}

uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, uint32_t end_of_stream) {
    read_header(MAP_REQUEST_HEADERS, TEXT(":path"));
    read_header(MAP_REQUEST_HEADERS, TEXT("user-agent"));
    proxy_add_header_map_value(MAP_REQUEST_HEADERS, TEXT("x-plugin"), TEXT("here"));
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, uint32_t end_of_stream) {
    read_header(MAP_RESPONSE_HEADERS, TEXT(":status"));
    proxy_add_header_map_value(MAP_RESPONSE_HEADERS, TEXT("x-plugin-out"), TEXT("here"));
    return ACTION_CONTINUE;
}

/* What every SDK exports, so that the end of a request costs what it costs with theirs. */
uint32_t EXPORT(proxy_on_done)(uint32_t id) { return 1; }
void EXPORT(proxy_on_log)(uint32_t id) {}
void EXPORT(proxy_on_delete)(uint32_t id) {}

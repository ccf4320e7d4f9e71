/* Adds a trailer to the request and to the response.
 *
 * Shows: trailers that are there already (their own callback), trailers that are made at
 * the end of a body, and plain text as configuration: it is the trailer's value. */
#include "proxy_wasm.h"

ABI_MARKER(proxy_abi_version_0_2_1)
MEMORY_ALLOCATE

static const char name[] = "x-plugin-trailer";

/* One per VM: a host that lets two plugins share a VM gives both the last value. */
static char *value = "added";
static size_t value_size = sizeof "added" - 1;

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    if (size > 0) {
        return proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &value, &value_size) == STATUS_OK;
    }
    return 1;
}

static void add_trailer(uint32_t map) {
    if (proxy_add_header_map_value(map, name, sizeof name - 1, value, value_size) != STATUS_OK) {
        proxy_log(LOG_WARN, TEXT("trailers: no trailer could be added"));
    }
}

/* With trailers to come no body callback is the last one, and the next two callbacks do the work. */
uint32_t EXPORT(proxy_on_request_body)(uint32_t id, size_t size, uint32_t end_of_stream) {
    if (end_of_stream) {
        add_trailer(MAP_REQUEST_TRAILERS);
    }
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_request_trailers)(uint32_t id, uint32_t num_trailers) {
    add_trailer(MAP_REQUEST_TRAILERS);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_body)(uint32_t id, size_t size, uint32_t end_of_stream) {
    if (end_of_stream) {
        add_trailer(MAP_RESPONSE_TRAILERS);
    }
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_response_trailers)(uint32_t id, uint32_t num_trailers) {
    add_trailer(MAP_RESPONSE_TRAILERS);
    return ACTION_CONTINUE;
}

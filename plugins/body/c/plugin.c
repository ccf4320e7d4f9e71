/* Reads every piece of both bodies, and with the configuration "change" writes it back with its first byte in upper case.
 *
 * Shows: bodies piece by piece, never held, and never longer or shorter than they were, without any SDK. */
#include "proxy_wasm.h"

IMPORT(proxy_set_buffer_bytes)(uint32_t buffer, uint32_t start, size_t length, const char *data, size_t size);

ABI_MARKER(proxy_abi_version_0_2_1)
MEMORY_ALLOCATE

static const char change[] = "change";
static int changes;

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t parent) {}

uint32_t EXPORT(proxy_on_configure)(uint32_t root, size_t size) {
    char *conf = NULL;
    size_t length = 0;
    if (size > 0 && proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &conf, &length) != STATUS_OK) {
        return 0;
    }
    changes = length == sizeof change - 1 && memcmp(conf, change, length) == 0;
    free(conf);
    return 1;
}

static uint32_t on_piece(uint32_t buffer, size_t size) {
    char *piece = NULL;
    size_t length = 0;
    if (size == 0 || proxy_get_buffer_bytes(buffer, 0, size, &piece, &length) != STATUS_OK) {
        return ACTION_CONTINUE;
    }
    if (changes && length > 0) {
        if (piece[0] >= 'a' && piece[0] <= 'z') {
            piece[0] -= 'a' - 'A';
        }
        if (proxy_set_buffer_bytes(buffer, 0, length, piece, length) != STATUS_OK) {
            proxy_log(LOG_WARN, TEXT("body: a piece could not be written back"));
        }
    }
    free(piece);
    return ACTION_CONTINUE;
}

uint32_t EXPORT(proxy_on_request_body)(uint32_t id, size_t size, uint32_t end_of_stream) {
    return on_piece(BUFFER_REQUEST_BODY, size);
}

uint32_t EXPORT(proxy_on_response_body)(uint32_t id, size_t size, uint32_t end_of_stream) {
    return on_piece(BUFFER_RESPONSE_BODY, size);
}

uint32_t EXPORT(proxy_on_done)(uint32_t id) { return 1; }
void EXPORT(proxy_on_log)(uint32_t id) {}
void EXPORT(proxy_on_delete)(uint32_t id) {}

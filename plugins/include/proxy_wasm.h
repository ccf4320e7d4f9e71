/* The part of the Proxy-Wasm ABI that the C plugins here use, without any SDK.
 *
 * A host function returns a status, 0 for "done"; what it hands over is allocated by
 * proxy_on_memory_allocate() and belongs to the plugin. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) uint32_t name
#define EXPORT(name) __attribute__((export_name(#name), used)) name

enum { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CRITICAL };
enum { STATUS_OK = 0 };
enum { ACTION_CONTINUE, ACTION_PAUSE };
enum { BUFFER_REQUEST_BODY, BUFFER_RESPONSE_BODY, BUFFER_VM_CONFIGURATION = 6, BUFFER_PLUGIN_CONFIGURATION };
enum { MAP_REQUEST_HEADERS, MAP_REQUEST_TRAILERS, MAP_RESPONSE_HEADERS, MAP_RESPONSE_TRAILERS };

IMPORT(proxy_log)(uint32_t level, const char *text, size_t size);
IMPORT(proxy_get_current_time_nanoseconds)(uint64_t *now);
IMPORT(proxy_get_buffer_bytes)(uint32_t buffer, uint32_t start, uint32_t most, char **data, size_t *size);
IMPORT(proxy_get_header_map_value)(uint32_t map, const char *key, size_t key_size, char **value, size_t *size);
IMPORT(proxy_add_header_map_value)(uint32_t map, const char *key, size_t key_size, const char *value, size_t size);
IMPORT(proxy_remove_header_map_value)(uint32_t map, const char *key, size_t key_size);
IMPORT(proxy_send_local_response)(uint32_t status, const char *details, size_t details_size, const char *body,
                                  size_t body_size, const char *headers, size_t headers_size, uint32_t grpc_status);
IMPORT(proxy_set_tick_period_milliseconds)(uint32_t period);

#define NO_GRPC_STATUS 0xffffffffu
#define TEXT(literal) (literal), sizeof(literal) - 1

/* Two macro steps, so that an argument which is itself a macro is expanded first. */
#define ABI_MARKER_(name) void EXPORT(name)(void) {}
#define ABI_MARKER(name) ABI_MARKER_(name)

#define MEMORY_ALLOCATE \
    void *EXPORT(proxy_on_memory_allocate)(size_t size) { return malloc(size); }

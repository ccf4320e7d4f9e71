/* The resident half of the host: the hot hostcalls, answered beside the plugin.
 *
 * It is a cache, lent by the host for one callback (`layout.h` draws its memory). The Python hostcalls are the
 * reference: what is answered here is answered as they do, and whatever is not lent, does not fit or is unusual goes to
 * them. Nothing that the plugin passes is trusted: each address and size is checked against the plugin's memory.
 *
 * One translation unit in parts, each of which uses those before it:
 *   kernel_memory.h      the plugin's memory and its allocator
 *   kernel_maps.h        the lent maps, and what was changed in them
 *   kernel_hostcalls.h   the hostcalls of maps, bodies, clock and local response
 *   kernel_properties.h  properties that lie in the headers
 *   kernel_crossings.h   what the host calls: several callbacks in one crossing
 */
#include "layout.h"

#define IMPORT(name) __attribute__((import_module("k"), import_name(#name))) name
#define EXPORT(name) __attribute__((export_name(#name), used)) name

enum { OK = 0, NOT_FOUND = 1, INVALID_MEMORY_ACCESS = 6 };
enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2, NO_SLOT = SLOTS };
enum { NO_GRPC_STATUS = 0xffffffffu };

static window w;

/* From the shim, which alone sees both memories. */
uint32_t IMPORT(guest_size)(void);
void IMPORT(from_guest)(uint32_t to, uint32_t at, uint32_t size);
void IMPORT(to_guest)(uint32_t at, uint32_t from, uint32_t size);
void IMPORT(store_guest)(uint32_t at, uint32_t value);
/* From the plugin, or in its place a function that does nothing. */
uint32_t IMPORT(allocate)(uint32_t size);
void IMPORT(on_context_create)(uint32_t id, uint32_t root);
uint32_t IMPORT(on_request_headers)(uint32_t id, uint32_t count, uint32_t end);
uint32_t IMPORT(on_response_headers)(uint32_t id, uint32_t count, uint32_t end);
uint32_t IMPORT(on_request_body)(uint32_t id, uint32_t size, uint32_t end);
uint32_t IMPORT(on_response_body)(uint32_t id, uint32_t size, uint32_t end);
uint32_t IMPORT(on_done)(uint32_t id);
void IMPORT(on_log)(uint32_t id);
void IMPORT(on_delete)(uint32_t id);
/* From the host: fill a lent map in (0: it cannot be lent); copy so much of the body that is shown, from ``start``, to an
 * address of the plugin's that was found to be good; put bytes of the plugin's, likewise good, in the place of ``size``
 * bytes at its front, or behind its end (0: it would be longer than is allowed); and the hostcalls that are not answered
 * here. */
uint32_t IMPORT(fill)(uint32_t slot);
void IMPORT(give_body)(uint32_t at, uint32_t start, uint32_t size);
uint32_t IMPORT(take_body)(uint32_t at, uint32_t start, uint32_t size, uint32_t value_size);
uint32_t IMPORT(slow_set_buffer)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_get_buffer)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_buffer_status)(uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_get)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_pairs)(uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_size)(uint32_t, uint32_t);
uint32_t IMPORT(slow_add)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_replace)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_remove)(uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_time)(uint32_t);
uint32_t IMPORT(slow_property)(uint32_t, uint32_t, uint32_t, uint32_t);
uint32_t IMPORT(slow_respond)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);

static uint32_t address_of(const void *p) { return (uint32_t)(uintptr_t)p; }
static uint8_t *at(uint32_t address) { return (uint8_t *)(uintptr_t)address; }

uint32_t EXPORT(window_address)(void) { return address_of(&w); }
uint32_t EXPORT(window_size)(void) { return sizeof w; }

#include "kernel_memory.h"
#include "kernel_maps.h"
#include "kernel_hostcalls.h"
#include "kernel_properties.h"
#include "kernel_crossings.h"

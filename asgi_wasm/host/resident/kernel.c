/* The resident half of the host: the hot hostcalls, answered beside the plugin.
 *
 * It is a cache, lent by the host for one callback (`layout.h` draws its memory). The Python hostcalls are the
 * reference: what is answered here is answered as they do, and whatever is not lent, does not fit or is unusual goes to
 * them. Nothing that the plugin passes is trusted: each address and size is checked against the plugin's memory.
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

/* --- the plugin's memory */

/* It never shrinks: where it ended when it was last asked is still inside. */
static uint64_t known_size;

static int inside(uint32_t address, uint32_t size) {
    uint64_t end = (uint64_t)address + size;
    return end <= known_size || end <= (known_size = guest_size());
}

/* Bytes of the plugin, at the arena's end; 0 when they do not fit. They must be inside. */
static uint8_t *take(uint32_t address, uint32_t size) {
    if (size > ARENA - w.used) return 0;
    uint8_t *p = w.arena + w.used;
    from_guest(address_of(p), address, size);
    w.used += size;
    return p;
}

/* The allocator runs on behalf of no context, and may ask for nothing but the log. */
static uint32_t allocate_alone(uint32_t size) {
    uint32_t active = w.active, readable = w.readable, writable = w.writable, answerable = w.answerable, bodies = w.bodies;
    w.active = w.readable = w.writable = w.answerable = w.bodies = 0;
    w.restricted = 1;
    uint32_t address = allocate(size);
    w.restricted = 0;
    w.active = active; w.readable = readable; w.writable = writable; w.answerable = answerable; w.bodies = bodies;
    return address;
}

static uint32_t store(uint32_t at, uint32_t value) {
    if (!inside(at, 4)) return INVALID_MEMORY_ACCESS;
    store_guest(at, value);
    return OK;
}

/* Room in the plugin's memory, by its own allocator; 0 when that gives none, or none that is inside. */
static uint32_t room_for(uint32_t size) {
    uint32_t address = allocate_alone(size);
    return address && inside(address, size) ? address : 0;
}

static uint32_t give(const void *from, uint32_t size, uint32_t return_data, uint32_t return_size) {
    uint32_t address = 0;
    if (size) {
        if (!(address = room_for(size))) return INVALID_MEMORY_ACCESS;
        to_guest(address, address_of(from), size);
    }
    return store(return_data, address) || store(return_size, size) ? INVALID_MEMORY_ACCESS : OK;
}

/* --- the maps */

static uint32_t slot_of(uint32_t map) { return map == REQUEST_HEADERS ? 0 : map == RESPONSE_HEADERS ? 1 : NO_SLOT; }

static uint64_t eight(const uint8_t *p) {
    uint64_t n;
    __builtin_memcpy(&n, p, 8);
    return n;
}

static uint32_t four(const uint8_t *p) {
    uint32_t n;
    __builtin_memcpy(&n, p, 4);
    return n;
}

/* What does not come out even is looked at together with what was before it. */
static int same(const uint8_t *a, const uint8_t *b, uint32_t size) {
    uint32_t i = 0;
    if (size >= 8) {
        for (; i < size - 8; i += 8)
            if (eight(a + i) != eight(b + i)) return 0;
        return eight(a + size - 8) == eight(b + size - 8);
    }
    if (size >= 4) return four(a) == four(b) && four(a + size - 4) == four(b + size - 4);
    for (; i < size; i++)
        if (a[i] != b[i]) return 0;
    return 1;
}

static uint32_t meaning_of(uint32_t slot, const uint8_t *name, uint32_t size) {
    if (size > LONGEST_NAME) return 0;
    for (uint32_t i = w.first[slot][size], end = w.first[slot][size + 1]; i < end; i++) {
        const uint32_t *entry = w.name[slot] + 2 * i;
        const uint8_t *known = w.name_bytes[slot] + entry[0];
        if (*known == *name && same(name, known, size)) return entry[1];
    }
    return 0;
}

static int is_blank(uint8_t byte) { return byte == ' ' || byte == '\t'; }

/* Whether a name that a map keeps once is among those before ``p``: its values are to be joined first. */
static int repeats(uint32_t slot, const pair *p) {
    for (const pair *old = w.pairs[slot]; old < p; old++)
        if (old->name_size == p->name_size && same(at(old->name), at(p->name), p->name_size))
            return meaning_of(slot, at(p->name), p->name_size) & SINGLE;
    return 0;
}

/* The sizes of names and values with zeros between them. 0 when these are not as many as were given: one has a zero. */
static int measure(const uint8_t *p, const uint8_t *end, uint32_t parts) {
    const uint64_t ones = 0x0101010101010101u;
    const uint8_t *start = p;
    uint32_t n = 0;
    while (p < end) {
        uint64_t bytes = eight(p), zeros = (bytes - ones) & ~bytes & ones << 7; /* behind the end there is more of the window */
        if (!zeros) {
            p += 8;
            continue;
        }
        p += __builtin_ctzll(zeros) >> 3;
        if (p >= end) break;
        if (n >= parts) return 0;
        w.sizes[n++] = (uint32_t)(p - start);
        start = ++p;
    }
    if (n >= parts) return 0;
    w.sizes[n++] = (uint32_t)(end - start);
    return n == parts;
}

/* The pairs of a map whose bytes lie here, ``gap`` bytes between them. 0 when it must be joined first. Names are
 * remembered by a bit of their size and ends, since hardly any comes twice. */
static int spread(uint32_t slot, uint32_t address, uint32_t gap) {
    pair *p = w.pairs[slot], *end = p + w.count[slot];
    uint64_t met = 0;
    for (const uint32_t *sizes = w.sizes; p < end; p++, sizes += 2) {
        uint32_t value = address + sizes[0] + gap;
        *p = (pair){address, sizes[0], value, sizes[1]};
        address = value + sizes[1] + gap;
        if (sizes[1] && (is_blank(*at(value)) || is_blank(at(value)[sizes[1] - 1]))) w.untrimmed = UNTRIMMED;
        if (!sizes[0]) continue;
        uint64_t bit = 1ull << ((sizes[0] * 7 + *at(p->name) + 3u * at(p->name)[sizes[0] - 1]) & 63);
        if (met & bit && repeats(slot, p)) return 0;
        met |= bit;
    }
    if (!gap) w.used = address - address_of(w.arena) > w.used ? address - address_of(w.arena) : w.used;
    return 1;
}

/* Whether the map of this slot is among ``bits`` of what is lent; it is filled in at its first use. */
static int lent(uint32_t slot, uint32_t bits) {
    if (slot >= SLOTS || w.restricted || !(bits >> slot & 1)) return 0;
    if (w.filled >> slot & 1) return 1;
    uint32_t given = w.given;
    w.given = 0;
    w.count[slot] = given;
    if (given && w.form & SPREAD) {
        w.untrimmed |= w.form & UNTRIMMED;
    } else if (given && measure(w.arena, w.arena + w.given_size, 2 * given)) {
        if (!spread(slot, address_of(w.arena), 1)) return 0;
    } else {
        uint32_t address = address_of(w.arena) + w.used;
        w.form = 0;
        if (!fill(slot) || w.count[slot] > MAX_PAIRS) return 0;
        if (w.form & SPREAD) w.untrimmed |= w.form & UNTRIMMED;
        else if (!spread(slot, address, 0)) return 0;
    }
    w.filled |= 1u << slot;
    return 1;
}

static void to_lower(uint8_t *p, uint32_t size) {
    for (uint32_t i = 0; i < size; i++)
        if ((uint8_t)(p[i] - 'A') < 26) p[i] |= 0x20;
}

static uint64_t lower_eight(uint64_t bytes) {
    const uint64_t ones = 0x0101010101010101u, low = bytes & ~(ones << 7);
    uint64_t from_a = low + (0x80 - 'A') * ones, behind_z = low + (0x7f - 'Z') * ones;
    return bytes | ((from_a ^ behind_z) & ~bytes & ones << 7) >> 2;
}

/* A name as the maps have it: in lower case, and `:authority` for the request's `host`. 0 when it does not fit. */
static uint8_t *take_name(uint32_t slot, uint32_t address, uint32_t *size) {
    static const uint8_t host[] = "host", authority[] = ":authority";
    uint8_t *p = take(address, *size);
    if (!p) return 0;
    if (*size >= 8) {
        for (uint32_t i = 0; i < *size; i += 8) {
            uint32_t start = i + 8 > *size ? *size - 8 : i;
            uint64_t lower = lower_eight(eight(p + start));
            __builtin_memcpy(p + start, &lower, 8);
        }
        return p;
    }
    if (*size >= 4) {
        uint32_t start = (uint32_t)lower_eight(four(p)), end = (uint32_t)lower_eight(four(p + *size - 4));
        __builtin_memcpy(p, &start, 4);
        __builtin_memcpy(p + *size - 4, &end, 4);
    } else {
        to_lower(p, *size);
    }
    if (slot != 0 || *size != sizeof host - 1 || !same(p, host, sizeof host - 1)) return p;
    w.used -= *size;
    *size = sizeof authority - 1;
    if (*size > ARENA - w.used) return 0;
    for (uint32_t i = 0; i < *size; i++) p[i] = authority[i];
    w.used += *size;
    return p;
}

static pair *find(uint32_t slot, const uint8_t *name, uint32_t size) {
    pair *p = w.pairs[slot], *end = p + w.count[slot];
    for (; p < end; p++)
        if (p->name_size == size && (!size || *at(p->name) == *name) && same(name, at(p->name), size)) return p;
    return 0;
}

static void drop(uint32_t slot, const uint8_t *name, uint32_t size) {
    pair *to = w.pairs[slot], *p = to, *end = p + w.count[slot];
    for (; p < end; p++)
        if (!(p->name_size == size && same(name, at(p->name), size))) *to++ = *p;
    w.count[slot] = (uint32_t)(to - w.pairs[slot]);
}

static int is_made_of(uint8_t class, const uint8_t *p, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) class &= w.classes[p[i]];
    return class;
}

/* Whether HTTP can carry it as it is. No pseudo-header is a name to it. */
static int is_sendable(const uint8_t *name, uint32_t name_size, const uint8_t *value, uint32_t size) {
    if (!name_size || !is_made_of(IN_NAME, name, name_size) || !is_made_of(IN_VALUE, value, size)) return 0;
    return !size || !(is_blank(value[0]) || is_blank(value[size - 1]));
}

/* What a name and the value behind it were found to be. Most plugins make the same changes for every request: those of the
 * last requests are known by their bytes, by slot and place among the changes. */
enum { JUDGED_SIZE = 48, MOST_JUDGED = 4 };
typedef struct {
    uint32_t is_known, name_size, value_size, meaning, is_plain;
    uint8_t bytes[JUDGED_SIZE];
} judged;

static const judged *judge(uint32_t slot, const uint8_t *name, uint32_t name_size, uint32_t value_size) {
    static judged made[MOST_JUDGED];
    judged *j = made + (2 * w.changes + slot) % MOST_JUDGED;
    uint32_t size = name_size + value_size; /* both lie in the arena */
    if (j->is_known && j->name_size == name_size && j->value_size == value_size && same(j->bytes, name, size)) return j;
    j->meaning = meaning_of(slot, name, name_size);
    j->is_plain = !(j->meaning & DELICATE) && is_sendable(name, name_size, name + name_size, value_size);
    j->name_size = name_size;
    j->value_size = value_size;
    j->is_known = size <= JUDGED_SIZE;
    for (uint32_t i = 0; j->is_known && i < size; i++) j->bytes[i] = name[i];
    return j;
}

static void note(uint32_t slot, uint32_t kind, const uint8_t *name, const judged *j) {
    uint32_t *change = w.change + 4 * w.changes++;
    change[0] = slot << 8 | kind;
    change[1] = j->name_size;
    change[2] = j->value_size;
    change[3] = address_of(name);
    if (!j->is_plain) w.complex = 1;
}

static uint32_t append(uint32_t slot, const uint8_t *name, uint32_t name_size, const uint8_t *value, uint32_t size) {
    w.pairs[slot][w.count[slot]++] = (pair){address_of(name), name_size, address_of(value), size};
    return OK;
}

/* ``value`` lies at the arena's end: the joined one takes its place behind it. 0 when there is no room. */
static int join(pair *p, uint32_t value, uint32_t size) {
    uint64_t joined = (uint64_t)p->value_size + 1 + size;
    if (joined > ARENA - w.used) return 0;
    uint8_t *to = w.arena + w.used, *start = to;
    for (uint32_t i = 0; i < p->value_size; i++) *to++ = at(p->value)[i];
    *to++ = ',';
    for (uint32_t i = 0; i < size; i++) *to++ = at(value)[i];
    w.used += (uint32_t)joined;
    p->value = address_of(start);
    p->value_size = (uint32_t)joined;
    return 1;
}

/* --- hostcalls */

uint32_t EXPORT(get)(uint32_t map, uint32_t key, uint32_t key_size, uint32_t data, uint32_t size) {
    uint32_t slot = slot_of(map), used, name_size = key_size;
    if (!lent(slot, w.readable)) return slow_get(map, key, key_size, data, size);
    if (!inside(key, key_size)) return INVALID_MEMORY_ACCESS;
    used = w.used;
    uint8_t *name = take_name(slot, key, &name_size);
    w.used = used;
    if (!name) return slow_get(map, key, key_size, data, size);
    pair *p = find(slot, name, name_size);
    return p ? give(at(p->value), p->value_size, data, size) : NOT_FOUND;
}

uint32_t EXPORT(get_pairs)(uint32_t map, uint32_t data, uint32_t size) {
    uint32_t slot = slot_of(map);
    if (!lent(slot, w.readable)) return slow_pairs(map, data, size);
    pair *start = w.pairs[slot], *end = start + w.count[slot], *p;
    if (start == end) return give(0, 0, data, size);
    uint32_t room = ARENA - w.used, total = 4 + 8 * w.count[slot];
    for (p = start; p < end; p++) total += p->name_size + p->value_size + 2; /* all of it lies in the arena */
    /* A number may start anywhere in the arena: wasm asks for no alignment, C does. */
    uint8_t *to = w.arena + w.used, *image = to;
    if (total > room) return slow_pairs(map, data, size);
#define NUMBER(n) do { uint32_t n_ = (n); __builtin_memcpy(to, &n_, 4); to += 4; } while (0)
    NUMBER(w.count[slot]);
    for (p = start; p < end; p++) { NUMBER(p->name_size); NUMBER(p->value_size); }
    for (p = start; p < end; p++) {
        for (uint32_t i = 0; i < p->name_size; i++) *to++ = at(p->name)[i];
        *to++ = 0;
        for (uint32_t i = 0; i < p->value_size; i++) *to++ = at(p->value)[i];
        *to++ = 0;
    }
    return give(image, total, data, size);
}

uint32_t EXPORT(get_size)(uint32_t map, uint32_t return_size) {
    uint32_t slot = slot_of(map), total = 0;
    if (!lent(slot, w.writable)) return slow_size(map, return_size);
    for (pair *p = w.pairs[slot], *end = p + w.count[slot]; p < end; p++) total += p->name_size + p->value_size;
    return store(return_size, total);
}

static int may_change(uint32_t slot) { return lent(slot, w.writable) && w.changes < MAX_CHANGES; }

uint32_t EXPORT(add)(uint32_t map, uint32_t key, uint32_t key_size, uint32_t value, uint32_t value_size) {
    uint32_t slot = slot_of(map), name_size = key_size;
    if (!may_change(slot)) return slow_add(map, key, key_size, value, value_size);
    if (!inside(key, key_size) || !inside(value, value_size)) return INVALID_MEMORY_ACCESS;
    uint32_t used = w.used;
    uint8_t *name = take_name(slot, key, &name_size), *v = name ? take(value, value_size) : 0;
    if (!v || (name_size && *name == ':')) goto slow;
    const judged *j = judge(slot, name, name_size, value_size);
    pair *old = j->meaning & SINGLE ? find(slot, name, name_size) : 0;
    if (old) {
        if (!join(old, address_of(v), value_size)) goto slow;
        w.complex = 1;
        note(slot, ADD, name, j);
        return OK;
    }
    if (w.count[slot] >= MAX_PAIRS) goto slow;
    note(slot, ADD, name, j);
    return append(slot, name, name_size, v, value_size);
slow:
    w.used = used;
    return slow_add(map, key, key_size, value, value_size);
}

uint32_t EXPORT(replace)(uint32_t map, uint32_t key, uint32_t key_size, uint32_t value, uint32_t value_size) {
    uint32_t slot = slot_of(map), name_size = key_size;
    if (!may_change(slot)) return slow_replace(map, key, key_size, value, value_size);
    if (!inside(key, key_size) || !inside(value, value_size)) return INVALID_MEMORY_ACCESS;
    uint32_t used = w.used;
    uint8_t *name = take_name(slot, key, &name_size), *v = name ? take(value, value_size) : 0;
    if (!v) goto slow;
    pair *old = find(slot, name, name_size);
    if (name_size && *name == ':') {
        if (!old) goto slow;
        note(slot, REPLACE, name, judge(slot, name, name_size, value_size));
        old->value = address_of(v);
        old->value_size = value_size;
        return OK;
    }
    if (!old && w.count[slot] >= MAX_PAIRS) goto slow;
    note(slot, REPLACE, name, judge(slot, name, name_size, value_size));
    if (old) drop(slot, name, name_size);
    return append(slot, name, name_size, v, value_size);
slow:
    w.used = used;
    return slow_replace(map, key, key_size, value, value_size);
}

uint32_t EXPORT(remove)(uint32_t map, uint32_t key, uint32_t key_size) {
    uint32_t slot = slot_of(map), used, name_size = key_size;
    if (!may_change(slot)) return slow_remove(map, key, key_size);
    if (!inside(key, key_size)) return INVALID_MEMORY_ACCESS;
    used = w.used;
    uint8_t *name = take_name(slot, key, &name_size);
    if (!name) {
        w.used = used;
        return slow_remove(map, key, key_size);
    }
    note(slot, REMOVE, name, judge(slot, name, name_size, 0));
    drop(slot, name, name_size);
    return OK;
}

/* Kept for the host, which answers after the callback; a second one, or one for gRPC, is the host's from the start. */
uint32_t EXPORT(respond)(uint32_t status, uint32_t details, uint32_t details_size, uint32_t body, uint32_t body_size,
                         uint32_t pairs, uint32_t pairs_size, uint32_t grpc_status) {
    if (!w.answerable || w.restricted || w.answered || grpc_status != NO_GRPC_STATUS) goto slow;
    if (!inside(details, details_size) || !inside(body, body_size) || !inside(pairs, pairs_size))
        return INVALID_MEMORY_ACCESS;
    uint32_t used = w.used;
    uint8_t *d = take(details, details_size), *b = d ? take(body, body_size) : 0, *p = b ? take(pairs, pairs_size) : 0;
    if (!p) {
        w.used = used;
        goto slow;
    }
    w.answered = 1;
    w.local[0] = status;
    w.local[1] = address_of(d); w.local[2] = details_size;
    w.local[3] = address_of(b); w.local[4] = body_size;
    w.local[5] = address_of(p); w.local[6] = pairs_size;
    return OK;
slow:
    return slow_respond(status, details, details_size, body, body_size, pairs, pairs_size, grpc_status);
}

/* Of the moment before the callback, and that once: who asks again wants to know how long something took. */
uint32_t EXPORT(get_time)(uint32_t return_time) {
    uint32_t low = w.now[0], high = w.now[1];
    if (!(low | high)) {
        if (w.active) w.wants_time = 1;
        return slow_time(return_time);
    }
    w.now[0] = w.now[1] = 0;
    if (!inside(return_time, 8)) return INVALID_MEMORY_ACCESS;
    store_guest(return_time, low);
    store_guest(return_time + 4, high);
    return OK;
}

static int is_shown(uint32_t buffer) { return buffer < SLOTS && !w.restricted && w.bodies >> buffer & 1; }

uint32_t EXPORT(get_buffer)(uint32_t buffer, uint32_t start, uint32_t most, uint32_t data, uint32_t size) {
    if (!is_shown(buffer)) return slow_get_buffer(buffer, start, most, data, size);
    uint32_t given = start < w.body_size ? w.body_size - start : 0, address = 0;
    if (given > most) given = most;
    if (given) {
        if (!(address = room_for(given))) return INVALID_MEMORY_ACCESS;
        give_body(address, start, given);
    }
    return store(data, address) || store(size, given) ? INVALID_MEMORY_ACCESS : OK;
}

/* The piece is the host's: it looks after the callback at what has become of it. */
uint32_t EXPORT(set_buffer)(uint32_t buffer, uint32_t start, uint32_t size, uint32_t value, uint32_t value_size) {
    uint32_t gone = start ? 0 : size < w.body_size ? size : w.body_size;
    uint64_t length = (uint64_t)w.body_size - gone + value_size;
    if (!is_shown(buffer) || (start && start < w.body_size) || length > 0xffffffffu) goto slow;
    if (!inside(value, value_size)) return INVALID_MEMORY_ACCESS;
    if (!take_body(value, start, gone, value_size)) goto slow;
    w.body_size = (uint32_t)length;
    w.complex = 1;
    return OK;
slow:
    return slow_set_buffer(buffer, start, size, value, value_size);
}

uint32_t EXPORT(buffer_status)(uint32_t buffer, uint32_t size, uint32_t flags) {
    if (!is_shown(buffer)) return slow_buffer_status(buffer, size, flags);
    return store(size, w.body_size) || store(flags, 0) ? INVALID_MEMORY_ACCESS : OK;
}

/* --- properties: those that lie in the headers, by far the most asked for */

enum { MOST_PATH = 128, MOST_STATUS = 599, LEAST_STATUS = 200, NO_STATUS = 500 };
static uint8_t path[MOST_PATH];

#define TEXT(literal) (const uint8_t *)(literal), sizeof(literal) - 1
static int is(const uint8_t *p, uint32_t size, const uint8_t *text, uint32_t length) {
    return size == length && same(p, text, size);
}

/* The header that a part of `request` stands for; 0: none, or the host's affair. */
static const uint8_t *header_of(const uint8_t *p, uint32_t size, uint32_t *length) {
    static const struct {
        uint8_t size, length;
        char part[10], name[13];
    } parts[] = {{4, 5, "path", ":path"}, {8, 5, "url_path", ":path"}, {5, 5, "query", ":path"}, {4, 10, "host", ":authority"},
                 {6, 7, "scheme", ":scheme"}, {6, 7, "method", ":method"}, {7, 7, "referer", "referer"},
                 {9, 10, "useragent", "user-agent"}, {2, 12, "id", "x-request-id"}};
    for (uint32_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (is(p, size, (const uint8_t *)parts[i].part, parts[i].size)) {
            *length = parts[i].length;
            return (const uint8_t *)parts[i].name;
        }
    return 0;
}

/* The name in `headers` of a path, as the maps have it; 0 where it is none. */
static const uint8_t *name_in(uint32_t slot, uint8_t *p, uint32_t size, uint32_t *length) {
    enum { PREFIX = sizeof "headers" };
    if (size < PREFIX || !same(p, (const uint8_t *)"headers", PREFIX)) return 0;
    p += PREFIX;
    size -= PREFIX;
    for (uint32_t i = 0; i < size; i++) {
        if (!p[i]) return 0;
        if ((uint8_t)(p[i] - 'A') < 26) p[i] |= 0x20;
    }
    if (slot == 0 && is(p, size, TEXT("host"))) {
        *length = sizeof ":authority" - 1;
        return (const uint8_t *)":authority";
    }
    *length = size;
    return p;
}

/* The status that was sent, which is the whole response's once it is over: `translate.status_of`. */
static uint32_t give_status(uint32_t data, uint32_t size) {
    static uint32_t code[2];
    pair *p = find(1, TEXT(":status"));
    code[0] = 0;
    for (uint32_t i = 0; p && p->value_size == 3 && i < 3; i++) {
        uint8_t digit = (uint8_t)(at(p->value)[i] - '0');
        if (digit > 9) {
            code[0] = 0;
            break;
        }
        code[0] = 10 * code[0] + digit;
    }
    if (code[0] < LEAST_STATUS || code[0] > MOST_STATUS) code[0] = NO_STATUS;
    return give(code, sizeof code, data, size);
}

/* Of `path`, by what stands behind `request` or `response`; -1: it is the host's to answer. */
static int64_t property_of(uint32_t slot, uint8_t *p, uint32_t size, uint32_t data, uint32_t return_size) {
    uint32_t length = 0;
    int is_code = slot == 1 && is(p, size, TEXT("code"));
    const uint8_t *name = slot == 0 ? header_of(p, size, &length) : 0, *part = name ? p : 0;
    if (!name) name = name_in(slot, p, size, &length);
    /* Only logs may read both maps. */
    if (is_code ? w.readable != 3 : !name) return -1;
    if (!(w.readable >> slot & 1)) return NOT_FOUND;
    if (!lent(slot, w.readable)) return -1;
    if (is_code) return give_status(data, return_size);
    pair *found = find(slot, name, length);
    if (!found) return NOT_FOUND;
    const uint8_t *value = at(found->value);
    uint32_t value_size = found->value_size, mark = 0;
    if (!part) {
        /* The values of a repeated header are joined. */
        for (pair *more = found + 1, *end = w.pairs[slot] + w.count[slot]; more < end; more++)
            if (is(at(more->name), more->name_size, name, length)) return -1;
    } else if (*part == 'u' && length == 5) {
        while (mark < value_size && value[mark] != '?') mark++;
        value_size = mark;
    } else if (*part == 'q') {
        while (mark < value_size && value[mark] != '?') mark++;
        if (mark < value_size) mark++;
        value += mark;
        value_size -= mark;
    }
    return give(value, value_size, data, return_size);
}

uint32_t EXPORT(get_property)(uint32_t at_path, uint32_t size, uint32_t data, uint32_t return_size) {
    int64_t status = -1;
    uint32_t length = size;
    if (w.active && !w.restricted && size <= MOST_PATH && inside(at_path, size)) {
        from_guest(address_of(path), at_path, size);
        /* The C++ SDK ends it with a NUL, others do not. */
        if (length && !path[length - 1]) length--;
        if (length > 8 && same(path, (const uint8_t *)"request", 8))
            status = property_of(0, path + 8, length - 8, data, return_size);
        else if (length > 9 && same(path, (const uint8_t *)"response", 9))
            status = property_of(1, path + 9, length - 9, data, return_size);
    }
    return status < 0 ? slow_property(at_path, size, data, return_size) : (uint32_t)status;
}

/* --- crossings: what is done in a row is done in one. Each is 0 when there is nothing for the host to look at. */

static void open(uint32_t id, uint32_t root) {
    w.active = root;
    w.stream = id;
    w.verdict = w.recalled = w.readable = w.writable = w.filled = 0;
    w.changes = w.complex = w.untrimmed = w.answerable = w.answered = w.bodies = 0;
    /* What the host gave lies at the arena's start. */
    if (w.given > MAX_PAIRS || w.given_size > ARENA) w.given = 0;
    w.used = w.given ? w.given_size : 0;
}

static uint32_t close(void) {
    w.active = w.readable = w.writable = w.answerable = w.bodies = w.given = w.now[0] = w.now[1] = 0;
    /* After an answer, that the stream is paused says nothing more. */
    uint32_t odd = w.recalled || w.complex || (w.verdict && !w.answered) ? ODD : 0;
    uint32_t news = odd | (w.answered ? ANSWERED : 0) | w.changes << 8;
    return news ? news | w.untrimmed : 0;
}

uint32_t EXPORT(request)(uint32_t id, uint32_t root, uint32_t count, uint32_t end) {
    open(id, root);
    w.step = CREATING;
    on_context_create(id, root);
    w.step = CALLING;
    if (w.recalled) return close();
    w.readable = w.writable = 1;
    w.answerable = 1;
    w.verdict = on_request_headers(id, count, end);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(response)(uint32_t id, uint32_t root, uint32_t count, uint32_t end) {
    open(id, root);
    w.step = CALLING;
    w.readable = w.writable = 2;
    w.verdict = on_response_headers(id, count, end);
    w.step = CALLED;
    return close();
}

typedef uint32_t body_callback(uint32_t id, uint32_t size, uint32_t end);

/* One piece of a body, of which the host has the bytes. No map is lent: none may be read, but while a plugin holds one. */
static uint32_t show_piece(body_callback *callback, uint32_t bit, uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    open(id, root);
    w.step = CALLING;
    w.bodies = bit;
    w.body_size = size;
    w.body_ends = end;
    w.verdict = callback(id, size, end);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(request_body)(uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    return show_piece(on_request_body, 1, id, root, size, end);
}

uint32_t EXPORT(response_body)(uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    return show_piece(on_response_body, 2, id, root, size, end);
}

/* Of a stream that has a response, if ``answered``. */
uint32_t EXPORT(log)(uint32_t id, uint32_t root, uint32_t answered) {
    open(id, root);
    w.step = CALLING;
    w.readable = answered ? 3 : 1;
    on_log(id);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(finish)(uint32_t id, uint32_t root) {
    open(id, root);
    w.step = ENDING;
    on_done(id);
    if (w.recalled) return close();
    w.step = DELETING;
    on_delete(id);
    w.step = ENDED;
    return close();
}

uint32_t EXPORT(end)(uint32_t id, uint32_t root, uint32_t answered) {
    uint32_t news = log(id, root, answered);
    return news ? news : finish(id, root);
}

/* Of the kernel: the hostcalls of maps, bodies, clock and local response. */

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

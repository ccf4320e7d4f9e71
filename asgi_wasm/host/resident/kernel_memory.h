/* Of the kernel: the plugin's memory and its allocator. */

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

/* Of the kernel: the lent maps, and what was changed in them. */

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

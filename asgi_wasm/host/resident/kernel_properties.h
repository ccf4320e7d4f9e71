/* Of the kernel: properties that lie in the headers, by far the most asked for. */

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

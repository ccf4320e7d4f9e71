/* Of plugin.c, which includes it once: writing a line of the log, and reading the configuration. */

static void put(const char *text, size_t size) {
    if (size > sizeof line - line_size) {
        size = sizeof line - line_size;
    }
    memcpy(line + line_size, text, size);
    line_size += size;
}

static void put_text(const char *text) { put(text, strlen(text)); }

static void put_number(uint32_t number) {
    char digits[10];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(digits + at, sizeof digits - at);
}

static void put_hex(bytes value) {
    static const char digits[] = "0123456789abcdef";
    for (size_t at = 0; at < value.size; at++) {
        unsigned char byte = (unsigned char)value.data[at];
        put((char[]){digits[byte >> 4], digits[byte & 15]}, 2);
    }
}

static void log_line(void) {
    proxy_log(LOG_INFO, line, line_size);
    line_size = 0;
}

/* --- reading the configuration --- */

static bytes word(bytes *rest) {
    bytes found = {rest->data, 0};
    while (found.size < rest->size && found.data[found.size] != ' ') {
        found.size++;
    }
    size_t taken = found.size < rest->size ? found.size + 1 : found.size;
    rest->data += taken;
    rest->size -= taken;
    return found;
}

static int is(bytes value, const char *text) {
    return value.size == strlen(text) && memcmp(value.data, text, value.size) == 0;
}

static uint32_t number(bytes text) {
    uint32_t value = 0;
    for (size_t at = 0; at < text.size; at++) {
        value = value * 10 + (uint32_t)(text.data[at] - '0');
    }
    return value;
}

static char nibble(char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

/* The caller frees it. */
static bytes unhex(bytes text) {
    bytes value = {malloc(text.size / 2 + 1), text.size / 2};
    for (size_t at = 0; at < value.size; at++) {
        value.data[at] = (char)(nibble(text.data[2 * at]) << 4 | nibble(text.data[2 * at + 1]));
    }
    return value;
}

static bytes unhex_word(bytes *rest) { return unhex(word(rest)); }

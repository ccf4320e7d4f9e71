/* Of the scripts: a line of the log. Included once, by script.c. */

typedef struct {
    char text[2048];
    size_t size;
} Line;

static void put(Line *line, const char *text, size_t size) {
    if (size > sizeof line->text - line->size) {
        size = sizeof line->text - line->size;
    }
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void put_number(Line *line, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(line, digits + at, sizeof digits - at);
}

static void put_bytes(Line *line, const uint8_t *bytes, size_t size) {
    static const char HEX[] = "0123456789abcdef";
    put(line, TEXT("\""));
    for (size_t i = 0; i < size && i < SHOWN; i++) {
        if (bytes[i] < 0x20 || bytes[i] > 0x7e || bytes[i] == '"' || bytes[i] == '\\') {
            char escape[] = {'\\', 'x', HEX[bytes[i] >> 4], HEX[bytes[i] & 15]};
            put(line, escape, sizeof escape);
        } else {
            put(line, (const char *)bytes + i, 1);
        }
    }
    put(line, TEXT("\""));
    if (size > SHOWN) {
        uint32_t sum = 0;
        for (size_t i = 0; i < size; i++) {
            sum = sum * 31 + bytes[i];
        }
        put(line, TEXT("... "));
        put_number(line, size);
        put(line, TEXT(" bytes, sum "));
        put_number(line, sum);
    }
}

static void log_line(const Line *line) { proxy_log(LOG_INFO, line->text, line->size); }

/* Of plugin.c, which includes it once: a line of the log, with everything unprintable as %xx. */

static char line[65536];
static size_t line_size;

static void put_byte(char byte) {
    if (line_size < sizeof line) {
        line[line_size++] = byte;
    }
}

static void put(const char *text) {
    while (*text) {
        put_byte(*text++);
    }
}

static void put_bytes(const char *bytes, size_t size) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte > 32 && byte < 127 && byte != '%') {
            put_byte((char)byte);
        } else {
            put_byte('%');
            put_byte(digits[byte >> 4]);
            put_byte(digits[byte & 15]);
        }
    }
}

static void put_number(uint32_t number) {
    if (number > 9) {
        put_number(number / 10);
    }
    put_byte((char)('0' + number % 10));
}

static void log_line(void) {
    proxy_log(LOG_INFO, line, line_size);
    line_size = 0;
}

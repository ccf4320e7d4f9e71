/* Of the scripts: reading a line of theirs. Included once, by script.c, after what a script keeps. */

typedef struct {
    const char *at;
    const char *end;
} Reader;

static int is_blank(char c) { return c == ' ' || c == '\t'; }

static void skip_blanks(Reader *reader) {
    while (reader->at < reader->end && is_blank(*reader->at)) {
        reader->at++;
    }
}

static int digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

static uint64_t read_number(Reader *reader) {
    int negative = reader->at < reader->end && *reader->at == '-';
    reader->at += negative;
    uint64_t base = 10, number = 0;
    if (reader->end - reader->at > 1 && reader->at[0] == '0' && reader->at[1] == 'x') {
        base = 16;
        reader->at += 2;
    }
    while (reader->at < reader->end && (uint64_t)digit(*reader->at) < base) {
        number = number * base + (uint64_t)digit(*reader->at++);
    }
    return negative ? 0 - number : number;
}

static Reader read_word(Reader *reader) {
    skip_blanks(reader);
    Reader word = {reader->at, reader->at};
    while (reader->at < reader->end && !is_blank(*reader->at)) {
        reader->at++;
    }
    word.end = reader->at;
    return word;
}

static int is_word(Reader word, const char *text) {
    size_t size = strlen(text);
    return (size_t)(word.end - word.at) == size && memcmp(word.at, text, size) == 0;
}

/* A text in quotes, unescaped into memory of its own. */
static uint8_t *read_text(Reader *reader, size_t *size) {
    uint8_t *text = malloc((size_t)(reader->end - reader->at) + 1);
    size_t count = 0;
    reader->at++;
    while (reader->at < reader->end && *reader->at != '"') {
        char c = *reader->at++;
        if (c == '\\' && reader->end - reader->at > 2 && *reader->at == 'x') {
            c = (char)(digit(reader->at[1]) << 4 | digit(reader->at[2]));
            reader->at += 3;
        } else if (c == '\\' && reader->at < reader->end) {
            c = *reader->at++;
        }
        text[count++] = (uint8_t)c;
    }
    reader->at++;
    if (reader->at < reader->end && *reader->at == '*') {
        reader->at++;
        size_t times = (size_t)read_number(reader);
        uint8_t *repeated = malloc(count * times + 1);
        for (size_t i = 0; i < times; i++) {
            memcpy(repeated + i * count, text, count);
        }
        free(text);
        text = repeated;
        count *= times;
    }
    *size = count;
    return text;
}

static uint32_t variable(Reader *reader, uint32_t context, uint32_t root) {
    reader->at++;
    Reader word = read_word(reader);
    if (is_word(word, "self")) {
        return context;
    }
    if (is_word(word, "root")) {
        return root;
    }
    return is_word(word, "stream") ? last_stream : kept[(*word.at - 'a') % LETTERS];
}

static size_t read_arguments(Reader *reader, uint64_t *arguments, uint32_t context, uint32_t root) {
    size_t count = 0;
    for (skip_blanks(reader); reader->at < reader->end && count < MAX_ARGUMENTS - 1; skip_blanks(reader)) {
        int address_alone = *reader->at == '*';
        reader->at += address_alone;
        if (*reader->at == '"') {
            size_t size = 0;
            arguments[count++] = (uint32_t)read_text(reader, &size);
            if (!address_alone) {
                arguments[count++] = size;
            }
        } else if (*reader->at == '$') {
            reader->at++;
            arguments[count++] = (uint32_t)&results[read_number(reader) % RESULTS];
        } else if (*reader->at == '%') {
            arguments[count++] = variable(reader, context, root);
        } else {
            const char *before = reader->at;
            arguments[count++] = read_number(reader);
            if (reader->at == before) {
                reader->at++;
            }
        }
    }
    return count;
}

#include "json.h"

#include <stdint.h>
#include <string.h>

enum { DEEPEST = 127 };

typedef struct {
    const char *at;
    const char *end;
} reader;

static bool read_value(reader *r, json_value *value, int depth);

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) {
        r->at++;
    }
}

static bool take(reader *r, char expected) {
    if (r->at < r->end && *r->at == expected) {
        r->at++;
        return true;
    }
    return false;
}

static bool take_word(reader *r, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, word, size) != 0) {
        return false;
    }
    r->at += size;
    return true;
}

static size_t take_digits(reader *r) {
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        r->at++;
    }
    return (size_t)(r->at - start);
}

static bool read_number(reader *r) {
    take(r, '-');
    if (!take(r, '0') && take_digits(r) == 0) {
        return false;
    }
    if (take(r, '.') && take_digits(r) == 0) {
        return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+')) {
            take(r, '-');
        }
        return take_digits(r) > 0;
    }
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex4(reader *r, uint32_t *unit) {
    if (r->end - r->at < 4) {
        return false;
    }
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*r->at++);
        if (digit < 0) {
            return false;
        }
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return true;
}

/* After the backslash; half of a surrogate pair alone is no character. */
static bool take_escape(reader *r, uint32_t *point) {
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (r->at >= r->end) {
        return false;
    }
    char letter = *r->at++;
    if (letter != 'u') {
        const char *found = letter == 0 ? NULL : strchr(letters, letter);
        if (found == NULL) {
            return false;
        }
        *point = (uint32_t)meanings[found - letters];
        return true;
    }
    uint32_t low;
    if (!take_hex4(r, point)) {
        return false;
    }
    if (*point < 0xd800 || *point > 0xdfff) {
        return true;
    }
    if (*point > 0xdbff || !take(r, '\\') || !take(r, 'u') || !take_hex4(r, &low) || low < 0xdc00 || low > 0xdfff) {
        return false;
    }
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* One character of UTF-8, shortest form only. */
static bool take_utf8(reader *r, uint32_t *point) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint8_t lead = (uint8_t)*r->at++;
    int more = lead < 0x80 ? 0 : lead >> 5 == 6 ? 1 : lead >> 4 == 14 ? 2 : lead >> 3 == 30 ? 3 : -1;
    if (more < 0 || r->end - r->at < more) {
        return false;
    }
    *point = more == 0 ? lead : lead & (0x3fu >> more);
    for (int i = 0; i < more; i++) {
        uint8_t next = (uint8_t)*r->at++;
        if (next >> 6 != 2) {
            return false;
        }
        *point = *point << 6 | (next & 0x3f);
    }
    return *point >= least[more] && *point <= 0x10ffff && !(*point >= 0xd800 && *point <= 0xdfff);
}

static bool take_character(reader *r, uint32_t *point) {
    if (take(r, '\\')) {
        return take_escape(r, point);
    }
    return take_utf8(r, point) && (*point >= 0x20);
}

static bool read_string(reader *r) {
    uint32_t point;
    while (r->at < r->end) {
        if (take(r, '"')) {
            return true;
        }
        if (!take_character(r, &point)) {
            return false;
        }
    }
    return false;
}

static bool read_key(reader *r, json_value *key) {
    skip_space(r);
    *key = (json_value){JSON_STRING, r->at, 0};
    if (!take(r, '"') || !read_string(r)) {
        return false;
    }
    key->size = (size_t)(r->at - key->text);
    skip_space(r);
    return take(r, ':');
}

static bool read_members(reader *r, bool keyed, char close, int depth) {
    json_value ignored;
    skip_space(r);
    if (take(r, close)) {
        return true;
    }
    do {
        if ((keyed && !read_key(r, &ignored)) || !read_value(r, &ignored, depth + 1)) {
            return false;
        }
    } while (take(r, ','));
    return take(r, close);
}

static bool read_checked(reader *r, json_value *value, int depth) {
    if (take(r, '{')) {
        value->kind = JSON_OBJECT;
        return depth < DEEPEST && read_members(r, true, '}', depth);
    }
    if (take(r, '[')) {
        value->kind = JSON_ARRAY;
        return depth < DEEPEST && read_members(r, false, ']', depth);
    }
    if (take(r, '"')) {
        value->kind = JSON_STRING;
        return read_string(r);
    }
    if (take_word(r, "true") || take_word(r, "false") || take_word(r, "null")) {
        value->kind = JSON_WORD;
        return true;
    }
    value->kind = JSON_NUMBER;
    return read_number(r);
}

/* A value and the space around it. */
static bool read_value(reader *r, json_value *value, int depth) {
    skip_space(r);
    value->text = r->at;
    if (!read_checked(r, value, depth)) {
        return false;
    }
    value->size = (size_t)(r->at - value->text);
    skip_space(r);
    return true;
}

bool json_parse(const char *text, size_t size, json_value *value) {
    reader r = {text, text + size};
    return read_value(&r, value, 0) && r.at == r.end;
}

bool json_next_member(const json_value *object, const char **cursor, json_value *key, json_value *value) {
    reader r = {*cursor == NULL ? object->text : *cursor, object->text + object->size};
    r.at++; /* the brace, or the comma after the last member */
    if (r.at >= r.end || !read_key(&r, key) || !read_value(&r, value, 1)) {
        return false;
    }
    *cursor = r.at;
    return true;
}

static size_t put_utf8(char *out, uint32_t point) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    out[0] = (char)((0xf00 >> size) | point);
    return size;
}

size_t json_decode_string(const json_value *value, char *out) {
    reader r = {value->text + 1, value->text + value->size - 1};
    size_t size = 0;
    uint32_t point;
    while (r.at < r.end && take_character(&r, &point)) {
        size += put_utf8(out + size, point);
    }
    return size;
}

bool json_integer(const json_value *value, unsigned least, unsigned most, unsigned *number) {
    if (value->kind != JSON_NUMBER || value->size > 9) {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < value->size; i++) {
        if (value->text[i] < '0' || value->text[i] > '9') {
            return false;
        }
        *number = *number * 10 + (unsigned)(value->text[i] - '0');
    }
    return *number >= least && *number <= most;
}

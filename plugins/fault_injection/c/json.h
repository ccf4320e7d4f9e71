/* A strict reader of JSON text: nothing is copied but the strings that are asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef enum { JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_WORD } json_kind;

/* A slice of the text, checked; a string includes its quotation marks. */
typedef struct {
    json_kind kind;
    const char *text;
    size_t size;
} json_value;

/* The whole text as one value; false when it is not JSON. */
bool json_parse(const char *text, size_t size, json_value *value);

/* Members of an object one by one: `cursor` starts as NULL. False after the last one. */
bool json_next_member(const json_value *object, const char **cursor, json_value *key, json_value *value);

/* Decodes a string to at most `value->size` bytes of UTF-8 and returns their number. */
size_t json_decode_string(const json_value *value, char *out);

/* A number of digits alone, within the limits. */
bool json_integer(const json_value *value, unsigned least, unsigned most, unsigned *number);

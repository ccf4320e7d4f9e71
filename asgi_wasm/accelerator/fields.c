#include "accelerator.h"

#include <string.h>

long long length_from(const char *digits, Py_ssize_t size) {
    long long length = 0;
    if (!size || size > 18 || (*digits == '0' && size > 1)) return ODD_SIZE;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (digits[i] < '0' || digits[i] > '9') return ODD_SIZE;
        length = 10 * length + digits[i] - '0';
    }
    return length;
}

int has_capitals(const char *data, Py_ssize_t size) {
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    Py_ssize_t i = 0;
    /* Eight at a time; what does not come out even is looked at together with what was before it. */
    for (; size >= 8 && i < size; i += 8) {
        uint64_t bytes, low;
        memcpy(&bytes, data + (i + 8 > size ? size - 8 : i), 8);
        low = bytes & ~high;
        if (((low + (0x80 - 'A') * ones) ^ (low + (0x7f - 'Z') * ones)) & ~bytes & high) return 1;
    }
    for (; i < size; i++)
        if (data[i] >= 'A' && data[i] <= 'Z') return 1;
    return 0;
}

long long size_told(const Course *course, PyObject *fields) {
    Py_ssize_t count = PyList_Size(fields);
    long long told = NO_SIZE;
    int is_coded = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        char *n, *v;
        Py_ssize_t size, digits;
        if (!pair_of(PyList_GetItem(fields, i), &name, &value) || PyBytes_AsStringAndSize(name, &n, &size) ||
            PyBytes_AsStringAndSize(value, &v, &digits) || has_capitals(n, size))
            return ODD_SIZE;
        int meaning = meaning_of(course, n, size);
        is_coded |= meaning & CODING;
        /* Who waits to be asked is not read ahead. */
        if (meaning & EXPECT) return ODD_SIZE;
        if (meaning & LENGTH && (told != NO_SIZE || (told = length_from(v, digits)) == ODD_SIZE)) return ODD_SIZE;
    }
    return is_coded && told != NO_SIZE ? ODD_SIZE : told;
}

static int is_padded(PyObject *value) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &data, &size)) return -1;
    return size && (*data == ' ' || *data == '\t' || data[size - 1] == ' ' || data[size - 1] == '\t');
}

/* The pair with its value stripped: a new reference. */
static PyObject *stripped(PyObject *name, PyObject *value) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &data, &size)) return NULL;
    for (; size && (*data == ' ' || *data == '\t'); size--) data++;
    for (; size && (data[size - 1] == ' ' || data[size - 1] == '\t');) size--;
    PyObject *bare = PyBytes_FromStringAndSize(data, size), *made = bare ? PyTuple_Pack(2, name, bare) : NULL;
    Py_XDECREF(bare);
    return made;
}

int trim(PyObject *fields) {
    Py_ssize_t count = PyList_Size(fields);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        int padded = pair_of(PyList_GetItem(fields, i), &name, &value) ? is_padded(value) : 0;
        PyObject *own = padded > 0 ? stripped(name, value) : NULL;
        if (padded < 0 || (padded && !own) || (own && PyList_SetItem(fields, i, own))) return -1;
    }
    return 0;
}

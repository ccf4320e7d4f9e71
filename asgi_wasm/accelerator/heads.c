#include "accelerator.h"

#include <string.h>

/* Where bytes and tuples keep what they hold, behind their own address: the same for all of a type, and found out at the
 * start, since calls that only look there are most of what the way of a head would cost. */
Py_ssize_t bytes_at, items_at;

int find_offsets(void) {
    PyObject *name = PyBytes_FromString("name"), *value = PyBytes_FromStringAndSize(NULL, 0),
             *pair = name && value ? PyTuple_Pack(2, name, value) : NULL;
    if (pair) {
        bytes_at = PyBytes_AsString(name) - (char *)name;
        items_at = (Py_ssize_t)sizeof(PyVarObject);
        /* In some versions something stands before the items. */
        for (int i = 0; i < 2 && ((PyObject **)((char *)pair + items_at))[0] != name; i++) items_at += (Py_ssize_t)sizeof(void *);
        PyObject **items = (PyObject **)((char *)pair + items_at);
        if (Py_SIZE(pair) != 2 || items[0] != name || items[1] != value || Py_SIZE(name) != 4 ||
            PyBytes_AsString(value) - (char *)value != bytes_at)
            PyErr_SetString(PyExc_ImportError, "bytes and tuples lie in memory as in no version of CPython that is known");
    }
    Py_XDECREF(pair);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return PyErr_Occurred() ? -1 : 0;
}

/* Whether a name is one that a map keeps once. */
static int is_single(const window *w, int which, const char *name, size_t size) {
    if (size > LONGEST_NAME) return 0;
    for (uint32_t i = w->first[which][size]; i < w->first[which][size + 1]; i++)
        if (!memcmp(name, w->name_bytes[which] + w->name[which][2 * i], size)) return w->name[which][2 * i + 1] & SINGLE;
    return 0;
}

/* Whether a name is one of those that are kept once, and is among the pairs before. */
static int repeats(const Kernel *kernel, int which, const pair *end, const char *name, size_t size) {
    const window *w = kernel->w;
    for (const pair *old = w->pairs[which]; old < end; old++)
        if (old->name_size == size && !memcmp((const char *)w + (old->name - kernel->address), name, size))
            return is_single(w, which, name, size);
    return 0;
}

/* Most names and values are so short that a call would cost more than the copy. */
static inline void copy(uint8_t *to, const char *from, size_t size) {
    uint64_t first, last;
    uint32_t start, end;
    if (size > 16) {
        memcpy(to, from, size);
    } else if (size >= 8) {
        memcpy(&first, from, 8);
        memcpy(&last, from + size - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + size - 8, &last, 8);
    } else if (size >= 4) {
        memcpy(&start, from, 4);
        memcpy(&end, from + size - 4, 4);
        memcpy(to, &start, 4);
        memcpy(to + size - 4, &end, 4);
    } else if (size) {
        to[0] = (uint8_t)from[0];
        to[size >> 1] = (uint8_t)from[size >> 1];
        to[size - 1] = (uint8_t)from[size - 1];
    }
}

static inline int is_blank(char byte) { return byte == ' ' || byte == '\t'; }

int write_down(Kernel *kernel, int which, uint32_t used, const headers *lent, uint32_t *size) {
    window *w = kernel->w;
    if (used > ARENA) return -1;
    Py_ssize_t fields = PyList_Size(lent->fields), count = lent->pseudos + fields;
    if (count > MAX_PAIRS) return -1;
    uint8_t *to = w->arena + used, *end = w->arena + ARENA;
    uint32_t address = kernel->address + (uint32_t)offsetof(window, arena) + used, form = SPREAD;
    pair *p = w->pairs[which];
    /* Names by a bit of their size and ends, since hardly any comes twice. */
    uint64_t met = 0;
    for (Py_ssize_t i = -lent->pseudos; i < fields; i++, p++) {
        PyObject *name, *value;
        if (i < 0) {
            name = lent->names[i + lent->pseudos];
            value = lent->values[i + lent->pseudos];
            if (!PyBytes_CheckExact(value)) return -1;
        } else if (!pair_of(PyList_GetItem(lent->fields, i), &name, &value)) {
            return -1;
        }
        const char *n = bytes_in(name), *v = bytes_in(value);
        Py_ssize_t name_size = Py_SIZE(name), value_size = Py_SIZE(value);
        if (name_size > end - to || value_size > end - to - name_size) return -1;
        *p = (pair){address, (uint32_t)name_size, address + (uint32_t)name_size, (uint32_t)value_size};
        copy(to, n, (size_t)name_size);
        copy(to + name_size, v, (size_t)value_size);
        to += name_size + value_size;
        address += (uint32_t)(name_size + value_size);
        if (value_size && (is_blank(*v) || is_blank(v[value_size - 1]))) form |= UNTRIMMED;
        if (!name_size) continue;
        uint64_t bit = 1ull << (((uint32_t)name_size * 7 + (uint8_t)*n + 3u * (uint8_t)n[name_size - 1]) & 63);
        if (met & bit && repeats(kernel, which, p, n, (size_t)name_size)) return -1;
        met |= bit;
    }
    *size = (uint32_t)(to - w->arena) - used;
    w->form = form;
    return (int)count;
}

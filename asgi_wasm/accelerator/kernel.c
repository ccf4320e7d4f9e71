#include "accelerator.h"

#include <string.h>

/* Python functions that a callback out of the guest calls in each other, before it may raise. */
enum { LEVELS = 3 };
int counts_together;

/* --- the lent headers */

/* A request that goes the way in Python through the same kernel. */
static uint32_t fill_in_python(Kernel *kernel, uint32_t which) {
    PyObject *done = kernel->fill ? PyObject_CallFunction(kernel->fill, "I", which) : NULL;
    uint32_t filled = done ? (uint32_t)PyLong_AsUnsignedLong(done) : 0;
    Py_XDECREF(done);
    return PyErr_Occurred() ? 0 : filled;
}

static uint32_t fill_in_c(Kernel *kernel, uint32_t which) {
    window *w = kernel->w;
    uint32_t size;
    int count = write_down(kernel, (int)which, w->used, kernel->lent[which], &size);
    if (count < 0) return 0;
    w->count[which] = (uint32_t)count;
    w->used += size;
    /* A log reads what others may not. */
    if (w->writable) kernel->gives |= (char)(1 << which);
    return 1;
}

/* The kernel's import `fill`: a lent map is used for the first time. 0 when it does not fit, or must be joined first. */
void *fill_map(void *env, void *caller, slot *slots, size_t count) {
    Kernel *kernel = env;
    uint32_t which = slots[0].i32;
    (void)caller;
    (void)count;
    PyGILState_STATE state = PyGILState_Ensure();
    slots[0].i32 = which >= SLOTS || !kernel->w ? 0
                   : kernel->lent[which] ? fill_in_c(kernel, which)
                   : kernel->lends      ? 0
                                         : fill_in_python(kernel, which);
    PyErr_Clear();
    PyGILState_Release(state);
    return NULL;
}

/* The kernel's import `give_body`, which has found the address to be inside of the plugin's memory. */
void *give_body(void *env, void *caller, slot *slots, size_t count) {
    const Kernel *kernel = env;
    uint64_t start = slots[1].i32, size = slots[2].i32;
    (void)caller;
    (void)count;
    /* Nothing of Python's is touched, nor is its lock held: the crossing keeps the bytes. */
    if (kernel->piece_data && start + size <= kernel->piece_size)
        memcpy(kernel->guest + slots[0].i32, kernel->piece_data + start, (size_t)size);
    return NULL;
}

/* The kernel's import `take_body`: bytes of the plugin, which it has found to be inside, take the place of `size` at the
 * front of the piece, which is as long, or come behind its end. */
void *take_body(void *env, void *caller, slot *slots, size_t count) {
    Kernel *kernel = env;
    const char *value = kernel->guest + slots[0].i32;
    uint64_t start = slots[1].i32, gone = slots[2].i32, size = slots[3].i32, old = kernel->piece_size, length;
    (void)caller;
    (void)count;
    slots[0].i32 = 0;
    if (gone > old) return NULL;
    length = old - gone + size;
    if (length > old && length > kernel->body_bytes) return NULL;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    char *to = made ? PyBytes_AsString(made) : NULL;
    if (to) {
        const char *kept = kernel->piece_data + gone;
        if (!start) memcpy(to, value, (size_t)size);
        if (old > gone) memcpy(start ? to : to + size, kept, (size_t)(old - gone));
        if (start) memcpy(to + old, value, (size_t)size);
        keep_piece(kernel, made);
        slots[0].i32 = 1;
    }
    Py_XDECREF(made);
    PyErr_Clear();
    PyGILState_Release(state);
    return NULL;
}

void keep_piece(Kernel *kernel, PyObject *piece) {
    PyObject *old = kernel->piece;
    Py_XINCREF(piece);
    kernel->piece = piece;
    kernel->piece_data = piece ? PyBytes_AsString(piece) : NULL;
    kernel->piece_size = piece ? (uint64_t)PyBytes_Size(piece) : 0;
    Py_XDECREF(old);
}

/* Lets the callback have this map without asking. Where it does not fit, it will ask in vain. */
static void give(Kernel *kernel, int which, const headers *lent) {
    uint32_t size;
    int count = write_down(kernel, which, 0, lent, &size);
    if (count <= 0) return;
    kernel->w->given = (uint32_t)count;
    kernel->w->given_size = size;
}

/* --- the way in */

/* Raises what an error and a trap of the engine mean; neither: that it is closed. */
static void fail(Kernel *kernel, void *error, void *trap) {
    PyObject *none = kernel->fail ? PyObject_CallFunction(kernel->fail, "KK", (unsigned long long)(uintptr_t)error,
                                                          (unsigned long long)(uintptr_t)trap)
                                  : NULL;
    Py_XDECREF(none);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "the kernel is attached to nothing");
}

/* Until CPython 3.12, calls in C and in Python are counted together, and this is all that is to be asked. */
static int has_levels(void) {
    int levels = 0;
    for (; levels < LEVELS && !Py_EnterRecursiveCall(" around a guest"); levels++) {}
    for (int i = 0; i < levels; i++) Py_LeaveRecursiveCall();
    return levels == LEVELS;
}

static int has_headroom(Kernel *kernel) {
    if (counts_together) return has_levels();
    PyObject *done = PyObject_CallObject(kernel->headroom, NULL);
    Py_XDECREF(done);
    return done != NULL;
}

int is_here(Kernel *kernel) {
    if (!kernel->call || PyThread_get_thread_ident() == kernel->thread) return 1;
    /* It says so where that is no other thread of the same event loop. */
    PyObject *done = PyObject_CallMethodObjArgs(kernel->vm, text.check_thread, NULL);
    Py_XDECREF(done);
    return done != NULL;
}

int may_enter(Kernel *kernel) {
    if (!kernel->call) {
        fail(kernel, NULL, NULL);
        return 0;
    }
    if (!is_here(kernel)) return 0;
    return has_headroom(kernel);
}

/* Lets the callback have the time without asking; where that cannot be told, the hostcall says why. */
static void give_time(Kernel *kernel) {
    PyObject *told = PyObject_CallObject(kernel->realtime, NULL);
    unsigned long long now = told ? PyLong_AsUnsignedLongLong(told) : 0;
    Py_XDECREF(told);
    if (PyErr_Occurred()) now = 0;
    PyErr_Clear();
    kernel->w->now[0] = (uint32_t)now;
    kernel->w->now[1] = (uint32_t)(now >> 32);
}

static int call_kernel(Kernel *kernel, int which, slot *slots, size_t count, uint32_t *news) {
    void *trap = NULL, *error;
    PyObject *owner = kernel->owner;
    /* The callback may close the VM. */
    Py_INCREF(owner);
    uint64_t *entry = kernel->entry;
    entry[0]++;
    entry[1] = (uint64_t)(uintptr_t)kernel->functions[which];
    call_function call = kernel->call;
    PyThreadState *state = PyEval_SaveThread();
    error = call(kernel->store, kernel->functions[which], slots, count, &trap);
    PyEval_RestoreThread(state);
    entry[0]++;
    *news = slots[0].i32;
    int failed = error || trap;
    if (failed) fail(kernel, error, trap);
    Py_DECREF(owner);
    return failed ? -1 : 0;
}

int cross(Kernel *kernel, const headers *request, const headers *response, int which, slot *slots, size_t count,
          uint32_t *news) {
    if (!kernel->call) {
        fail(kernel, NULL, NULL);
        return -1;
    }
    /* A callback may come here again, for a request of its own making: what was lent is lent again after it. */
    const headers *before[SLOTS] = {kernel->lent[0], kernel->lent[1]};
    char lent_before = kernel->lends;
    kernel->lent[REQUEST_SLOT] = request;
    kernel->lent[RESPONSE_SLOT] = response;
    kernel->lends = 1;
    if (which == REQUEST_CROSSING && kernel->gives & 1 << REQUEST_SLOT) give(kernel, REQUEST_SLOT, request);
    if (which == RESPONSE_CROSSING && kernel->gives & 1 << RESPONSE_SLOT) give(kernel, RESPONSE_SLOT, response);
    if (kernel->w->wants_time) give_time(kernel);
    int failed = call_kernel(kernel, which, slots, count, news);
    kernel->lent[REQUEST_SLOT] = before[0];
    kernel->lent[RESPONSE_SLOT] = before[1];
    kernel->lends = lent_before;
    return failed;
}

/* --- what a callback changed */

static uint32_t change_count(const window *w) { return w->changes < MAX_CHANGES ? w->changes : MAX_CHANGES; }

const char *place(const Kernel *kernel, uint32_t address, uint64_t size) {
    uint64_t at = (uint64_t)address - kernel->address;
    return address >= kernel->address && at + size <= sizeof(window) ? (const char *)kernel->w + at : NULL;
}

static int drop(PyObject *fields, const char *name, uint32_t size) {
    for (Py_ssize_t at = PyList_Size(fields) - 1; at >= 0; at--) {
        PyObject *n, *v;
        if (!pair_of(PyList_GetItem(fields, at), &n, &v)) continue;
        if (Py_SIZE(n) == (Py_ssize_t)size && !memcmp(bytes_in(n), name, size) && PyList_SetSlice(fields, at, at + 1, NULL)) return -1;
    }
    return 0;
}

/* The pair of a name and a value behind it: a new reference. */
static PyObject *pair_with(made_pair *last, const char *name, uint32_t size, uint32_t value_size) {
    uint64_t total = (uint64_t)size + value_size;
    if (last->pair && last->name_size == size && last->value_size == value_size && !memcmp(last->bytes, name, (size_t)total))
        return keep(last->pair);
    PyObject *n = PyBytes_FromStringAndSize(name, size), *v = n ? PyBytes_FromStringAndSize(name + size, value_size) : NULL,
             *pair = v ? PyTuple_Pack(2, n, v) : NULL;
    Py_XDECREF(n);
    Py_XDECREF(v);
    if (pair && total <= MADE_SIZE) {
        memcpy(last->bytes, name, (size_t)total);
        last->name_size = size;
        last->value_size = value_size;
        put(&last->pair, keep(pair));
    }
    return pair;
}

static int repeat_one(made_pair *last, PyObject *fields, uint32_t kind, const char *name, uint32_t size, uint32_t value_size) {
    if (kind != ADD && drop(fields, name, size)) return -1;
    if (kind == REMOVE) return 0;
    PyObject *pair = pair_with(last, name, size, value_size);
    int failed = !pair || PyList_Append(fields, pair);
    Py_XDECREF(pair);
    return failed ? -1 : 0;
}

int repeat(Kernel *kernel, int which, PyObject *fields) {
    uint32_t count = change_count(kernel->w);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *change = kernel->w->change + 4 * i;
        const char *name = place(kernel, change[3], (uint64_t)change[1] + change[2]);
        if (!name) {
            PyErr_SetString(PyExc_SystemError, "the kernel's log of changes is not inside of its window");
            return -1;
        }
        made_pair *last = kernel->made + (2 * i + (uint32_t)which) % MOST_MADE;
        if (repeat_one(last, fields, change[0] & 0xff, name, change[1], change[2])) return -1;
    }
    return 0;
}

PyObject *local_of(Kernel *kernel) {
    const uint32_t *local = kernel->w->local;
    const char *details = place(kernel, local[1], local[2]), *body = place(kernel, local[3], local[4]),
               *pairs = place(kernel, local[5], local[6]);
    if (!details || !body || !pairs) {
        PyErr_SetString(PyExc_SystemError, "the kernel's local response is not inside of its window");
        return NULL;
    }
    return Py_BuildValue("Iy#y#y#", local[0], details, (Py_ssize_t)local[2], body, (Py_ssize_t)local[4], pairs,
                         (Py_ssize_t)local[6]);
}

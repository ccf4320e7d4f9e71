#include "accelerator.h"

#include <string.h>

/* --- crossings */

/* What of this request a callback may be lent. */
void show_request(const Stream *s, headers *lent) {
    lent->pseudos = MOST_PSEUDO;
    for (int i = 0; i < MOST_PSEUDO; i++) {
        lent->names[i] = text.pseudo[i];
        lent->values[i] = s->pseudo[i];
    }
    lent->fields = s->fields;
}

void show_status(PyObject *status, PyObject *fields, headers *lent) {
    lent->pseudos = 1;
    lent->names[0] = text.status_name;
    lent->values[0] = status;
    lent->fields = fields;
}

/* A new context's number (`WasmVM.next_context_id`), and the VM told of whose it is. */
static int take_id(Stream *s, filter *f, uint32_t *id) {
    /* A callback of the plugin before may have closed this one's VM, and its window with it. */
    PyObject *number = f->kernel->call ? PyLong_FromUnsignedLong(++f->kernel->w->last_id)
                                       : PyObject_CallMethodObjArgs(f->vm, text.next_context_id, NULL);
    *id = number ? (uint32_t)PyLong_AsUnsignedLong(number) : 0;
    if (number) {
        if (s->opened < FEW) put(s->keys + s->opened, keep(number));
        s->ids[s->opened++] = *id;
    }
    int failed = !number || PyErr_Occurred() || PyDict_SetItem(f->lent, number, (PyObject *)s);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

int is_odd(const Stream *s, const filter *f, uint32_t news) {
    return news & (ODD | ANSWERED) || PyList_Size(f->effects) || s->request;
}

/* --- the request */

/* Where the parts of the last callback's local response lie; 0 when they are not in the window. */
static int parts_of(const Kernel *k, const char *parts[3]) {
    const uint32_t *local = k->w->local;
    for (int i = 0; i < 3; i++)
        if (!(parts[i] = place(k, local[1 + 2 * i], local[2 + 2 * i]))) return 0;
    return 1;
}

/* Whether it is the one that was found last. */
static int is_last(const Course *c, const Kernel *k) {
    const uint32_t *local = k->w->local;
    const last_answer *last = &c->last;
    const char *parts[3], *bytes = last->bytes;
    if (!last->answer || last->status != local[0] || !parts_of(k, parts)) return 0;
    for (int i = 0; i < 3; i++) {
        if (last->sizes[i] != local[2 + 2 * i] || memcmp(bytes, parts[i], last->sizes[i])) return 0;
        bytes += last->sizes[i];
    }
    return 1;
}

/* Keeps it as the last; it may be left out. */
static void keep_last(Course *c, const Kernel *k, PyObject *answer) {
    const uint32_t *local = k->w->local;
    const char *parts[3];
    put(&c->last.answer, NULL);
    if (!parts_of(k, parts)) return;
    char *bytes = PyMem_Realloc(c->last.bytes, (size_t)local[2] + local[4] + local[6] + 1);
    if (!bytes) return;
    c->last.bytes = bytes;
    c->last.status = local[0];
    for (int i = 0; i < 3; i++) {
        c->last.sizes[i] = local[2 + 2 * i];
        memcpy(bytes, parts[i], c->last.sizes[i]);
        bytes += c->last.sizes[i];
    }
    put(&c->last.answer, keep(answer));
}

/* Looks for the messages of a local response that was made before: `SEND_ANSWER` where they are there, `FIND_ANSWER`
 * where Python is to look, `HAND_BACK` where there is more to it. -1 with an exception. */
static int find_answer(Stream *s, filter *f, Py_ssize_t index, uint32_t news) {
    Course *c = s->course;
    if ((news & ~(uint32_t)UNTRIMMED) != ANSWERED || PyList_Size(f->effects) || s->request || index != c->count - 1)
        return HAND_BACK;
    if (s->has_type || s->is_bodiless) return FIND_ANSWER;
    if (!is_last(c, f->kernel)) {
        PyObject *local = local_of(f->kernel), *found = local ? PyDict_GetItemWithError(c->answers, local) : NULL;
        Py_XDECREF(local);
        if (!found || found == Py_None) return PyErr_Occurred() ? -1 : FIND_ANSWER;
        keep_last(c, f->kernel, found);
    }
    put(&s->answer, keep(c->last.answer));
    return s->answer ? SEND_ANSWER : FIND_ANSWER;
}

/* The headers that the app gets where plugins changed some: `host`, what they do not see, what they left. */
static PyObject *own_headers(Stream *s) {
    Py_ssize_t shown = PyList_Size(s->fields);
    PyObject *all = PyDict_GetItemWithError(s->scope, text.headers),
             *made = all ? PyList_New(s->keeps_fields ? 1 : 1 + shown) : NULL;
    if (!made) return NULL;
    int failed = PyList_SetItem(made, 0, keep(s->host_field));
    Py_ssize_t count = s->keeps_fields ? PyList_Size(all) : 0;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        PyObject *pair = PyList_GetItem(all, i), *name, *value;
        if (!pair_of(pair, &name, &value)) continue;
        int meaning = meaning_of(s->course, bytes_in(name), Py_SIZE(name));
        if ((meaning & (HIDDEN | HOST)) == HIDDEN) failed = PyList_Append(made, pair);
    }
    for (Py_ssize_t i = 0; !failed && i < shown; i++) {
        PyObject *pair = PyList_GetItem(s->fields, i);
        failed = s->keeps_fields ? PyList_Append(made, pair) : PyList_SetItem(made, 1 + i, keep(pair));
    }
    if (failed) Py_CLEAR(made);
    return made;
}

/* A `PluginProperties`, made without a call of Python. */
static PyObject *shown_properties(const Stream *s) {
    const Course *c = s->course;
    if (!s->properties) return keep(c->no_properties);
    PyTypeObject *type = (PyTypeObject *)c->properties;
    PyObject *made = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (made && PyObject_SetAttr(made, text.values, s->properties)) Py_CLEAR(made);
    return made;
}

static PyObject *guarded_scope(Stream *s) {
    if (s->properties) return PyObject_CallFunctionObjArgs(s->course->guard, s->scope, s->properties, NULL);
    PyObject *none = PyDict_New(), *made = none ? PyObject_CallFunctionObjArgs(s->course->guard, s->scope, none, NULL) : NULL;
    Py_XDECREF(none);
    return made;
}

/* The scope that the app gets. */
static int make_own(Stream *s, int is_untrimmed) {
    PyObject *own, *extensions = NULL;
    if (s->course->sees & SEES_RESPONSE_BODY) extensions = PyDict_GetItemWithError(s->scope, text.extensions);
    if (PyErr_Occurred()) return -1;
    if (extensions) {
        own = guarded_scope(s);
    } else {
        PyObject *shown = shown_properties(s);
        own = shown ? PyDict_Copy(s->scope) : NULL;
        if (own && PyDict_SetItem(own, text.asgi_wasm, shown)) Py_CLEAR(own);
        Py_XDECREF(shown);
    }
    if (!own) return -1;
    put(&s->own, own);
    s->own_size = PyDict_Size(own);
    if (!s->changed) return 0;
    PyObject *made = own_headers(s);
    int failed = !made || (is_untrimmed && trim(made)) || PyDict_SetItem(own, text.headers, made);
    Py_XDECREF(made);
    return failed ? -1 : 0;
}

/* One filter's context and its callback for the headers: `CALL_APP` when it lets them pass. */
static int show_to(Stream *s, Py_ssize_t index, int *is_untrimmed) {
    filter *f = s->course->filters + index;
    uint32_t id, news;
    headers lent;
    if (take_id(s, f, &id)) return -1;
    if (!(f->takes & TAKES_REQUEST)) return CALL_APP;
    s->index = (int)index;
    s->phase = REQUEST;
    show_request(s, &lent);
    slot slots[4] = {{.i32 = id}, {.i32 = f->root_id}, {.i32 = (uint32_t)(PyList_Size(s->fields) + MOST_PSEUDO)}, {.i32 = (uint32_t)s->ends}};
    if (cross(f->kernel, &lent, NULL, REQUEST_CROSSING, slots, 4, &news)) return -1;
    if (!news && !PyList_Size(f->effects)) return CALL_APP;
    if (news & ANSWERED) return find_answer(s, f, index, news);
    if (is_odd(s, f, news)) return HAND_BACK;
    s->changed = 1;
    *is_untrimmed |= (news & UNTRIMMED) != 0;
    return repeat(f->kernel, REQUEST_SLOT, s->fields) ? -1 : CALL_APP;
}

int begin_stream(Stream *s) {
    int then = CALL_APP, is_untrimmed = 0;
    if (!may_enter(s->course->filters[0].kernel)) return -1;
    for (Py_ssize_t i = 0; then == CALL_APP && i < s->course->count; i++) then = show_to(s, i, &is_untrimmed);
    if (then == CALL_APP) {
        s->phase = IDLE;
        if (make_own(s, is_untrimmed)) then = -1;
    }
    return then;
}

PyObject *call_app(Stream *s) {
    PyObject *receive = app_receive_of(s), *send = receive ? app_send_of(s) : NULL,
             *result = send ? PyObject_CallFunctionObjArgs(s->course->app, s->own, receive, send, NULL) : NULL;
    Py_XDECREF(receive);
    Py_XDECREF(send);
    return result;
}

/* --- the response */

static int respond_to(Stream *s, Py_ssize_t index, PyObject **fields, int *is_untrimmed) {
    filter *f = s->course->filters + index;
    uint32_t news;
    headers lent;
    s->index = (int)index;
    s->phase = RESPONSE;
    show_status(s->status, *fields, &lent);
    slot slots[4] = {{.i32 = s->ids[index]}, {.i32 = f->root_id}, {.i32 = (uint32_t)(PyList_Size(*fields) + 1)}, {.i32 = (uint32_t)s->drops_body}};
    if (cross(f->kernel, NULL, &lent, RESPONSE_CROSSING, slots, 4, &news)) return -1;
    if (!news && !PyList_Size(f->effects)) return CALL_APP;
    if (is_odd(s, f, news)) return HAND_BACK;
    if (!s->response_changed) {
        PyObject *own = PyList_GetSlice(*fields, 0, PyList_Size(*fields));
        if (!own) return -1;
        put(fields, own);
        s->response_changed = 1;
    }
    *is_untrimmed |= (news & UNTRIMMED) != 0;
    if (repeat(f->kernel, RESPONSE_SLOT, *fields)) return -1;
    put(&s->response_fields, keep(*fields));
    return CALL_APP;
}

int is_read_later(const Course *c) { return c->takes & (TAKES_LOG | TAKES_END) || c->sees & SEES_RESPONSE_BODY; }

int show_response(Stream *s, PyObject **fields) {
    Course *c = s->course;
    int then = CALL_APP, is_untrimmed = 0;
    for (Py_ssize_t i = s->opened - 1; then == CALL_APP && i >= 0; i--)
        if (c->filters[i].takes & TAKES_RESPONSE) then = respond_to(s, i, fields, &is_untrimmed);
    if (then != CALL_APP) return then;
    s->phase = IDLE;
    if (is_read_later(c) || is_untrimmed) {
        /* The app, or a middleware outside, may change its list later. */
        PyObject *copy = PyList_GetSlice(*fields, 0, PyList_Size(*fields));
        if (!copy) return -1;
        put(&s->response_fields, s->response_changed ? keep(*fields) : copy);
        if (s->response_changed) put(fields, copy);
        if (is_untrimmed && trim(*fields)) return -1;
    }
    return CALL_APP;
}

/* What the last callback made of a piece, borrowed, where that is all that it did, and the head says nothing else; NULL
 * where that is for Python to judge (`pieces.send_after`, `NativeUpload.hear_after`). */
static PyObject *changed_piece(const Stream *s, const filter *f, int which, PyObject *data) {
    const Kernel *k = f->kernel;
    if (!k->call || s->request || PyList_Size(f->effects) || !k->w->complex || k->w->recalled || k->w->verdict) return NULL;
    PyObject *piece = k->piece ? k->piece : text.empty;
    int any = which == REQUEST_SLOT ? ((const Upload *)s)->size == NO_SIZE : s->is_unsized;
    return any || PyBytes_Size(piece) == PyBytes_Size(data) ? piece : NULL;
}

int show_piece(Stream *s, int which, PyObject *data, int ends, PyObject **changed) {
    Course *c = s->course;
    int takes = which == REQUEST_SLOT ? TAKES_REQUEST_BODY : TAKES_RESPONSE_BODY,
        crossing = which == REQUEST_SLOT ? REQUEST_BODY_CROSSING : RESPONSE_BODY_CROSSING;
    for (Py_ssize_t n = 0; n < s->opened; n++) {
        Py_ssize_t i = which == REQUEST_SLOT ? n : s->opened - 1 - n;
        filter *f = c->filters + i;
        uint32_t news;
        if (!(f->takes & takes)) continue;
        s->index = (int)i;
        s->phase = BODY;
        slot slots[4] = {{.i32 = s->ids[i]}, {.i32 = f->root_id}, {.i32 = (uint32_t)PyBytes_Size(data)}, {.i32 = (uint32_t)ends}};
        keep_piece(f->kernel, data);
        if (cross(f->kernel, NULL, NULL, crossing, slots, 4, &news)) return -1;
        if (news || PyList_Size(f->effects)) {
            PyObject *piece = changed ? changed_piece(s, f, which, data) : NULL;
            if (!piece) return HAND_BACK;
            put(changed, keep(piece));
            data = piece;
        }
        keep_piece(f->kernel, NULL);
    }
    s->phase = IDLE;
    return CALL_APP;
}

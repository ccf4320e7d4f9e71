#include "accelerator.h"

#include <string.h>

/* What `begin` and `finish` answer; `native.py` has the same. */
enum { CALL_APP, SEND_ANSWER, HAND_BACK, GONE };

static PyObject *keep(PyObject *object) {
    Py_XINCREF(object);
    return object;
}

static void put(PyObject **field, PyObject *object) {
    PyObject *old = *field;
    *field = object;
    Py_XDECREF(old);
}

/* --- crossings */

/* What of this request a callback may be lent. */
static void show_request(Stream *s, headers *lent) {
    lent->pseudos = MOST_PSEUDO;
    for (int i = 0; i < MOST_PSEUDO; i++) {
        lent->names[i] = text.pseudo[i];
        lent->values[i] = s->pseudo[i];
    }
    lent->fields = s->fields;
}

static void show_response(PyObject *status, PyObject *fields, headers *lent) {
    lent->pseudos = 1;
    lent->names[0] = text.status_name;
    lent->values[0] = status;
    lent->fields = fields;
}

static int cross_lending(Kernel *k, const headers *request, const headers *response, int which, slot *slots, size_t count,
                         uint32_t *news) {
    /* A callback may come here again, for a request of its own making: what was lent is lent again after it. */
    const headers *before[SLOTS] = {k->lent[0], k->lent[1]};
    int lent_before = k->lends;
    k->lent[0] = request;
    k->lent[1] = response;
    k->lends = 1;
    int failed = cross(k, which, slots, count, news);
    k->lent[0] = before[0];
    k->lent[1] = before[1];
    k->lends = lent_before;
    return failed;
}

static int id_at(Stream *s, Py_ssize_t index, uint32_t *id) {
    PyObject *found = PyList_GetItem(s->ids, index);
    *id = found ? (uint32_t)PyLong_AsUnsignedLong(found) : 0;
    return PyErr_Occurred() ? -1 : 0;
}

/* A new context's number (`WasmVM.next_context_id`), and the VM told of whose it is. */
static int take_id(Stream *s, filter *f, uint32_t *id) {
    /* A callback of the plugin before may have closed this one's VM, and its window with it. */
    PyObject *number = f->kernel->call ? PyLong_FromUnsignedLong(++f->kernel->w->last_id)
                                       : PyObject_CallMethodObjArgs(f->vm, text.next_context_id, NULL);
    *id = number ? (uint32_t)PyLong_AsUnsignedLong(number) : 0;
    int failed = !number || PyList_Append(s->ids, number) ||
                 PyDict_SetItem(f->lent, number, (PyObject *)s);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

/* Whether the last callback did what takes more than to repeat its changes. */
static int is_odd(Stream *s, filter *f, int delicate) {
    const window *w = f->kernel->w;
    return w->recalled || w->complex || w->verdict || w->answered || PyList_Size(f->effects) || s->request ||
           changed_delicate(s->course, f->kernel, delicate);
}

/* --- the request */

/* The messages for a local response that was made before; 0 where Python is to look, -1 with an exception. */
static int find_answer(Stream *s, filter *f, Py_ssize_t index) {
    const window *w = f->kernel->w;
    Course *c = s->course;
    PyObject *method = PyDict_GetItemWithError(s->scope, text.method);
    if (w->recalled || w->complex || w->changes || PyList_Size(f->effects) || s->request || index != c->count - 1 ||
        s->has_type || !method || PyUnicode_Compare(method, text.head) == 0)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *local = local_of(f->kernel), *found = local ? PyDict_GetItemWithError(c->answers, local) : NULL;
    Py_XDECREF(local);
    if (!found || found == Py_None) return PyErr_Occurred() ? -1 : 0;
    put(&s->answer, keep(found));
    return 1;
}

static int make_own_headers(Stream *s, PyObject *own) {
    PyObject *kept = PyList_New(0), *all = PyDict_GetItemWithError(s->scope, text.headers), *made = NULL;
    int failed = !kept || !all || PyList_Append(kept, s->host_field);
    if (!failed && s->keeps_fields) {
        Py_ssize_t count = PyList_Size(all);
        for (Py_ssize_t i = 0; !failed && i < count; i++) {
            PyObject *pair = PyList_GetItem(all, i), *name, *value;
            char *data;
            Py_ssize_t size;
            if (!pair_of(pair, &name, &value) || PyBytes_AsStringAndSize(name, &data, &size)) continue;
            int meaning = meaning_of(s->course, data, size);
            if (meaning & HIDDEN && !(meaning & HOST)) failed = PyList_Append(kept, pair);
        }
    }
    if (!failed) made = trimmed(kept, s->fields);
    failed = !made || PyDict_SetItem(own, text.headers, made);
    Py_XDECREF(kept);
    Py_XDECREF(made);
    return failed ? -1 : 0;
}

/* A `PluginProperties`, made without a call of Python. */
static PyObject *make_properties(Course *c, PyObject *values) {
    PyTypeObject *type = (PyTypeObject *)c->properties;
    PyObject *made = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (made && PyObject_SetAttr(made, text.values, values)) Py_CLEAR(made);
    return made;
}

/* The scope that the app gets. */
static int make_own(Stream *s) {
    Course *c = s->course;
    PyObject *own, *extensions = NULL;
    if (c->sees & SEES_RESPONSE_BODY) extensions = PyDict_GetItemWithError(s->scope, text.extensions);
    if (PyErr_Occurred()) return -1;
    if (extensions) {
        own = PyObject_CallFunctionObjArgs(c->guard, s->scope, s->properties, NULL);
        if (!own) return -1;
    } else {
        PyObject *seen = make_properties(c, s->properties);
        own = seen ? PyDict_Copy(s->scope) : NULL;
        int failed = !own || PyDict_SetItem(own, text.asgi_wasm, seen);
        Py_XDECREF(seen);
        if (failed) {
            Py_XDECREF(own);
            return -1;
        }
    }
    put(&s->own, own);
    return s->log ? make_own_headers(s, own) : 0;
}

/* One filter's context and its callback for the headers: `CALL_APP` when it lets them pass. */
static int show_to(Stream *s, Py_ssize_t index) {
    Course *c = s->course;
    filter *f = c->filters + index;
    uint32_t id, news;
    headers lent;
    if (take_id(s, f, &id)) return -1;
    if (!(f->takes & TAKES_REQUEST)) return CALL_APP;
    s->index = (int)index;
    s->phase = REQUEST;
    show_request(s, &lent);
    slot slots[4] = {{.i32 = id}, {.i32 = f->root_id}, {.i32 = (uint32_t)(PyList_Size(s->fields) + MOST_PSEUDO)}, {.i32 = (uint32_t)s->ends}};
    if (cross_lending(f->kernel, &lent, NULL, REQUEST_CROSSING, slots, 4, &news)) return -1;
    if (news || PyList_Size(f->effects)) {
        if (f->kernel->w->answered) {
            int found = find_answer(s, f, index);
            return found < 0 ? -1 : found ? SEND_ANSWER : HAND_BACK;
        }
        if (is_odd(s, f, DELICATE)) return HAND_BACK;
        if (repeat(f->kernel, s->fields, &s->log)) return -1;
    }
    return CALL_APP;
}

/* begin(): show the headers to each plugin (`_show_request`). */
static PyObject *stream_begin(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    int then = CALL_APP;
    (void)unused;
    if (!may_enter(s->course->filters[0].kernel)) return NULL;
    for (Py_ssize_t i = 0; then == CALL_APP && i < s->course->count; i++) then = show_to(s, i);
    if (then == CALL_APP) {
        s->phase = IDLE;
        if (make_own(s)) then = -1;
    }
    return then < 0 ? NULL : PyLong_FromLong(then);
}

/* call_app(): the app, called; what it gives back is to be awaited. */
static PyObject *stream_call_app(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    (void)unused;
    PyObject *receive = PyObject_GetAttr(self, text.receive), *send = receive ? PyObject_GetAttr(self, text.send) : NULL,
             *result = send ? PyObject_CallFunctionObjArgs(s->course->app, s->own, receive, send, NULL) : NULL;
    Py_XDECREF(receive);
    Py_XDECREF(send);
    return result;
}

/* share(): let middlewares outside read what the app added to its scope (`environment.share_scope`). */
static PyObject *stream_share(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    Py_ssize_t at = 0, there = 0;
    PyObject *key, *value, *other, *added = NULL;
    int same = 1, failed = 0;
    (void)unused;
    /* A copy has the same keys in the same order, and then what was added. */
    while (!failed && s->own && PyDict_Next(s->own, &at, &key, &value)) {
        same = same && PyDict_Next(s->scope, &there, &other, NULL) && key == other;
        if (same || key == text.asgi_wasm) continue;
        int known = PyDict_Contains(s->scope, key);
        if (known > 0 || (PyUnicode_CheckExact(key) && PyUnicode_Compare(key, text.asgi_wasm) == 0)) continue;
        failed = known < 0 || (!added && !(added = PyDict_New())) || PyDict_SetItem(added, key, value);
    }
    if (added && !failed) failed = PyDict_Update(s->scope, added);
    Py_XDECREF(added);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

/* --- the response */

/* The status as bytes, where an app's start message may be shown as it is (`translate.is_ordinary_start`); NULL else. */
static PyObject *ordinary_status(Stream *s, PyObject *message, PyObject **fields) {
    PyObject *status = PyDict_GetItemWithError(message, text.status), *method = PyDict_GetItemWithError(s->scope, text.method),
             *trailers = PyDict_GetItemWithError(message, text.trailers);
    *fields = PyDict_GetItemWithError(message, text.headers);
    if (!status || !PyLong_CheckExact(status) || !*fields || !PyList_CheckExact(*fields) || trailers || !method ||
        !PyUnicode_CheckExact(method) || PyUnicode_Compare(method, text.head) == 0)
        return NULL;
    long code = PyLong_AsLong(status);
    if (code < 200 || code > 599 || code == 204 || code == 304) return NULL;
    int lengths = 0;
    Py_ssize_t count = PyList_Size(*fields);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        char *data, *number;
        Py_ssize_t size, digits;
        if (!pair_of(PyList_GetItem(*fields, i), &name, &value)) return NULL;
        if (PyBytes_AsStringAndSize(name, &data, &size)) return NULL;
        for (Py_ssize_t k = 0; k < size; k++)
            if (data[k] >= 'A' && data[k] <= 'Z') return NULL;
        int meaning = meaning_of(s->course, data, size);
        if (meaning & CODING) return NULL;
        if (meaning & LENGTH) {
            if (lengths++ || PyBytes_AsStringAndSize(value, &number, &digits) || (digits == 1 && *number == '0')) return NULL;
        }
    }
    char shown[3] = {(char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10)};
    return PyBytes_FromStringAndSize(shown, 3);
}

static int respond_to(Stream *s, Py_ssize_t index, PyObject *status, PyObject **fields, int *is_own) {
    filter *f = s->course->filters + index;
    uint32_t id, news;
    headers lent;
    s->index = (int)index;
    s->phase = RESPONSE;
    show_response(status, *fields, &lent);
    if (id_at(s, index, &id)) return -1;
    slot slots[4] = {{.i32 = id}, {.i32 = f->root_id}, {.i32 = (uint32_t)(PyList_Size(*fields) + 1)}, {.i32 = 0}};
    if (cross_lending(f->kernel, NULL, &lent, RESPONSE_CROSSING, slots, 4, &news)) return -1;
    if (!news && !PyList_Size(f->effects)) return CALL_APP;
    if (is_odd(s, f, DELICATE_IN_ANSWER)) return HAND_BACK;
    if (!*is_own) {
        PyObject *own = PyList_GetSlice(*fields, 0, PyList_Size(*fields));
        if (!own) return -1;
        put(fields, own);
        *is_own = 1;
    }
    return repeat(f->kernel, *fields, &s->response_log) ? -1 : CALL_APP;
}

/* The message as plugins left it, a new reference. NULL without an exception: hand back, before any plugin where
 * `s->message` is not set, else after the callback of `s->index`. */
static PyObject *show_start(Stream *s, PyObject *message) {
    Course *c = s->course;
    PyObject *fields, *status = ordinary_status(s, message, &fields), *made = NULL;
    int is_own = 0, then = CALL_APP;
    if (!status) return NULL;
    /* Before anything is done: the app may call from anywhere. */
    if (s->course->filters[0].kernel->call && !may_enter(s->course->filters[0].kernel)) {
        Py_DECREF(status);
        return NULL;
    }
    Py_INCREF(fields);
    put(&s->message, keep(message));
    for (Py_ssize_t i = PyList_Size(s->ids) - 1; then == CALL_APP && i >= 0; i--)
        if (c->filters[i].takes & TAKES_RESPONSE) then = respond_to(s, i, status, &fields, &is_own);
    if (then == CALL_APP) {
        s->phase = IDLE;
        if (!is_own) {
            made = keep(message);
        } else if ((made = PyDict_Copy(message))) {
            PyObject *sent = trimmed(NULL, fields);
            if (!sent || PyDict_SetItem(made, text.headers, sent)) Py_CLEAR(made);
            Py_XDECREF(sent);
        }
        if (made && c->takes & TAKES_LOG) {
            /* The app may change its list later. */
            if (!is_own) put(&fields, PyList_GetSlice(fields, 0, PyList_Size(fields)));
            put(&s->response_fields, keep(fields));
            put(&s->status, keep(status));
            if (!fields) Py_CLEAR(made);
        }
    }
    Py_XDECREF(fields);
    Py_DECREF(status);
    return made;
}

/* show_start(message): see above; None for NULL. */
static PyObject *stream_show_start(PyObject *self, PyObject *message) {
    Stream *s = (Stream *)self;
    PyObject *made = PyDict_CheckExact(message) ? show_start(s, message) : NULL;
    if (made) return made;
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

/* A copy of the start message of an answer that was made before; of its list, too. */
static PyObject *copy_start(PyObject *answer) {
    PyObject *start = PyTuple_GetItem(answer, 0), *made = start ? PyDict_Copy(start) : NULL,
             *fields = made ? PyDict_GetItemWithError(made, text.headers) : NULL,
             *copy = fields ? PyList_GetSlice(fields, 0, PyList_Size(fields)) : NULL;
    if (!copy || PyDict_SetItem(made, text.headers, copy)) Py_CLEAR(made);
    Py_XDECREF(copy);
    return made;
}

static PyObject *make_body(PyObject *content) {
    PyObject *made = PyDict_New();
    if (made && (PyDict_SetItem(made, text.type, text.body_type) || PyDict_SetItem(made, text.body, content) ||
                 PyDict_SetItem(made, text.more_body, Py_False)))
        Py_CLEAR(made);
    return made;
}

/* make_answer(): the two messages, as `Lent._send_answer` sends them. None, and nothing done: it is not straight. */
static PyObject *stream_make_answer(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    (void)unused;
    PyObject *start = copy_start(s->answer), *content = start ? PyTuple_GetItem(s->answer, 1) : NULL, *body = NULL, *made = NULL;
    if (content && !(s->course->takes & TAKES_RESPONSE) && !(s->course->sees & SEES_RESPONSE_BODY)) {
        s->phase = IDLE;
        put(&s->message, keep(start));
        body = make_body(content);
        made = body ? PyTuple_Pack(2, start, body) : NULL;
        if (made) s->bytes_out = PyObject_Size(content);
    }
    Py_XDECREF(start);
    Py_XDECREF(body);
    if (made) return made;
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyObject *send_body(Stream *s, PyObject *message) {
    if (!s->complete) {
        PyObject *body = PyDict_GetItemWithError(message, text.body), *more = PyDict_GetItemWithError(message, text.more_body);
        if (PyErr_Occurred()) return NULL;
        Py_ssize_t size = body ? PyObject_Size(body) : 0;
        int goes_on = more ? PyObject_IsTrue(more) : 0;
        if (size < 0 || goes_on < 0) return NULL;
        if (!goes_on && !is_here(s->course->filters[0].kernel)) return NULL;
        s->bytes_out += size;
        s->complete = !goes_on;
        /* The stream is over when its response is: what the app does afterwards is nothing to plugins. */
        if (!goes_on) return PyObject_CallMethodObjArgs((PyObject *)s, text.send_last, message, NULL);
    }
    return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
}

static int is_text(PyObject *object, PyObject *wanted) {
    return object == wanted || (object && PyUnicode_CheckExact(object) && PyUnicode_Compare(object, wanted) == 0);
}

/* After a callback that failed, or did what is Python's affair. */
static PyObject *answer_without_kernel(Stream *s, PyObject *message) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)s, text.answer_without_kernel, message,
                                                  value ? value : Py_None, NULL);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return result;
}

/* send(message): the app's `send`; gives back an awaitable. */
static PyObject *stream_send(PyObject *self, PyObject *message) {
    Stream *s = (Stream *)self;
    Course *c = s->course;
    if (s->request) return PyObject_CallMethodObjArgs(s->request, text.send, message, NULL);
    if (!PyDict_CheckExact(message)) return PyObject_CallMethodObjArgs(self, text.send_portably, message, NULL);
    PyObject *type = PyDict_GetItemWithError(message, text.type);
    if (!type && PyErr_Occurred()) return NULL;
    if (s->message && is_text(type, text.body_type) && !(c->sees & SEES_RESPONSE_BODY)) return send_body(s, message);
    if (s->message || !is_text(type, text.start) || c->sees & SEES_RESPONSE_BODY)
        return PyObject_CallMethodObjArgs(self, text.send_portably, message, NULL);
    if (!(c->sees & SEES_RESPONSE)) {
        if (PyDict_GetItemWithError(message, text.trailers)) return PyObject_CallMethodObjArgs(self, text.send_portably, message, NULL);
        put(&s->message, keep(message));
        return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    }
    PyObject *changed = show_start(s, message);
    if (!changed) {
        if (s->message) return answer_without_kernel(s, message);
        if (PyErr_Occurred()) return NULL;
        return PyObject_CallMethodObjArgs(self, text.send_portably, message, NULL);
    }
    PyObject *result = PyObject_CallFunctionObjArgs(s->server_send, changed, NULL);
    Py_DECREF(changed);
    return result;
}

/* --- the end */

/* What logs may read of a response that no plugin has seen. */
static int show_unseen(Stream *s) {
    if (s->response_fields || !s->message || !(s->course->takes & TAKES_LOG)) return 0;
    PyObject *pairs = PyObject_CallFunctionObjArgs(s->course->pairs, s->message, NULL);
    if (!pairs && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        /* It cannot be shown; who asks for it is told so by Python. */
        PyErr_Clear();
        return 0;
    }
    PyObject *status = pairs ? PyObject_GetItem(s->message, text.status) : NULL;
    long code = status ? PyLong_AsLong(status) : 0;
    Py_XDECREF(status);
    if (pairs && PyList_Check(pairs) && !PyErr_Occurred()) {
        put(&s->response_fields, keep(pairs));
        put(&s->status, PyBytes_FromFormat("%ld", code));
    }
    Py_XDECREF(pairs);
    return PyErr_Occurred() || !s->status ? -1 : 0;
}

/* One crossing at the end: `CALL_APP` when there is nothing for Python to look at. */
static int end_at(Stream *s, Py_ssize_t index, int phase, int which, int with_message) {
    filter *f = s->course->filters + index;
    uint32_t id, news;
    headers request, response;
    s->index = (int)index;
    s->phase = phase;
    show_request(s, &request);
    show_response(s->status, s->response_fields, &response);
    if (id_at(s, index, &id)) return -1;
    slot slots[3] = {{.i32 = id}, {.i32 = f->root_id}, {.i32 = s->message != NULL}};
    if (cross_lending(f->kernel, &request, s->response_fields ? &response : NULL, which, slots, with_message ? 3 : 2, &news))
        return -1;
    if (news) return HAND_BACK;
    s->phase = IDLE;
    if (PyList_Size(f->effects)) {
        PyObject *done = PyObject_CallMethodObjArgs(f->vm, text.perform, NULL);
        if (!done) return -1;
        Py_DECREF(done);
    }
    return CALL_APP;
}

static int forget(Stream *s, Py_ssize_t index) {
    PyObject *id = PyList_GetItem(s->ids, index);
    if (!id) return -1;
    int known = PyDict_Contains(s->course->filters[index].lent, id);
    return known > 0 ? PyDict_DelItem(s->course->filters[index].lent, id) : known;
}

/* end(): log for every plugin, then done and delete for each, in the order of the request (`LentRequest.finish`). */
static PyObject *stream_end(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    Course *c = s->course;
    Py_ssize_t count = PyList_Size(s->ids);
    int then = CALL_APP;
    (void)unused;
    if (s->request) return PyLong_FromLong(GONE);
    if (s->over) return PyLong_FromLong(CALL_APP);
    s->over = 1;
    if (show_unseen(s)) return NULL;
    if (c->count == 1 && count == 1 && c->takes & TAKES_LOG) {
        then = end_at(s, 0, LOG, END_CROSSING, 1);
        if (then == CALL_APP && forget(s, 0)) then = -1;
    } else {
        for (Py_ssize_t i = 0; then == CALL_APP && i < count; i++)
            if (c->filters[i].takes & TAKES_LOG) then = end_at(s, i, LOG, LOG_CROSSING, 1);
        for (Py_ssize_t i = 0; then == CALL_APP && i < count; i++) {
            if (c->filters[i].takes & TAKES_END) then = end_at(s, i, FINISH, FINISH_CROSSING, 0);
            if (then == CALL_APP && forget(s, i)) then = -1;
        }
    }
    return then < 0 ? NULL : PyLong_FromLong(then);
}

/* close(): what follows on the app's end. */
static PyObject *stream_close(PyObject *self, PyObject *unused) {
    Stream *s = (Stream *)self;
    if (s->own && !s->request) {
        PyObject *done = stream_share(self, unused);
        if (!done) return NULL;
        Py_DECREF(done);
    }
    return stream_end(self, unused);
}

/* --- the type */

#define REFERENCES(DO) \
    DO(s->lane) DO(s->posts) DO(s->scope) DO(s->own) DO(s->server_receive) DO(s->server_send) DO(s->ids) DO(s->log) \
    DO(s->response_log) DO(s->message) DO(s->held) DO(s->first) DO(s->answer) DO(s->request) DO(s->properties) DO(s->verdict) DO(s->shown) \
    DO(s->shown_response) DO(s->fields) DO(s->response_fields) DO(s->pseudo[0]) DO(s->pseudo[1]) DO(s->pseudo[2]) \
    DO(s->pseudo[3]) DO(s->status) DO(s->host_field)

static int stream_traverse(PyObject *self, visitproc visit, void *arg) {
    Stream *s = (Stream *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)s->course);
#define VISIT(field) Py_VISIT(field);
    REFERENCES(VISIT)
    return 0;
}

static int stream_clear(PyObject *self) {
    Stream *s = (Stream *)self;
    /* The rest is what its methods count on; a cycle leads by one of these. */
    Py_CLEAR(s->request);
    Py_CLEAR(s->own);
    Py_CLEAR(s->server_receive);
    Py_CLEAR(s->message);
    return 0;
}

static void stream_dealloc(PyObject *self) {
    Stream *s = (Stream *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
#define CLEAR(field) Py_CLEAR(field);
    REFERENCES(CLEAR)
    Py_CLEAR(s->course);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

#define OBJECT(name) {#name, T_OBJECT, offsetof(Stream, name), 0, NULL}
#define FIXED(name) {#name, T_OBJECT, offsetof(Stream, name), READONLY, NULL}
#define FLAG(name) {#name, T_BOOL, offsetof(Stream, name), 0, NULL}
#define WIDE(name) {#name, T_LONGLONG, offsetof(Stream, name), 0, NULL}
static PyMemberDef members[] = {
    FIXED(lane), FIXED(posts), FIXED(scope), OBJECT(own), FIXED(server_receive), FIXED(server_send), FIXED(ids),
    OBJECT(log), OBJECT(response_log), OBJECT(message), OBJECT(held), OBJECT(first), OBJECT(answer), OBJECT(request), FIXED(properties),
    OBJECT(verdict), OBJECT(shown), OBJECT(shown_response), WIDE(began), WIDE(bytes_out), WIDE(request_size),
    {"phase", T_INT, offsetof(Stream, phase), 0, NULL}, {"index", T_INT, offsetof(Stream, index), 0, NULL},
    FLAG(client_gone), FLAG(app_is_reading), FLAG(complete), FLAG(over), FLAG(ends), FLAG(client_ended), {NULL, 0, 0, 0, NULL}};
static PyMethodDef methods[] = {{"begin", stream_begin, METH_NOARGS, NULL},
                                {"call_app", stream_call_app, METH_NOARGS, NULL},
                                {"make_answer", stream_make_answer, METH_NOARGS, NULL},
                                {"close", stream_close, METH_NOARGS, NULL},
                                {"share", stream_share, METH_NOARGS, NULL},
                                {"show_start", stream_show_start, METH_O, NULL},
                                {"send", stream_send, METH_O, NULL},
                                {"end", stream_end, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

/* Only a Course makes them. */
static PyObject *refuse(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)arguments;
    (void)keywords;
    PyErr_Format(PyExc_TypeError, "%R is made by Course.open", type);
    return NULL;
}

static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_traverse, (void *)stream_traverse},
                              {Py_tp_clear, (void *)stream_clear},
                              {Py_tp_dealloc, (void *)stream_dealloc},
                              {Py_tp_new, (void *)refuse},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Stream", sizeof(Stream), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_stream_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

#include "accelerator.h"

#include <string.h>

/* --- crossings */

/* What of this request a callback may be lent. */
static void show_request(const Stream *s, headers *lent) {
    lent->pseudos = MOST_PSEUDO;
    for (int i = 0; i < MOST_PSEUDO; i++) {
        lent->names[i] = text.pseudo[i];
        lent->values[i] = s->pseudo[i];
    }
    lent->fields = s->fields;
}

static void show_status(PyObject *status, PyObject *fields, headers *lent) {
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
    if (number) s->ids[s->opened++] = *id;
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
    PyObject *all = PyDict_GetItemWithError(s->scope, text.headers), *made = all ? PyList_New(1) : NULL;
    if (!made) return NULL;
    int failed = PyList_SetItem(made, 0, keep(s->host_field));
    Py_ssize_t count = s->keeps_fields ? PyList_Size(all) : 0;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        PyObject *pair = PyList_GetItem(all, i), *name, *value;
        char *data;
        Py_ssize_t size;
        if (!pair_of(pair, &name, &value) || PyBytes_AsStringAndSize(name, &data, &size)) continue;
        int meaning = meaning_of(s->course, data, size);
        if ((meaning & (HIDDEN | HOST)) == HIDDEN) failed = PyList_Append(made, pair);
    }
    Py_ssize_t end = PyList_Size(made);
    if (failed || PyList_SetSlice(made, end, end, s->fields)) Py_CLEAR(made);
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
    return repeat(f->kernel, s->fields) ? -1 : CALL_APP;
}

/* Shows the headers to each plugin (`LentRequest._show_request`). -1 with an exception. */
static int begin(Stream *s) {
    int then = CALL_APP, is_untrimmed = 0;
    if (!may_enter(s->course->filters[0].kernel)) return -1;
    for (Py_ssize_t i = 0; then == CALL_APP && i < s->course->count; i++) then = show_to(s, i, &is_untrimmed);
    if (then == CALL_APP) {
        s->phase = IDLE;
        if (make_own(s, is_untrimmed)) then = -1;
    }
    return then;
}

static PyObject *call_app(Stream *s) {
    PyObject *receive = PyObject_GetAttr((PyObject *)s, text.app_receive), *send = receive ? app_send_of(s) : NULL,
             *result = send ? PyObject_CallFunctionObjArgs(s->course->app, s->own, receive, send, NULL) : NULL;
    Py_XDECREF(receive);
    Py_XDECREF(send);
    return result;
}

/* Lets middlewares outside read what the app added to its scope (`environment.share_scope`). What is added to a
 * dictionary comes at its end, behind what was added for the app. */
static int share(Stream *s) {
    Py_ssize_t at = 0;
    PyObject *key, *value, *added = NULL;
    int is_behind = PyDict_Size(s->own) > PyDict_Size(s->scope) + 1, failed = 0;
    while (!failed && PyDict_Next(s->own, &at, &key, &value)) {
        if (key == text.asgi_wasm) {
            is_behind = 1;
            continue;
        }
        if (!is_behind) continue;
        int known = PyDict_Contains(s->scope, key);
        if (known > 0 || is_text(key, text.asgi_wasm)) continue;
        /* Code of Python's, which may change what is gone through here, runs for other keys than strings alone. */
        if (known == 0 && PyUnicode_CheckExact(key)) failed = PyDict_SetItem(s->scope, key, value);
        else failed = known < 0 || (!added && !(added = PyDict_New())) || PyDict_SetItem(added, key, value);
    }
    if (added && !failed) failed = PyDict_Update(s->scope, added);
    Py_XDECREF(added);
    return failed ? -1 : 0;
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
    if (repeat(f->kernel, *fields)) return -1;
    put(&s->response_fields, keep(*fields));
    return CALL_APP;
}

int show_response(Stream *s, PyObject **fields) {
    Course *c = s->course;
    int then = CALL_APP, is_untrimmed = 0;
    for (Py_ssize_t i = s->opened - 1; then == CALL_APP && i >= 0; i--)
        if (c->filters[i].takes & TAKES_RESPONSE) then = respond_to(s, i, fields, &is_untrimmed);
    if (then != CALL_APP) return then;
    s->phase = IDLE;
    if (c->takes & TAKES_LOG || is_untrimmed) {
        /* The app, or the server, may change its list later. */
        PyObject *copy = PyList_GetSlice(*fields, 0, PyList_Size(*fields));
        if (!copy) return -1;
        put(&s->response_fields, s->response_changed ? keep(*fields) : copy);
        if (s->response_changed) put(fields, copy);
        if (is_untrimmed && trim(*fields)) return -1;
    }
    return CALL_APP;
}

int show_piece(Stream *s, PyObject *data, int ends) {
    Course *c = s->course;
    for (Py_ssize_t i = s->opened - 1; i >= 0; i--) {
        filter *f = c->filters + i;
        uint32_t news;
        if (!(f->takes & TAKES_RESPONSE_BODY)) continue;
        s->index = (int)i;
        s->phase = BODY;
        slot slots[4] = {{.i32 = s->ids[i]}, {.i32 = f->root_id}, {.i32 = (uint32_t)PyBytes_Size(data)}, {.i32 = (uint32_t)ends}};
        keep_piece(f->kernel, data);
        if (cross(f->kernel, NULL, NULL, RESPONSE_BODY_CROSSING, slots, 4, &news)) return -1;
        if (news || PyList_Size(f->effects)) return HAND_BACK;
        keep_piece(f->kernel, NULL);
    }
    s->phase = IDLE;
    return CALL_APP;
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
    uint32_t news;
    headers request, response;
    s->index = (int)index;
    s->phase = phase;
    show_request(s, &request);
    show_status(s->status, s->response_fields, &response);
    slot slots[3] = {{.i32 = s->ids[index]}, {.i32 = f->root_id}, {.i32 = s->message != NULL}};
    if (cross(f->kernel, &request, s->response_fields ? &response : NULL, which, slots, with_message ? 3 : 2, &news)) return -1;
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
    PyObject *id = PyLong_FromUnsignedLong(s->ids[index]);
    int failed = !id || PyDict_DelItem(s->course->filters[index].lent, id);
    Py_XDECREF(id);
    if (failed && !PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
    PyErr_Clear();
    return 0;
}

/* Log for every plugin, then done and delete for each, in the order of the request (`Lent.finish`). -1 with an exception. */
int end_stream(Stream *s) {
    Course *c = s->course;
    int then = CALL_APP;
    if (s->request) return GONE;
    if (s->over) return CALL_APP;
    s->over = 1;
    if (show_unseen(s)) return -1;
    if (c->count == 1 && s->opened == 1 && c->takes & TAKES_LOG) {
        then = end_at(s, 0, LOG, END_CROSSING, 1);
        return then == CALL_APP && forget(s, 0) ? -1 : then;
    }
    for (Py_ssize_t i = 0; then == CALL_APP && i < s->opened; i++)
        if (c->filters[i].takes & TAKES_LOG) then = end_at(s, i, LOG, LOG_CROSSING, 1);
    for (Py_ssize_t i = 0; then == CALL_APP && i < s->opened; i++) {
        if (c->filters[i].takes & TAKES_END) then = end_at(s, i, FINISH, FINISH_CROSSING, 0);
        if (then == CALL_APP && forget(s, i)) then = -1;
    }
    return then;
}

/* end(): the same, for Python. */
static PyObject *stream_end(PyObject *self, PyObject *unused) {
    (void)unused;
    int then = end_stream((Stream *)self);
    return then < 0 ? NULL : PyLong_FromLong(then);
}

/* --- the whole of it, step by step: what is awaited */

enum { LOOKING = STEPS, IN_APP, SENDING_START, SENDING_BODY, IN_PYTHON };

/* A coroutine of Python's goes on: self.name(then, error), either of which may be None. */
static int in_python(Stream *s, PyObject *name, int then, PyObject *error) {
    PyObject *number = then < 0 ? keep(Py_None) : PyLong_FromLong(then);
    PyObject *coroutine = number ? PyObject_CallMethodObjArgs((PyObject *)s, name, number, error ? error : Py_None, NULL) : NULL;
    Py_XDECREF(number);
    return await_next(&s->awaits, coroutine, IN_PYTHON) ? 1 : -1;
}

static int in_python_after_error(Stream *s, PyObject *name) {
    PyObject *error = take_error();
    int more = in_python(s, name, -1, error);
    Py_XDECREF(error);
    return more;
}

static int send_part(Stream *s, PyObject *message, char step) {
    PyObject *sending = PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    return await_next(&s->awaits, sending, step) ? 1 : in_python_after_error(s, text.answer_raised);
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

PyObject *make_body(PyObject *content) {
    PyObject *made = PyDict_New();
    if (made && (PyDict_SetItem(made, text.type, text.body_type) || PyDict_SetItem(made, text.body, content) ||
                 PyDict_SetItem(made, text.more_body, Py_False)))
        Py_CLEAR(made);
    return made;
}

/* After a callback for an answer that was not straight: -1 for an exception. */
static int answer_otherwise(Stream *s, PyObject *name, int then) {
    return then < 0 ? in_python_after_error(s, name) : in_python(s, name, then, NULL);
}

/* Sends the answer that was found, as `Lent._send_answer` does. */
static int send_answer(Stream *s) {
    PyObject *start = copy_start(s->answer), *content = start ? PyTuple_GetItem(s->answer, 1) : NULL,
             *status = content ? PyDict_GetItemWithError(start, text.status) : NULL,
             *fields = status ? PyDict_GetItemWithError(start, text.headers) : NULL;
    long code = fields ? PyLong_AsLong(status) : 0;
    s->phase = IDLE;
    put(&s->message, start);
    put(&s->body, fields ? make_body(content) : NULL);
    if (!s->body) return in_python_after_error(s, text.answer_raised);
    if (s->course->sees & SEES_RESPONSE) {
        put(&s->status, PyBytes_FromFormat("%ld", code));
        Py_INCREF(fields);
        int then = s->status ? show_response(s, &fields) : -1;
        /* It is our own; what plugins are shown later is another list. */
        if (then == CALL_APP && s->response_changed) {
            start = PyDict_Copy(start);
            if (!start || PyDict_SetItem(start, text.headers, fields)) Py_CLEAR(start);
            if (!start) then = -1;
        } else {
            Py_INCREF(start);
        }
        Py_XDECREF(fields);
        if (then != CALL_APP) {
            Py_XDECREF(start);
            return answer_otherwise(s, text.answer_otherwise, then);
        }
    } else {
        Py_INCREF(start);
    }
    if (s->course->sees & SEES_RESPONSE_BODY) {
        put(&s->held, keep(start));
        int then = show_piece(s, content, 1);
        if (then != CALL_APP) {
            Py_DECREF(start);
            return answer_otherwise(s, text.answer_piece_otherwise, then);
        }
        put(&s->held, NULL);
    }
    s->bytes_out = PyBytes_Size(content);
    int more = send_part(s, start, SENDING_START);
    Py_DECREF(start);
    return more;
}

static int serve(Stream *s) {
    int then = begin(s);
    if (then < 0) return in_python_after_error(s, text.begin_otherwise);
    if (then == SEND_ANSWER) return send_answer(s);
    if (then != CALL_APP) return in_python(s, text.begin_otherwise, then, NULL);
    return await_next(&s->awaits, call_app(s), IN_APP) ? 1 : in_python_after_error(s, text.app_raised);
}

/* Whether a client's message says that a request has no body. */
static int is_end(PyObject *message) {
    if (!PyDict_CheckExact(message) || !is_text(PyDict_GetItemWithError(message, text.type), text.request_type)) return 0;
    PyObject *body = PyDict_GetItemWithError(message, text.body), *more = PyDict_GetItemWithError(message, text.more_body);
    return (!body || (PyBytes_CheckExact(body) && !PyBytes_Size(body))) && (!more || more == Py_False);
}

/* After the client's first message (`asgi.first`). */
static int look(Stream *s, PyObject *message) {
    if (!message) return -1;
    if (is_end(message)) {
        put(&s->first, keep(message));
        return serve(s);
    }
    PyErr_Clear();
    PyObject *served = PyObject_CallFunctionObjArgs(s->course->looked, s->scope, s->server_receive, s->server_send, message, NULL);
    return await_next(&s->awaits, served, IN_PYTHON) ? 1 : -1;
}

static int start(Stream *s) {
    if (!s->looks) return serve(s);
    return await_next(&s->awaits, PyObject_CallObject(s->server_receive, NULL), LOOKING) ? 1 : -1;
}

static int conclude(Stream *s) {
    int then = s->own && !s->request && share(s) ? -1 : end_stream(s);
    if (then == CALL_APP) return 0;
    return then < 0 ? in_python_after_error(s, text.close_otherwise) : in_python(s, text.close_otherwise, then, NULL);
}

static int next(PyObject *self, PyObject *result, PyObject *error) {
    Stream *s = (Stream *)self;
    switch (s->awaits.step) {
        case FRESH: return start(s);
        case LOOKING:
            if (error) raise_again(error);
            return look(s, result);
        case IN_APP: return error ? in_python(s, text.app_raised, -1, error) : conclude(s);
        case SENDING_START:
            return error ? in_python(s, text.answer_raised, -1, error) : send_part(s, s->body, SENDING_BODY);
        case SENDING_BODY: return error ? in_python(s, text.answer_raised, -1, error) : conclude(s);
        default:
            if (error) raise_again(error);
            return error ? -1 : 0;
    }
}

static PyObject *stream_iter(PyObject *self) { return keep(self); }
static PyObject *stream_iternext(PyObject *self) { return awaiting_next(self, &((Stream *)self)->awaits, next); }
static PySendResult stream_am_send(PyObject *self, PyObject *value, PyObject **result) {
    return go_on(self, &((Stream *)self)->awaits, next, value, result);
}
static PyObject *stream_go_on(PyObject *self, PyObject *value) {
    return awaiting_send(self, &((Stream *)self)->awaits, next, value);
}
static PyObject *stream_throw(PyObject *self, PyObject *arguments) {
    return awaiting_throw(self, &((Stream *)self)->awaits, next, arguments);
}
static PyObject *stream_close(PyObject *self, PyObject *unused) {
    (void)unused;
    return awaiting_close(self, &((Stream *)self)->awaits, next);
}

/* --- the type */

#define REFERENCES(DO) \
    DO(s->awaits.inner) DO(s->scope) DO(s->own) DO(s->server_receive) DO(s->server_send) DO(s->message) DO(s->held) DO(s->first) \
    DO(s->answer) DO(s->request) DO(s->properties) DO(s->verdict) DO(s->fields) DO(s->response_fields) DO(s->pseudo[0]) \
    DO(s->pseudo[1]) DO(s->pseudo[2]) DO(s->pseudo[3]) DO(s->status) DO(s->host_field) DO(s->body)

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
    Py_CLEAR(s->awaits.inner);
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
    if (s->ids != s->few) PyMem_Free(s->ids);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *stream_lane(PyObject *self, void *unused) {
    (void)unused;
    PyObject *lane = ((Stream *)self)->course->lane;
    return keep(lane ? lane : Py_None);
}

static PyObject *stream_posts(PyObject *self, void *unused) {
    (void)unused;
    return keep(((Stream *)self)->course->posts);
}

static PyObject *stream_ids(PyObject *self, void *unused) {
    Stream *s = (Stream *)self;
    PyObject *made = PyList_New(0);
    (void)unused;
    for (int i = 0; made && i < s->opened; i++) {
        PyObject *id = PyLong_FromUnsignedLong(s->ids[i]);
        if (!id || PyList_Append(made, id)) Py_CLEAR(made);
        Py_XDECREF(id);
    }
    return made;
}

static PyObject *stream_pseudo(PyObject *self, void *unused) {
    Stream *s = (Stream *)self;
    PyObject *made = PyList_New(2 * MOST_PSEUDO);
    (void)unused;
    for (int i = 0; made && i < MOST_PSEUDO; i++)
        if (PyList_SetItem(made, 2 * i, keep(text.pseudo[i])) || PyList_SetItem(made, 2 * i + 1, keep(s->pseudo[i])))
            Py_CLEAR(made);
    return made;
}

#define OBJECT(name) {#name, T_OBJECT, offsetof(Stream, name), 0, NULL}
#define FIXED(name) {#name, T_OBJECT, offsetof(Stream, name), READONLY, NULL}
#define FLAG(name) {#name, T_BOOL, offsetof(Stream, name), 0, NULL}
#define WIDE(name) {#name, T_LONGLONG, offsetof(Stream, name), 0, NULL}
static PyMemberDef members[] = {
    FIXED(scope), OBJECT(own), FIXED(server_receive), FIXED(server_send), FIXED(fields), OBJECT(response_fields), OBJECT(status),
    OBJECT(message), OBJECT(held), OBJECT(first), OBJECT(answer), OBJECT(request), FIXED(properties), OBJECT(verdict), WIDE(began),
    WIDE(bytes_out), WIDE(request_size), {"phase", T_INT, offsetof(Stream, phase), 0, NULL},
    {"index", T_INT, offsetof(Stream, index), 0, NULL}, FLAG(client_gone), FLAG(app_is_reading), FLAG(complete), FLAG(drops_body), FLAG(over),
    FLAG(ends), FLAG(client_ended), FLAG(changed), FLAG(response_changed), {NULL, 0, 0, 0, NULL}};
static PyGetSetDef getters[] = {{"lane", stream_lane, NULL, NULL, NULL},
                                {"posts", stream_posts, NULL, NULL, NULL},
                                {"ids", stream_ids, NULL, NULL, NULL},
                                {"pseudo", stream_pseudo, NULL, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};
/* `send`, `throw` and `close` are a coroutine's; `app_send` is what the app gets. */
static PyMethodDef methods[] = {{"send", stream_go_on, METH_O, NULL},
                                {"throw", stream_throw, METH_VARARGS, NULL},
                                {"close", stream_close, METH_NOARGS, NULL},
                                {"app_send", stream_send, METH_O, NULL},
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
                              {Py_tp_getset, getters},
                              {Py_tp_traverse, (void *)stream_traverse},
                              {Py_tp_clear, (void *)stream_clear},
                              {Py_tp_dealloc, (void *)stream_dealloc},
                              {Py_tp_new, (void *)refuse},
                              {Py_am_await, (void *)stream_iter},
                              {Py_am_send, (void *)stream_am_send},
                              {Py_tp_iter, (void *)stream_iter},
                              {Py_tp_iternext, (void *)stream_iternext},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Stream", sizeof(Stream), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_stream_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

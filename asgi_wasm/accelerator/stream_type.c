#include "accelerator.h"

/* The type of requests, of which Python makes a subclass. */

static PyObject *stream_iter(PyObject *self) { return keep(self); }
static PyObject *stream_iternext(PyObject *self) { return awaiting_next(self, &((Stream *)self)->awaits, stream_next); }
static PySendResult stream_am_send(PyObject *self, PyObject *value, PyObject **result) {
    return go_on(self, &((Stream *)self)->awaits, stream_next, value, result);
}
static PyObject *stream_go_on(PyObject *self, PyObject *value) {
    return awaiting_send(self, &((Stream *)self)->awaits, stream_next, value);
}
static PyObject *stream_throw(PyObject *self, PyObject *arguments) {
    return awaiting_throw(self, &((Stream *)self)->awaits, stream_next, arguments);
}
static PyObject *stream_close(PyObject *self, PyObject *unused) {
    (void)unused;
    return awaiting_close(self, &((Stream *)self)->awaits, stream_next);
}

/* end(): ends the streams, for Python. */
static PyObject *stream_end(PyObject *self, PyObject *unused) {
    (void)unused;
    int then = end_stream((Stream *)self);
    return then < 0 ? NULL : PyLong_FromLong(then);
}


#define REFERENCES(DO) \
    DO(s->awaits.inner) DO(s->scope) DO(s->own) DO(s->server_receive) DO(s->server_send) DO(s->message) DO(s->held) DO(s->first) \
    DO(s->answer) DO(s->request) DO(s->properties) DO(s->verdict) DO(s->fields) DO(s->response_fields) DO(s->pseudo[0]) \
    DO(s->pseudo[1]) DO(s->pseudo[2]) DO(s->pseudo[3]) DO(s->status) DO(s->host_field) DO(s->body) DO(s->keys[0]) \
    DO(s->keys[1]) DO(s->keys[2]) DO(s->keys[3])

static int stream_traverse(PyObject *self, visitproc visit, void *arg) {
    Stream *s = (Stream *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)s->course);
#define VISIT(field) Py_VISIT(field);
    REFERENCES(VISIT)
    if (s->is_upload) {
        Py_VISIT(((Upload *)s)->unread);
        Py_VISIT(((Upload *)s)->reading);
        Py_VISIT(((Upload *)s)->odd);
        Py_VISIT(((Upload *)s)->way);
    }
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
    if (s->is_upload) Py_CLEAR(((Upload *)s)->reading);
    return 0;
}

static void stream_dealloc(PyObject *self) {
    Stream *s = (Stream *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
#define CLEAR(field) Py_CLEAR(field);
    REFERENCES(CLEAR)
    if (s->is_upload) clear_upload((Upload *)s);
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

/* What a class in Python would not take over from its base (`am_send`), or would only call. */
static PyType_Slot request_slots[] = {{Py_tp_traverse, (void *)stream_traverse},
                                      {Py_tp_clear, (void *)stream_clear},
                                      {Py_tp_dealloc, (void *)stream_dealloc},
                                      {Py_am_await, (void *)stream_iter},
                                      {Py_am_send, (void *)stream_am_send},
                                      {0, NULL}};
static PyType_Spec request_spec = {"asgi_wasm.asgi.lane.native.NativeRequest", sizeof(Stream), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, request_slots};

PyObject *request_type(PyObject *module, PyObject *base) {
    PyObject *bases = PyTuple_Pack(2, (PyObject *)stream_type, base), *made;
    (void)module;
    made = bases ? PyType_FromSpecWithBases(&request_spec, bases) : NULL;
    Py_XDECREF(bases);
    return made;
}

PyTypeObject *make_stream_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

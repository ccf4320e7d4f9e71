#include "accelerator.h"

/* --- the app's receive: an awaitable */

typedef struct {
    PyObject_HEAD
    awaiting awaits;
    Stream *stream;
} Receiving;
enum { HEARING = STEPS, PASSING };

/* What Python's coroutine gives is the app's. */
static int pass(Receiving *r, PyObject *awaitable) { return await_next(&r->awaits, awaitable, PASSING) ? 1 : -1; }

static int give(Receiving *r, PyObject *message) {
    r->awaits.result = message;
    return 0;
}

/* After the app's call has ended without a message. */
static int heard_nothing(Stream *s, PyObject *error) {
    s->app_is_reading = 0;
    PyObject *told = s->request ? PyObject_CallMethodObjArgs(s->request, text.heard_nothing, NULL) : keep(Py_None);
    Py_XDECREF(told);
    if (told) raise_again(error);
    return -1;
}

static int ask_python(Receiving *r) {
    return pass(r, PyObject_CallMethodObjArgs((PyObject *)r->stream, text.app_receive, NULL));
}

static int ask_server(Receiving *r) {
    Stream *s = r->stream;
    s->app_is_reading = 1;
    if (await_next(&r->awaits, PyObject_CallObject(s->server_receive, NULL), HEARING)) return 1;
    PyObject *error = take_error();
    int failed = heard_nothing(s, error);
    Py_XDECREF(error);
    return failed;
}

static int ask(Receiving *r) {
    Stream *s = r->stream;
    Upload *u = (Upload *)s;
    if (s->request) return pass(r, PyObject_CallMethodObjArgs(s->request, text.receive, NULL));
    if (!s->is_upload) {
        int is_other = (s->first && s->first != Py_None) || s->course->sees & SEES_REQUEST_BODY || !s->server_receive;
        return is_other ? ask_python(r) : ask_server(r);
    }
    if (u->unread && PyList_Size(u->unread)) {
        PyObject *message = keep(PyList_GetItem(u->unread, 0));
        if (!message || PyList_SetSlice(u->unread, 0, 1, NULL)) {
            Py_XDECREF(message);
            return -1;
        }
        return give(r, message);
    }
    if (s->client_ended || s->over || s->app_is_reading || is_reading(s) || s->client_gone || !s->server_receive)
        return ask_python(r);
    return ask_server(r);
}

/* What the client says of a body that no plugin looks at: 0 with an exception. */
static int hear_unread(Stream *s, PyObject *message) {
    int is_dict = PyDict_CheckExact(message);
    PyObject *type = is_dict ? PyDict_GetItemWithError(message, text.type) : NULL,
             *data = type ? PyDict_GetItemWithError(message, text.body) : NULL,
             *more = type ? PyDict_GetItemWithError(message, text.more_body) : NULL;
    if (PyErr_Occurred()) return 0;
    if (!type || (data && !PyBytes_CheckExact(data)) || (more && !PyBool_Check(more)) || !is_text(type, text.request_type)) {
        PyObject *told = PyObject_CallMethodObjArgs((PyObject *)s, text.hear_unread, message, NULL);
        Py_XDECREF(told);
        return told != NULL;
    }
    if (s->client_ended) return 1;
    s->client_ended = more != Py_True;
    s->request_size += data ? PyBytes_Size(data) : 0;
    return 1;
}

static int heard(Receiving *r, PyObject *message) {
    Stream *s = r->stream;
    Upload *u = (Upload *)s;
    s->app_is_reading = 0;
    if (s->request) return pass(r, PyObject_CallMethodObjArgs(s->request, text.heard, message, NULL));
    if (!s->is_upload) return hear_unread(s, message) ? give(r, keep(message)) : -1;
    PyObject *shown = hear(s, message);
    if (shown) return give(r, shown);
    if (PyErr_Occurred()) return -1;
    if (!s->request) return ask(r);
    return pass(r, PyObject_CallMethodObjArgs(s->request, text.heard, u->odd, u->way ? u->way : Py_None, NULL));
}

static int next(PyObject *self, PyObject *result, PyObject *error) {
    Receiving *r = (Receiving *)self;
    switch (r->awaits.step) {
        case FRESH: return ask(r);
        case HEARING: return error ? heard_nothing(r->stream, error) : heard(r, result);
        default:
            if (error) raise_again(error);
            return error ? -1 : give(r, keep(result));
    }
}

static PyObject *receiving_iter(PyObject *self) { return keep(self); }
static PyObject *receiving_iternext(PyObject *self) { return awaiting_next(self, &((Receiving *)self)->awaits, next); }
static PySendResult receiving_am_send(PyObject *self, PyObject *value, PyObject **result) {
    return go_on(self, &((Receiving *)self)->awaits, next, value, result);
}
static PyObject *receiving_go_on(PyObject *self, PyObject *value) {
    return awaiting_send(self, &((Receiving *)self)->awaits, next, value);
}
static PyObject *receiving_throw(PyObject *self, PyObject *arguments) {
    return awaiting_throw(self, &((Receiving *)self)->awaits, next, arguments);
}
static PyObject *receiving_close(PyObject *self, PyObject *unused) {
    (void)unused;
    return awaiting_close(self, &((Receiving *)self)->awaits, next);
}

static int receiving_traverse(PyObject *self, visitproc visit, void *arg) {
    Receiving *r = (Receiving *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->awaits.inner);
    Py_VISIT(r->awaits.result);
    Py_VISIT((PyObject *)r->stream);
    return 0;
}

static int receiving_clear(PyObject *self) {
    Py_CLEAR(((Receiving *)self)->awaits.inner);
    Py_CLEAR(((Receiving *)self)->awaits.result);
    return 0;
}

static void receiving_dealloc(PyObject *self) {
    Receiving *r = (Receiving *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* Whoever awaited it has gone without a word. */
    if (r->awaits.step == HEARING) r->stream->app_is_reading = 0;
    receiving_clear(self);
    Py_CLEAR(r->stream);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *app_receive(PyObject *self, PyObject *unused) {
    Receiving *made = (Receiving *)((allocfunc)PyType_GetSlot(receiving_type, Py_tp_alloc))(receiving_type, 0);
    (void)unused;
    if (made) made->stream = (Stream *)keep(self);
    return (PyObject *)made;
}

static PyMethodDef app_receive_method = {"receive", app_receive, METH_NOARGS, NULL};

PyObject *app_receive_of(Stream *s) { return PyCFunction_New(&app_receive_method, (PyObject *)s); }

/* --- the types */

static PyMethodDef receiving_methods[] = {{"send", receiving_go_on, METH_O, NULL},
                                          {"throw", receiving_throw, METH_VARARGS, NULL},
                                          {"close", receiving_close, METH_NOARGS, NULL},
                                          {NULL, NULL, 0, NULL}};

/* Only the app's `receive` makes them. */
static PyObject *refuse(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)arguments;
    (void)keywords;
    PyErr_Format(PyExc_TypeError, "%R is made by an app's receive", type);
    return NULL;
}

static PyType_Slot receiving_slots[] = {{Py_tp_methods, receiving_methods},
                                        {Py_tp_traverse, (void *)receiving_traverse},
                                        {Py_tp_clear, (void *)receiving_clear},
                                        {Py_tp_dealloc, (void *)receiving_dealloc},
                                        {Py_tp_new, (void *)refuse},
                                        {Py_am_await, (void *)receiving_iter},
                                        {Py_am_send, (void *)receiving_am_send},
                                        {Py_tp_iter, (void *)receiving_iter},
                                        {Py_tp_iternext, (void *)receiving_iternext},
                                        {0, NULL}};
static PyType_Spec receiving_spec = {"asgi_wasm.accelerator._accelerator.Receiving", sizeof(Receiving), 0,
                                     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, receiving_slots};

PyTypeObject *make_receiving_type(void) { return (PyTypeObject *)PyType_FromSpec(&receiving_spec); }

static PyObject *upload_size(PyObject *self, void *unused) {
    const Upload *u = (Upload *)self;
    (void)unused;
    return u->size == NO_SIZE ? keep(Py_None) : PyLong_FromLongLong(u->size);
}

static PyMemberDef members[] = {{"unread", T_OBJECT, offsetof(Upload, unread), READONLY, NULL},
                                {"reading", T_OBJECT, offsetof(Upload, reading), 0, NULL},
                                {"odd", T_OBJECT, offsetof(Upload, odd), 0, NULL},
                                {"way", T_OBJECT, offsetof(Upload, way), 0, NULL},
                                {"bytes_in", T_LONGLONG, offsetof(Upload, bytes_in), 0, NULL},
                                {"body_of", T_INT, offsetof(Upload, body_of), 0, NULL},
                                {NULL, 0, 0, 0, NULL}};
static PyGetSetDef getters[] = {{"size", upload_size, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
/* What it refers to is visited and let go of by its base, whose flag for the garbage collector it inherits with that. */
static PyType_Slot slots[] = {{Py_tp_members, members}, {Py_tp_getset, getters}, {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Upload", sizeof(Upload), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

PyTypeObject *make_upload_type(void) { return (PyTypeObject *)PyType_FromSpecWithBases(&spec, (PyObject *)stream_type); }

#include "accelerator.h"

#include <string.h>

/* --- the last piece of a body: the server's awaitable, and then the end of the stream */

typedef struct {
    PyObject_HEAD
    awaiting awaits;
    Stream *stream;
    PyObject *message;
} Sending;
enum { WITH_SERVER = STEPS };

static int next(PyObject *self, PyObject *error) {
    Sending *sending = (Sending *)self;
    Stream *s = sending->stream;
    if (error) {
        raise_again(error);
        return -1;
    }
    if (sending->awaits.step == FRESH) {
        PyObject *awaitable = PyObject_CallFunctionObjArgs(s->server_send, sending->message, NULL);
        return await_next(&sending->awaits, awaitable, WITH_SERVER) ? 1 : -1;
    }
    /* What the app does afterwards is nothing to plugins. */
    int then = end_stream(s);
    if (then == CALL_APP) return 0;
    PyObject *failure = then < 0 ? take_error() : NULL, *number = PyLong_FromLong(then);
    PyObject *done = number ? PyObject_CallMethodObjArgs((PyObject *)s, text.end_otherwise, number,
                                                         failure ? failure : Py_None, NULL)
                            : NULL;
    Py_XDECREF(failure);
    Py_XDECREF(number);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *send_last(Stream *s, PyObject *message) {
    Sending *made = (Sending *)((allocfunc)PyType_GetSlot(sending_type, Py_tp_alloc))(sending_type, 0);
    if (!made) return NULL;
    made->stream = (Stream *)keep((PyObject *)s);
    made->message = keep(message);
    return (PyObject *)made;
}

static PyObject *sending_iter(PyObject *self) { return keep(self); }
static PyObject *sending_iternext(PyObject *self) { return awaiting_next(self, &((Sending *)self)->awaits, next); }
static PySendResult sending_am_send(PyObject *self, PyObject *value, PyObject **result) {
    return go_on(self, &((Sending *)self)->awaits, next, value, result);
}
static PyObject *sending_go_on(PyObject *self, PyObject *value) {
    return awaiting_send(self, &((Sending *)self)->awaits, next, value);
}
static PyObject *sending_throw(PyObject *self, PyObject *arguments) {
    return awaiting_throw(self, &((Sending *)self)->awaits, next, arguments);
}
static PyObject *sending_close(PyObject *self, PyObject *unused) {
    (void)unused;
    return awaiting_close(self, &((Sending *)self)->awaits, next);
}

static int sending_traverse(PyObject *self, visitproc visit, void *arg) {
    Sending *sending = (Sending *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(sending->awaits.inner);
    Py_VISIT((PyObject *)sending->stream);
    Py_VISIT(sending->message);
    return 0;
}

static int sending_clear(PyObject *self) {
    Py_CLEAR(((Sending *)self)->awaits.inner);
    Py_CLEAR(((Sending *)self)->message);
    return 0;
}

static void sending_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    sending_clear(self);
    Py_CLEAR(((Sending *)self)->stream);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {{"send", sending_go_on, METH_O, NULL},
                                {"throw", sending_throw, METH_VARARGS, NULL},
                                {"close", sending_close, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

/* Only `app_send` makes them. */
static PyObject *refuse(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)arguments;
    (void)keywords;
    PyErr_Format(PyExc_TypeError, "%R is made by app_send", type);
    return NULL;
}

static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_traverse, (void *)sending_traverse},
                              {Py_tp_clear, (void *)sending_clear},
                              {Py_tp_dealloc, (void *)sending_dealloc},
                              {Py_tp_new, (void *)refuse},
                              {Py_am_await, (void *)sending_iter},
                              {Py_am_send, (void *)sending_am_send},
                              {Py_tp_iter, (void *)sending_iter},
                              {Py_tp_iternext, (void *)sending_iternext},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Sending", sizeof(Sending), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_sending_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

/* --- the app's send */

static int is_text(PyObject *object, PyObject *wanted) {
    return object == wanted || (object && PyUnicode_CheckExact(object) && PyUnicode_Compare(object, wanted) == 0);
}

static PyObject *send_portably(Stream *s, PyObject *message) {
    return PyObject_CallMethodObjArgs((PyObject *)s, text.send_portably, message, NULL);
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
        if (!goes_on) return send_last(s, message);
    }
    return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
}

/* Shows a piece to each plugin that looks at bodies, the last first: `CALL_APP` when all let it pass unchanged. */
static int show_piece(Stream *s, PyObject *piece, int end) {
    const Course *c = s->course;
    uint32_t size = (uint32_t)PyBytes_Size(piece);
    for (Py_ssize_t i = s->opened - 1; i >= 0; i--) {
        const filter *f = c->filters + i;
        uint32_t news;
        if (!(f->takes & TAKES_RESPONSE_BODY)) continue;
        slot slots[4] = {{.i32 = s->ids[i]}, {.i32 = f->root_id}, {.i32 = size}, {.i32 = (uint32_t)end}};
        s->index = (int)i;
        s->phase = BODY;
        keep_piece(f->kernel, piece);
        if (cross(f->kernel, NULL, NULL, RESPONSE_BODY_CROSSING, slots, 4, &news)) return -1;
        if (news || PyList_Size(f->effects)) return HAND_BACK;
        keep_piece(f->kernel, NULL);
    }
    s->phase = IDLE;
    return CALL_APP;
}

/* A piece of a body that plugins look at. What is not straight, and the first one of a body whose head is held, is
 * Python's (`asgi_wasm.asgi.pieces`). */
static PyObject *send_piece(Stream *s, PyObject *message) {
    PyObject *body = PyDict_GetItemWithError(message, text.body), *more = PyDict_GetItemWithError(message, text.more_body);
    int goes_on = more ? PyObject_IsTrue(more) : 0;
    if (goes_on < 0 || PyErr_Occurred()) return NULL;
    if (s->held || s->complete || !body || !PyBytes_CheckExact(body) || (goes_on && !PyBytes_Size(body)) ||
        (uint64_t)PyBytes_Size(body) > UINT32_MAX)
        return send_portably(s, message);
    if (!may_enter(s->course->filters[0].kernel)) return NULL;
    if (show_piece(s, body, !goes_on) != CALL_APP) {
        PyObject *error = PyErr_Occurred() ? take_error() : NULL;
        PyObject *result = PyObject_CallMethodObjArgs((PyObject *)s, text.piece_otherwise, message, error ? error : Py_None, NULL);
        Py_XDECREF(error);
        return result;
    }
    return send_body(s, message);
}

/* Whether there is an upper-case letter. */
static int has_capitals(const char *data, Py_ssize_t size) {
    for (Py_ssize_t i = 0; i < size; i++)
        if (data[i] >= 'A' && data[i] <= 'Z') return 1;
    return 0;
}

/* The status as bytes, where an app's start message may be shown as it is (`heads.status_of_start`); NULL else. */
static PyObject *ordinary_status(Stream *s, PyObject *message, PyObject **fields) {
    PyObject *status = PyDict_GetItemWithError(message, text.status), *trailers = PyDict_GetItemWithError(message, text.trailers);
    *fields = PyDict_GetItemWithError(message, text.headers);
    if (!status || !PyLong_CheckExact(status) || !*fields || !PyList_CheckExact(*fields) || trailers || s->is_bodiless)
        return NULL;
    long code = PyLong_AsLong(status);
    if (code < 200 || code > 599 || code == 204 || code == 304) return NULL;
    int lengths = 0;
    Py_ssize_t count = PyList_Size(*fields);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        char *data, *number;
        Py_ssize_t size, digits;
        if (!pair_of(PyList_GetItem(*fields, i), &name, &value) || PyBytes_AsStringAndSize(name, &data, &size)) return NULL;
        if (has_capitals(data, size)) return NULL;
        int meaning = meaning_of(s->course, data, size);
        if (meaning & CODING) return NULL;
        if (meaning & LENGTH) {
            if (lengths++ || PyBytes_AsStringAndSize(value, &number, &digits) || (digits == 1 && *number == '0')) return NULL;
        }
    }
    char shown[3] = {(char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10)};
    return PyBytes_FromStringAndSize(shown, 3);
}

/* The message as plugins left it, a new reference. NULL without an exception: hand back, before any plugin where
 * `s->message` is not set, else after the callback of `s->index`. */
static PyObject *shown_start(Stream *s, PyObject *message) {
    PyObject *fields, *status = ordinary_status(s, message, &fields), *made = NULL;
    if (!status) return NULL;
    /* Before anything is done: the app may call from anywhere. */
    if (s->course->filters[0].kernel->call && !may_enter(s->course->filters[0].kernel)) {
        Py_DECREF(status);
        return NULL;
    }
    Py_INCREF(fields);
    put(&s->message, keep(message));
    put(&s->status, status);
    int then = show_response(s, &fields);
    if (then == CALL_APP && !s->response_changed) {
        made = keep(message);
    } else if (then == CALL_APP) {
        made = PyDict_Copy(message);
        if (made && PyDict_SetItem(made, text.headers, fields)) Py_CLEAR(made);
    }
    Py_DECREF(fields);
    return made;
}

/* After a callback that failed, or did what is Python's affair. */
static PyObject *answer_without_kernel(Stream *s, PyObject *message) {
    PyObject *error = PyErr_Occurred() ? take_error() : NULL;
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)s, text.answer_without_kernel, message, error ? error : Py_None,
                                                  NULL);
    Py_XDECREF(error);
    return result;
}

static PyObject *send_start(Stream *s, PyObject *message) {
    const Course *c = s->course;
    if (c->sees & SEES_RESPONSE_BODY) return send_portably(s, message);
    if (!(c->sees & SEES_RESPONSE)) {
        if (PyDict_GetItemWithError(message, text.trailers)) return send_portably(s, message);
        put(&s->message, keep(message));
        return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    }
    PyObject *shown = shown_start(s, message);
    if (!shown) {
        if (s->message) return answer_without_kernel(s, message);
        return PyErr_Occurred() ? NULL : send_portably(s, message);
    }
    PyObject *result = PyObject_CallFunctionObjArgs(s->server_send, shown, NULL);
    Py_DECREF(shown);
    return result;
}

/* app_send(message): gives back an awaitable. */
PyObject *stream_send(PyObject *self, PyObject *message) {
    Stream *s = (Stream *)self;
    if (s->request) return PyObject_CallMethodObjArgs(s->request, text.send, message, NULL);
    if (!PyDict_CheckExact(message)) return send_portably(s, message);
    PyObject *type = PyDict_GetItemWithError(message, text.type);
    if (!type && PyErr_Occurred()) return NULL;
    if (s->message && is_text(type, text.body_type))
        return s->course->sees & SEES_RESPONSE_BODY ? send_piece(s, message) : send_body(s, message);
    if (!s->message && is_text(type, text.start)) return send_start(s, message);
    return send_portably(s, message);
}

static PyMethodDef app_send = {"send", stream_send, METH_O, NULL};

PyObject *app_send_of(Stream *s) { return PyCFunction_New(&app_send, (PyObject *)s); }

#include "accelerator.h"

/* Pieces that are sent one after the other, and the end of the stream after the last. */

typedef struct {
    PyObject_HEAD
    awaiting awaits;
    Stream *stream;
    PyObject *start, *message; /* either may be NULL */
    char ends;
} Sending;
enum { SENDING_START = STEPS, SENDING_PIECE };

static int send_next(Sending *sending, PyObject *message, char step) {
    PyObject *awaitable = PyObject_CallFunctionObjArgs(sending->stream->server_send, message, NULL);
    return await_next(&sending->awaits, awaitable, step) ? 1 : -1;
}

/* What the app does after the last is nothing to plugins. */
static int end_after(Stream *s) {
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

static int next(PyObject *self, PyObject *result, PyObject *error) {
    Sending *sending = (Sending *)self;
    char step = sending->awaits.step;
    (void)result;
    if (error) {
        raise_again(error);
        return -1;
    }
    if (step == FRESH && sending->start) {
        Stream *s = sending->stream;
        PyObject *body = PyDict_GetItemWithError(sending->message, text.body);
        put(&s->held, NULL);
        s->bytes_out += body ? PyBytes_Size(body) : 0;
        s->complete = sending->ends;
        return send_next(sending, sending->start, SENDING_START);
    }
    if (step != SENDING_PIECE && sending->message) return send_next(sending, sending->message, SENDING_PIECE);
    return sending->ends ? end_after(sending->stream) : 0;
}

PyObject *make_sending(Stream *s, PyObject *start, PyObject *message, int ends) {
    Sending *made = (Sending *)((allocfunc)PyType_GetSlot(sending_type, Py_tp_alloc))(sending_type, 0);
    if (!made) return NULL;
    made->stream = (Stream *)keep((PyObject *)s);
    made->start = keep(start);
    made->message = keep(message);
    made->ends = (char)ends;
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
    Py_VISIT(sending->start);
    Py_VISIT(sending->message);
    return 0;
}

static int sending_clear(PyObject *self) {
    Py_CLEAR(((Sending *)self)->awaits.inner);
    Py_CLEAR(((Sending *)self)->start);
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

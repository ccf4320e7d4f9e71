#include "accelerator.h"

/* What a server calls: the base of the middleware (`asgi_wasm.middleware.WasmMiddleware`).
 *
 * While it is open, it knows the course of all HTTP requests of one event loop, and gives its requests straight to the
 * server. Shut, and for whatever is not straight, it calls `serve_connection`, a coroutine function of Python's. */
typedef struct {
    PyObject_HEAD
    PyObject *mark, *here; /* what tells one event loop from another, and what it tells of the loop of `course` */
    Course *course;        /* NULL: there is none */
    char is_shut;          /* what is here is not known: Python is to tell, by `open_to` */
    char marks_itself;     /* `mark` is `loop_mark` */
} Door;

static PyObject *shut(PyObject *self, PyObject *unused) {
    Door *d = (Door *)self;
    (void)unused;
    d->is_shut = 1;
    Py_CLEAR(d->course);
    Py_CLEAR(d->mark);
    Py_CLEAR(d->here);
    Py_RETURN_NONE;
}

/* open_to(mark, here, course): ``course`` for as long as ``mark`` gives ``here``; None: there is none. */
static PyObject *open_to(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Door *d = (Door *)self;
    if (count != 3 || (arguments[2] != Py_None && Py_TYPE(arguments[2]) != course_type)) {
        PyErr_SetString(PyExc_TypeError, "open_to(mark, here, course)");
        return NULL;
    }
    put(&d->mark, keep(arguments[0]));
    put(&d->here, keep(arguments[1]));
    put((PyObject **)&d->course, arguments[2] == Py_None ? NULL : keep(arguments[2]));
    d->marks_itself = PyCFunction_Check(d->mark) && PyCFunction_GetFunction(d->mark) == (PyCFunction)loop_mark;
    d->is_shut = 0;
    Py_RETURN_NONE;
}

/* Whether the event loop that runs is that of the course. Raises nothing. */
static int is_at_home(const Door *d) {
    PyObject *mark = d->marks_itself ? loop_mark(NULL, NULL) : PyObject_CallNoArgs(d->mark);
    int same = mark == d->here && mark != Py_None;
    Py_XDECREF(mark);
    if (!mark) PyErr_Clear();
    return same;
}

static PyObject *door_call(PyObject *self, PyObject *arguments, PyObject *keywords) {
    Door *d = (Door *)self;
    if (d->course && !keywords && PyTuple_CheckExact(arguments) && Py_SIZE(arguments) == 3 && is_at_home(d)) {
        /* Code of Python's that runs for a scope may shut the door. */
        PyObject *course = keep((PyObject *)d->course), *made = enter_course((Course *)course, items_in(arguments));
        /* A dead VM is let go of at once, with all its memory. */
        if (!made && !PyErr_Occurred() && !is_ready((Course *)course)) Py_XDECREF(shut(self, NULL));
        Py_DECREF(course);
        if (made || PyErr_Occurred()) return made;
    }
    PyObject *serve = PyObject_GetAttr(self, text.serve), *served = serve ? PyObject_Call(serve, arguments, keywords) : NULL;
    Py_XDECREF(serve);
    return served;
}

static int door_traverse(PyObject *self, visitproc visit, void *arg) {
    Door *d = (Door *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(d->mark);
    Py_VISIT(d->here);
    Py_VISIT((PyObject *)d->course);
    return 0;
}

static int door_clear(PyObject *self) {
    Py_XDECREF(shut(self, NULL));
    return 0;
}

static void door_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    door_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *door_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    Door *made = (Door *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    (void)arguments;
    (void)keywords;
    if (made) made->is_shut = 1;
    return (PyObject *)made;
}

static PyMethodDef methods[] = {{"open_to", (PyCFunction)(void *)open_to, METH_FASTCALL, NULL},
                                {"shut", shut, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static PyMemberDef members[] = {{"is_shut", T_BOOL, offsetof(Door, is_shut), READONLY, NULL}, {NULL, 0, 0, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_call, (void *)door_call},
                              {Py_tp_traverse, (void *)door_traverse},
                              {Py_tp_clear, (void *)door_clear},
                              {Py_tp_dealloc, (void *)door_dealloc},
                              {Py_tp_new, (void *)door_new},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Door", sizeof(Door), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_door_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

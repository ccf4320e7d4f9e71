#include "accelerator.h"

/* What calls functions of engines at each tick of the watchdog (`asgi_wasm.engines.watchdog`), without the GIL: a thread
 * that waits for it is woken in vain by each release of it for a guest. */

typedef struct {
    PyObject_HEAD
    PyThread_type_lock bell; /* held, but between `ring` and the end of a run that hears it */
    char is_rung, runs;
} Ticker;
typedef void (*tick)(void *argument);
typedef struct {
    tick function;
    void *argument;
} ticked;

/* The calls, to be freed; NULL with an exception. */
static ticked *calls_of(PyObject *pairs, Py_ssize_t count) {
    ticked *calls = PyMem_Calloc(count ? (size_t)count : 1, sizeof *calls);
    if (!calls) return (ticked *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long function, argument;
        PyObject *pair = PyTuple_GetItem(pairs, i);
        if (!PyTuple_Check(pair)) PyErr_SetString(PyExc_TypeError, "a call is a pair of addresses");
        if (PyErr_Occurred() || !PyArg_ParseTuple(pair, "KK", &function, &argument)) {
            PyMem_Free(calls);
            return NULL;
        }
        calls[i].function = (tick)(uintptr_t)function;
        calls[i].argument = (void *)(uintptr_t)argument;
    }
    return calls;
}

/* run(calls, microseconds, times): each call, a pair of addresses of a C function and of its argument, and then the time;
 * so many times, or until it is rung for. The caller keeps alive what is called. */
static PyObject *run(PyObject *self, PyObject *arguments) {
    Ticker *t = (Ticker *)self;
    PyObject *pairs;
    long long microseconds, times;
    PyLockStatus heard = PY_LOCK_FAILURE;
    if (!PyArg_ParseTuple(arguments, "O!LL", &PyTuple_Type, &pairs, &microseconds, &times)) return NULL;
    if (t->runs || microseconds < 0 || microseconds > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, t->runs ? "it runs already" : "microseconds must be a number of 32 bits");
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(pairs);
    ticked *calls = calls_of(pairs, count);
    if (!calls) return NULL;
    t->runs = 1;
    Py_BEGIN_ALLOW_THREADS
    for (; times > 0 && heard == PY_LOCK_FAILURE; times--) {
        for (Py_ssize_t i = 0; i < count; i++) calls[i].function(calls[i].argument);
        heard = PyThread_acquire_lock_timed(t->bell, microseconds, 0);
    }
    Py_END_ALLOW_THREADS
    t->runs = 0;
    if (heard == PY_LOCK_ACQUIRED) t->is_rung = 0;
    PyMem_Free(calls);
    Py_RETURN_NONE;
}

/* ring(): ends the run that is under way, or the next at its first tick. */
static PyObject *ring(PyObject *self, PyObject *unused) {
    Ticker *t = (Ticker *)self;
    (void)unused;
    if (!t->is_rung) {
        t->is_rung = 1;
        PyThread_release_lock(t->bell);
    }
    Py_RETURN_NONE;
}

static PyObject *ticker_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    Ticker *made = (Ticker *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    (void)arguments;
    (void)keywords;
    if (!made) return NULL;
    if ((made->bell = PyThread_allocate_lock())) {
        PyThread_acquire_lock(made->bell, NOWAIT_LOCK);
        return (PyObject *)made;
    }
    Py_DECREF(made);
    return PyErr_NoMemory();
}

static void ticker_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Ticker *t = (Ticker *)self;
    if (t->bell) {
        if (!t->is_rung) PyThread_release_lock(t->bell);
        PyThread_free_lock(t->bell);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {{"run", run, METH_VARARGS, NULL}, {"ring", ring, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_new, (void *)ticker_new},
                              {Py_tp_dealloc, (void *)ticker_dealloc},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Ticker", sizeof(Ticker), 0, Py_TPFLAGS_DEFAULT, slots};

PyTypeObject *make_ticker_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

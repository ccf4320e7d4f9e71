#include "accelerator.h"

/* The type of kernels, and how one is attached to its VM. */

/* attach(call, store, entry, guest, functions, window, address, thread, owner, vm, fill, fail, headroom, realtime,
 *        body_bytes) */
static PyObject *kernel_attach(PyObject *self, PyObject *arguments) {
    Kernel *k = (Kernel *)self;
    unsigned long long call, store, entry, guest, at, functions[CROSSINGS], body_bytes;
    PyObject *owner, *vm, *fill, *fail, *headroom, *realtime;
    if (!PyArg_ParseTuple(arguments, "KKKK(KKKKKKK)KIkOOOOOOK", &call, &store, &entry, &guest, functions, functions + 1,
                          functions + 2, functions + 3, functions + 4, functions + 5, functions + 6, &at, &k->address, &k->thread, &owner, &vm, &fill, &fail, &headroom, &realtime, &body_bytes))
        return NULL;
    if (k->owner) {
        PyErr_SetString(PyExc_ValueError, "a kernel is attached once");
        return NULL;
    }
    for (int i = 0; i < CROSSINGS; i++) k->functions[i] = (const void *)(uintptr_t)functions[i];
    k->store = (void *)(uintptr_t)store;
    k->entry = (uint64_t *)(uintptr_t)entry;
    k->guest = (char *)(uintptr_t)guest;
    k->w = (window *)(uintptr_t)at;
    k->body_bytes = body_bytes;
    Py_INCREF(owner); Py_INCREF(vm); Py_INCREF(fill); Py_INCREF(fail); Py_INCREF(headroom); Py_INCREF(realtime);
    k->owner = owner; k->vm = vm; k->fill = fill; k->fail = fail; k->headroom = headroom; k->realtime = realtime;
    k->call = (call_function)(uintptr_t)call;
    Py_RETURN_NONE;
}

/* show(id, root, piece, ends): a piece of a request's body; what the kernel gives back. It is kept unless that is 0. */
static PyObject *kernel_show(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Kernel *k = (Kernel *)self;
    uint32_t news;
    if (count != 4 || !PyBytes_CheckExact(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "show(id, root, piece, ends)");
        return NULL;
    }
    int ends = PyObject_IsTrue(arguments[3]);
    slot slots[4] = {{.i32 = (uint32_t)PyLong_AsUnsignedLong(arguments[0])}, {.i32 = (uint32_t)PyLong_AsUnsignedLong(arguments[1])},
                     {.i32 = (uint32_t)PyBytes_Size(arguments[2])}, {.i32 = (uint32_t)ends}};
    if (PyErr_Occurred() || !may_enter(k)) return NULL;
    keep_piece(k, arguments[2]);
    if (cross(k, NULL, NULL, REQUEST_BODY_CROSSING, slots, 4, &news)) return NULL;
    if (!news) keep_piece(k, NULL);
    return PyLong_FromUnsignedLong(news);
}

static PyObject *kernel_close(PyObject *self, PyObject *unused) {
    Kernel *k = (Kernel *)self;
    (void)unused;
    k->call = NULL;
    Py_CLEAR(k->owner);
    Py_RETURN_NONE;
}

static PyObject *kernel_env(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromVoidPtr(self);
}

static PyObject *kernel_fill(PyObject *self, void *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)fill_map);
}

static PyObject *kernel_give_body(PyObject *self, void *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)give_body);
}

static PyObject *kernel_take_body(PyObject *self, void *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)take_body);
}

static PyObject *kernel_get_piece(PyObject *self, void *unused) {
    Kernel *k = (Kernel *)self;
    (void)unused;
    if (!k->piece) return PyBytes_FromStringAndSize(NULL, 0);
    Py_INCREF(k->piece);
    return k->piece;
}

static int kernel_set_piece(PyObject *self, PyObject *piece, void *unused) {
    (void)unused;
    if (!piece || !PyBytes_CheckExact(piece)) {
        PyErr_SetString(PyExc_TypeError, "a piece of a body is bytes");
        return -1;
    }
    keep_piece((Kernel *)self, PyBytes_Size(piece) ? piece : NULL);
    return 0;
}

static int kernel_traverse(PyObject *self, visitproc visit, void *arg) {
    Kernel *k = (Kernel *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(k->owner);
    Py_VISIT(k->vm);
    Py_VISIT(k->fill);
    Py_VISIT(k->fail);
    Py_VISIT(k->headroom);
    Py_VISIT(k->realtime);
    return 0;
}

static int kernel_clear(PyObject *self) {
    Kernel *k = (Kernel *)self;
    k->call = NULL;
    Py_CLEAR(k->owner);
    Py_CLEAR(k->vm);
    Py_CLEAR(k->fill);
    Py_CLEAR(k->headroom);
    return 0;
}

static void kernel_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    kernel_clear(self);
    keep_piece((Kernel *)self, NULL);
    for (int i = 0; i < MOST_MADE; i++) Py_CLEAR(((Kernel *)self)->made[i].pair);
    Py_CLEAR(((Kernel *)self)->fail);
    Py_CLEAR(((Kernel *)self)->realtime);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {{"attach", kernel_attach, METH_VARARGS, NULL},
                                {"close", kernel_close, METH_NOARGS, NULL},
                                {"show", (PyCFunction)(void *)kernel_show, METH_FASTCALL, NULL},
                                {NULL, NULL, 0, NULL}};
static PyMemberDef members[] = {{"thread", T_ULONG, offsetof(Kernel, thread), 0, NULL},
                                {"stale", T_BOOL, offsetof(Kernel, stale), 0, NULL},
                                {NULL, 0, 0, 0, NULL}};
static PyGetSetDef getters[] = {{"env", kernel_env, NULL, NULL, NULL},
                                {"fill", kernel_fill, NULL, NULL, NULL},
                                {"give_body", kernel_give_body, NULL, NULL, NULL},
                                {"take_body", kernel_take_body, NULL, NULL, NULL},
                                {"piece", kernel_get_piece, kernel_set_piece, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_getset, getters},
                              {Py_tp_traverse, (void *)kernel_traverse},
                              {Py_tp_clear, (void *)kernel_clear},
                              {Py_tp_dealloc, (void *)kernel_dealloc},
                              {Py_tp_new, (void *)PyType_GenericNew},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Kernel", sizeof(Kernel), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_kernel_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

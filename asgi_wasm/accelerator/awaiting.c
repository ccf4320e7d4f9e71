#include "accelerator.h"

/* Of a code's flags: CO_ITERABLE_COROUTINE. */
enum { ITERABLE_COROUTINE = 0x100 };

PyObject *take_error(void) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace && value) PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

void raise_again(PyObject *error) {
    PyErr_Restore(keep((PyObject *)Py_TYPE(error)), keep(error), PyException_GetTraceback(error));
}

/* A generator that `types.coroutine` has made a coroutine of. */
static int is_generator_of_old(PyObject *object) {
    PyObject *code = PyObject_GetAttrString(object, "gi_code"), *flags = code ? PyObject_GetAttrString(code, "co_flags") : NULL;
    long bits = flags ? PyLong_AsLong(flags) : 0;
    Py_XDECREF(flags);
    Py_XDECREF(code);
    PyErr_Clear();
    return bits > 0 && bits & ITERABLE_COROUTINE;
}

/* What `await` goes through; a new reference. */
static PyObject *iterator_of(PyObject *awaitable) {
    if ((PyObject *)Py_TYPE(awaitable) == coroutine_type) return keep(awaitable);
    unaryfunc iterate = (unaryfunc)PyType_GetSlot(Py_TYPE(awaitable), Py_am_await);
    if (iterate) return iterate(awaitable);
    if (is_generator_of_old(awaitable)) return keep(awaitable);
    PyErr_Format(PyExc_TypeError, "object %R can't be used in 'await' expression", awaitable);
    return NULL;
}

int await_next(awaiting *a, PyObject *awaitable, char step) {
    PyObject *iterator = awaitable ? iterator_of(awaitable) : NULL;
    Py_XDECREF(awaitable);
    if (!iterator) return 0;
    put(&a->inner, iterator);
    a->step = step;
    return 1;
}

/* After `inner` has ended: what follows on it. As `PyIter_Send` answers. */
static PySendResult follow(PyObject *self, awaiting *a, next_step next, PySendResult last, PyObject **result) {
    while (last != PYGEN_NEXT) {
        PyObject *error = last == PYGEN_ERROR ? take_error() : NULL, *given = last == PYGEN_RETURN ? *result : NULL;
        *result = NULL;
        Py_CLEAR(a->inner);
        int more = next(self, given, error);
        Py_XDECREF(given);
        Py_XDECREF(error);
        if (more <= 0) {
            a->step = OVER;
            *result = more ? NULL : a->result ? a->result : keep(Py_None);
            if (!more) a->result = NULL;
            return more ? PYGEN_ERROR : PYGEN_RETURN;
        }
        last = PyIter_Send(a->inner, Py_None, result);
    }
    return last;
}

/* 0 with an exception. */
static int enter(awaiting *a) {
    if (a->is_running || a->step == OVER) {
        PyErr_SetString(a->is_running ? PyExc_ValueError : PyExc_RuntimeError,
                        a->is_running ? "coroutine already executing" : "cannot reuse already awaited coroutine");
        return 0;
    }
    a->is_running = 1;
    return 1;
}

PySendResult go_on(PyObject *self, awaiting *a, next_step next, PyObject *value, PyObject **result) {
    *result = NULL;
    if (!enter(a)) return PYGEN_ERROR;
    PySendResult last = PYGEN_RETURN;
    if (a->step != FRESH) last = PyIter_Send(a->inner, value, result);
    last = follow(self, a, next, last, result);
    a->is_running = 0;
    return last;
}

/* What an iterator answers: a value; or NULL, with StopIteration in the place of a result. */
static PyObject *as_iterator(PySendResult last, PyObject *result) {
    if (last == PYGEN_NEXT) return result;
    if (last == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
        if (stop) PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
    }
    Py_XDECREF(result);
    return NULL;
}

PyObject *awaiting_send(PyObject *self, awaiting *a, next_step next, PyObject *value) {
    PyObject *result;
    PySendResult last = go_on(self, a, next, value, &result);
    return as_iterator(last, result);
}

PyObject *awaiting_next(PyObject *self, awaiting *a, next_step next) {
    return awaiting_send(self, a, next, Py_None);
}

/* throw(type, value=None, traceback=None), or throw(exception) */
PyObject *awaiting_throw(PyObject *self, awaiting *a, next_step next, PyObject *arguments) {
    PyObject *type, *value = Py_None, *trace = Py_None, *result = NULL;
    if (!PyArg_UnpackTuple(arguments, "throw", 1, 3, &type, &value, &trace) || !enter(a)) return NULL;
    PyObject *throw_ = a->inner ? PyObject_GetAttr(a->inner, text.throw_) : NULL;
    PySendResult last = PYGEN_ERROR;
    if (throw_) {
        result = PyObject_Call(throw_, arguments, NULL);
        Py_DECREF(throw_);
        if (result) last = PYGEN_NEXT;
    } else {
        PyErr_Clear();
        if (PyExceptionInstance_Check(type)) PyErr_SetObject((PyObject *)Py_TYPE(type), type);
        else PyErr_SetObject(type, value == Py_None ? NULL : value);
    }
    if (last == PYGEN_ERROR && a->step == FRESH) {
        a->step = OVER;
    } else if (last == PYGEN_ERROR) {
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            PyObject *stop = take_error();
            result = stop ? PyObject_GetAttrString(stop, "value") : NULL;
            Py_XDECREF(stop);
            if (result) last = PYGEN_RETURN;
        }
        last = follow(self, a, next, last, &result);
    }
    a->is_running = 0;
    return as_iterator(last, result);
}

PyObject *awaiting_close(PyObject *self, awaiting *a, next_step next) {
    if (a->step == FRESH) a->step = OVER;
    if (a->step == OVER) Py_RETURN_NONE;
    PyObject *arguments = PyTuple_Pack(1, PyExc_GeneratorExit), *result = NULL;
    if (arguments) result = awaiting_throw(self, a, next, arguments);
    Py_XDECREF(arguments);
    if (result) {
        Py_DECREF(result);
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
        return NULL;
    }
    if (!PyErr_ExceptionMatches(PyExc_GeneratorExit) && !PyErr_ExceptionMatches(PyExc_StopIteration)) return NULL;
    PyErr_Clear();
    Py_RETURN_NONE;
}

#include "accelerator.h"

/* The end of a request: the log, its contexts, and what goes back of the app's scope. */

/* What logs may read of a response that no plugin has seen. */
static int show_unseen(Stream *s) {
    if (s->response_fields || !s->message || !(s->course->takes & TAKES_LOG)) return 0;
    PyObject *pairs = PyObject_CallFunctionObjArgs(s->course->pairs, s->message, NULL),
             *status = pairs ? PyObject_GetItem(s->message, text.status) : NULL;
    long code = status ? PyLong_AsLong(status) : 0;
    Py_XDECREF(status);
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        /* It cannot be shown; who asks for it is told so by Python. */
        Py_XDECREF(pairs);
        PyErr_Clear();
        return 0;
    }
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
    PyObject *id = index < FEW ? keep(s->keys[index]) : PyLong_FromUnsignedLong(s->ids[index]);
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

/* --- the scope */

static int is_stack(PyObject *value) {
    PyObject *type = (PyObject *)Py_TYPE(value);
    return type == exit_stacks[0] || type == exit_stacks[1];
}

/* What is added to a dictionary comes at its end, behind what was added for the app. */
int share_scope(Stream *s) {
    Py_ssize_t at = s->own_size - 1;
    PyObject *key, *value, *added = NULL;
    int failed = 0;
    /* Where it is not as it was put, an app took something out, or it was there before: then all is looked at. */
    if (at < 0 || !PyDict_Next(s->own, &at, &key, &value) || key != text.asgi_wasm || at != s->own_size) at = 0;
    while (!failed && PyDict_Next(s->own, &at, &key, &value)) {
        int known = PyDict_Contains(s->scope, key);
        if (known > 0 || is_text(key, text.asgi_wasm) || is_stack(value)) continue;
        /* Code of Python's, which may change what is gone through here, runs for other keys than strings alone. */
        if (known == 0 && PyUnicode_CheckExact(key)) failed = PyDict_SetItem(s->scope, key, value);
        else failed = known < 0 || (!added && !(added = PyDict_New())) || PyDict_SetItem(added, key, value);
    }
    if (added && !failed) failed = PyDict_Update(s->scope, added);
    Py_XDECREF(added);
    return failed ? -1 : 0;
}

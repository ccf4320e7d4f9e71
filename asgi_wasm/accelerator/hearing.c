#include "accelerator.h"

/* --- what the client says */

/* After a piece that not every plugin let pass, or one that is not straight from the start: `Upload.hear`. */
PyObject *hear_in_python(Stream *s, PyObject *name, PyObject *message, PyObject *error) {
    PyObject *shown = name == text.hear ? PyObject_CallMethodObjArgs((PyObject *)s, name, message, NULL)
                                        : PyObject_CallMethodObjArgs((PyObject *)s, name, message, error ? error : Py_None, NULL);
    if (shown != Py_None) return shown;
    Py_DECREF(shown);
    return NULL;
}

/* Shows a piece to the plugins: what the app is to have, a new reference; NULL for nothing, or with an exception. */
static PyObject *hear_piece(Stream *s, PyObject *message, PyObject *data, int ends) {
    Upload *u = (Upload *)s;
    PyObject *changed = NULL, *made, *shown = NULL;
    u->body_of = REQUEST_SLOT;
    int then = show_piece(s, REQUEST_SLOT, data, ends, &changed);
    PyObject *error = then < 0 ? take_error() : NULL;
    made = changed ? with_body(message, changed) : keep(message);
    if (made && then != CALL_APP) {
        shown = hear_in_python(s, text.hear_after, made, error);
    } else if (made) {
        Py_ssize_t size = PyBytes_Size(changed ? changed : data);
        u->body_of = RESPONSE_SLOT;
        u->bytes_in += size;
        s->client_ended = (char)ends;
        if (!changed || size || ends) shown = keep(made);
    }
    Py_XDECREF(made);
    Py_XDECREF(changed);
    Py_XDECREF(error);
    return shown;
}

/* `Upload.hear`: what the app is to have; NULL for nothing, or with an exception. */
PyObject *hear(Stream *s, PyObject *message) {
    Kernel *first = s->course->filters[0].kernel;
    if (!PyDict_CheckExact(message) || s->client_ended || s->over || !first->call) return hear_in_python(s, text.hear, message, NULL);
    PyObject *type = PyDict_GetItemWithError(message, text.type), *data = PyDict_GetItemWithError(message, text.body),
             *more = PyDict_GetItemWithError(message, text.more_body);
    if (PyErr_Occurred()) return NULL;
    if (!data) data = text.empty;
    int goes_on = more ? PyObject_IsTrue(more) : 0;
    if (goes_on < 0) return NULL;
    Py_ssize_t size = PyBytes_CheckExact(data) ? PyBytes_Size(data) : -1;
    if (size < 0 || (uint64_t)size > UINT32_MAX || !is_text(type, text.request_type)) return hear_in_python(s, text.hear, message, NULL);
    if ((!size && goes_on) || !may_enter(first)) return NULL;
    s->request_size += size;
    return hear_piece(s, message, data, !goes_on);
}

/* --- before the app is called */

int reads_ahead(const Stream *s) {
    return s->is_upload && ((const Upload *)s)->size > 0 && s->course->sees & CHANGES_REQUEST_BODY;
}

int ask_ahead(Stream *s, char step) {
    return await_next(&s->awaits, PyObject_CallFunctionObjArgs(s->course->begin_reading, s->server_receive, NULL), step);
}

/* What the call of `receive` gave; NULL without an exception where that is not there, or for Python. */
static PyObject *given_by(PyObject *reading) {
    PyObject *done = PyObject_CallMethodObjArgs(reading, text.done, NULL);
    PyObject *message = done == Py_True ? PyObject_CallMethodObjArgs(reading, text.result, NULL) : NULL;
    Py_XDECREF(done);
    return message;
}

int hear_ahead(Stream *s, PyObject *reading) {
    Upload *u = (Upload *)s;
    put(&u->reading, keep(reading));
    if (s->request) return HAND_BACK;
    PyObject *message = given_by(reading);
    if (!message) {
        /* What the server raised is raised again, to be told of. */
        int raised = PyErr_Occurred() != NULL;
        PyErr_Clear();
        return raised ? HAND_BACK : CALL_APP;
    }
    put(&u->reading, NULL);
    PyObject *shown = hear(s, message);
    Py_DECREF(message);
    int failed = shown ? PyList_Append(u->unread, shown) : PyErr_Occurred() != NULL;
    Py_XDECREF(shown);
    if (failed) return -1;
    if (s->request) return shown ? HAND_BACK : GONE;
    if (s->client_gone || (s->client_ended && u->bytes_in != u->size)) return HAND_BACK;
    /* No further than one piece, and the end where it is an empty one. */
    return s->client_ended || s->request_size < u->size ? CALL_APP : READ_ON;
}

void clear_upload(Upload *u) {
    Py_CLEAR(u->unread);
    Py_CLEAR(u->reading);
    Py_CLEAR(u->odd);
    Py_CLEAR(u->way);
}

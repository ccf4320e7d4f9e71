#include "accelerator.h"

#include <string.h>

/* --- the app's send */

int is_text(PyObject *object, PyObject *wanted) {
    return object == wanted || (object && PyUnicode_CheckExact(object) && PyUnicode_Compare(object, wanted) == 0);
}

/* The same of a message's type, which apps write down as one object for all messages: the last that was found is known. */
static int is_type(PyObject *object, PyObject *wanted, PyObject **last) {
    if (object && object == *last) return 1;
    if (!is_text(object, wanted)) return 0;
    put(last, keep(object));
    return 1;
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
        if (!goes_on) return make_sending(s, NULL, message, 1);
    }
    return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
}

/* What a head announces of its body, -1 for nothing; -2 where that, or a field, is not to be sent as it is, or with an
 * exception (`pieces.length_of`). */
static long long length_of(Stream *s, PyObject *fields) {
    const Kernel *kernel = s->course->filters[0].kernel;
    if (!kernel->call) return -2;
    const uint8_t *classes = kernel->w->classes;
    long long length = -1;
    Py_ssize_t count = PyList_Size(fields);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        char *n, *v;
        Py_ssize_t name_size, size;
        if (!pair_of(PyList_GetItem(fields, i), &name, &value) || PyBytes_AsStringAndSize(name, &n, &name_size) ||
            PyBytes_AsStringAndSize(value, &v, &size) || !name_size)
            return -2;
        for (Py_ssize_t k = 0; k < name_size; k++)
            if (!(classes[(uint8_t)n[k]] & IN_NAME)) return -2;
        for (Py_ssize_t k = 0; k < size; k++)
            if (!(classes[(uint8_t)v[k]] & IN_VALUE)) return -2;
        if (size && (*v == ' ' || *v == '\t' || v[size - 1] == ' ' || v[size - 1] == '\t')) return -2;
        if (!(meaning_of(s->course, n, name_size) & LENGTH)) continue;
        if ((length = length_from(v, size)) == ODD_SIZE) return ODD_SIZE;
    }
    return length;
}

PyObject *with_body(PyObject *message, PyObject *body) {
    PyObject *made = PyDict_Copy(message);
    if (made && PyDict_SetItem(made, text.body, body)) Py_CLEAR(made);
    return made;
}

/* After a piece that not every plugin let pass, and which is by now what the message says. */
static PyObject *piece_otherwise(Stream *s, PyObject *message, PyObject *error) {
    return PyObject_CallMethodObjArgs((PyObject *)s, text.piece_otherwise, message, error ? error : Py_None, NULL);
}

/* Sends a piece that all of them let pass (`pieces.send`). */
static PyObject *send_passed(Stream *s, PyObject *message, Py_ssize_t size, int goes_on) {
    /* None: Python has sent it. */
    if (s->held && s->held != Py_None) {
        PyObject *fields = goes_on ? NULL : PyDict_GetItemWithError(s->held, text.headers);
        if (fields && length_of(s, fields) != size)
            return PyErr_Occurred() ? NULL : PyObject_CallMethodObjArgs((PyObject *)s, text.piece_misfits, message, NULL);
        return size || !goes_on ? make_sending(s, s->held, message, !goes_on) : make_sending(s, NULL, NULL, 0);
    }
    s->bytes_out += size;
    s->complete = !goes_on;
    if (!goes_on) return make_sending(s, NULL, message, 1);
    return size ? PyObject_CallFunctionObjArgs(s->server_send, message, NULL) : make_sending(s, NULL, NULL, 0);
}

/* Shows a piece to the plugins, and sends it. */
static PyObject *send_shown(Stream *s, PyObject *message, PyObject *data, int goes_on) {
    PyObject *changed = NULL, *made, *result = NULL;
    int then = show_piece(s, RESPONSE_SLOT, data, !goes_on, &changed);
    PyObject *error = then < 0 ? take_error() : NULL;
    made = changed ? with_body(message, changed) : keep(message);
    if (made && then != CALL_APP) result = piece_otherwise(s, made, error);
    else if (made) result = send_passed(s, made, PyBytes_Size(changed ? changed : data), goes_on);
    Py_XDECREF(made);
    Py_XDECREF(changed);
    Py_XDECREF(error);
    return result;
}

/* A piece of a body that some plugin looks at (`pieces.send`). */
static PyObject *send_piece(Stream *s, PyObject *message) {
    if (s->complete) return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    PyObject *data = PyDict_GetItemWithError(message, text.body), *more = PyDict_GetItemWithError(message, text.more_body);
    if (PyErr_Occurred()) return NULL;
    if (!data) data = text.empty;
    int goes_on = more ? PyObject_IsTrue(more) : 0;
    if (goes_on < 0) return NULL;
    Kernel *first = s->course->filters[0].kernel;
    Py_ssize_t size = PyBytes_CheckExact(data) ? PyBytes_Size(data) : -1;
    if (size < 0 || (uint64_t)size > UINT32_MAX || !first->call) return send_portably(s, message);
    if (!may_enter(first)) return NULL;
    return size || !goes_on ? send_shown(s, message, data, goes_on) : send_passed(s, message, 0, 1);
}

/* Whether a response with this content-length may have it (`heads.is_sent_as_it_is`). */
static int is_sent_as_it_is(const char *length, Py_ssize_t size, long status, int ends) {
    for (Py_ssize_t i = 0; ends && i < size; i++)
        if (length[i] < '0' || length[i] > '9') return 0;
    return !(ends && (status == 204 || !size)) && !(size > 1 && *length == '0');
}

/* The status as bytes, where an app's start message may be shown as it is (`heads.read_start`); NULL else. */
static PyObject *ordinary_status(Stream *s, PyObject *message, PyObject **fields) {
    PyObject *status = PyDict_GetItemWithError(message, text.status), *trailers = PyDict_GetItemWithError(message, text.trailers);
    *fields = PyDict_GetItemWithError(message, text.headers);
    if (!status || !PyLong_CheckExact(status) || !*fields || !PyList_CheckExact(*fields) || trailers ||
        is_one_of(s->pseudo[2], "C"))
        return NULL;
    long code = PyLong_AsLong(status);
    if (code < 200 || code > 599) return NULL;
    int lengths = 0, ends = s->is_bodiless || code == 204 || code == 304;
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
            if (lengths++ || PyBytes_AsStringAndSize(value, &number, &digits) || !is_sent_as_it_is(number, digits, code, ends))
                return NULL;
            ends |= digits == 1 && *number == '0';
        }
    }
    s->drops_body = (char)ends;
    char shown[3] = {(char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10)};
    return PyBytes_FromStringAndSize(shown, 3);
}

/* Keeps the start message as the app sent it, with a list of its own: the app, or a middleware outside, may change theirs.
 * 0 with an exception. */
static int keep_message(Stream *s, PyObject *message, PyObject *fields) {
    PyObject *own = PyDict_Copy(message), *list = own ? PyList_GetSlice(fields, 0, PyList_Size(fields)) : NULL;
    if (own && (!list || PyDict_SetItem(own, text.headers, list))) Py_CLEAR(own);
    Py_XDECREF(list);
    if (own) put(&s->message, own);
    return own != NULL;
}

/* The message as plugins left it, a new reference. NULL without an exception: hand back, before any plugin where
 * `s->message` is not set, else after the callback of `s->index`. */
static PyObject *shown_start(Stream *s, PyObject *message) {
    PyObject *fields, *status = ordinary_status(s, message, &fields), *made = NULL;
    if (status && s->course->sees & SEES_RESPONSE_BODY && length_of(s, fields) < -1)
        Py_CLEAR(status);
    if (!status) return NULL;
    /* Before anything is done: the app may call from anywhere. */
    if (s->course->filters[0].kernel->call && !may_enter(s->course->filters[0].kernel)) {
        Py_DECREF(status);
        return NULL;
    }
    Py_INCREF(fields);
    put(&s->message, keep(message));
    put(&s->status, status);
    /* Its length is asked for again when a plugin has changed the body. */
    int then = s->course->sees & SEES_RESPONSE_BODY && !keep_message(s, message, fields) ? -1 : show_response(s, &fields);
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
    if (!(c->sees & (SEES_RESPONSE | SEES_RESPONSE_BODY))) {
        PyObject *fields = is_read_later(c) ? PyDict_GetItemWithError(message, text.headers) : NULL;
        if (PyDict_GetItemWithError(message, text.trailers) || (fields && !PyList_CheckExact(fields)))
            return send_portably(s, message);
        if (PyErr_Occurred() || (fields && !keep_message(s, message, fields))) return NULL;
        if (!fields) put(&s->message, keep(message));
        return PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    }
    PyObject *shown = shown_start(s, message);
    if (!shown) {
        if (s->message) return answer_without_kernel(s, message);
        return PyErr_Occurred() ? NULL : send_portably(s, message);
    }
    PyObject *fields = c->sees & SEES_RESPONSE_BODY ? PyDict_GetItemWithError(message, text.headers) : NULL, *result;
    long long length = fields ? length_of(s, fields) : -1;
    s->is_unsized = length == -1;
    if (s->drops_body) {
        PyObject *nothing = make_body(text.empty);
        result = nothing ? make_sending(s, shown, nothing, 1) : NULL;
        Py_XDECREF(nothing);
    } else if (length >= 0) {
        /* It waits for the first verdict on the body, so that its length can be made true. */
        put(&s->held, keep(shown));
        result = make_sending(s, NULL, NULL, 0);
    } else {
        result = PyObject_CallFunctionObjArgs(s->server_send, shown, NULL);
    }
    Py_DECREF(shown);
    return result;
}

/* What an app sends after a response that ended with its head. */
static PyObject *drop_body(Stream *s, PyObject *message) {
    PyObject *more = PyDict_GetItemWithError(message, text.more_body);
    int goes_on = more ? PyObject_IsTrue(more) : 0;
    if (goes_on < 0 || PyErr_Occurred()) return NULL;
    s->drops_body = (char)goes_on;
    return make_sending(s, NULL, NULL, 0);
}

/* app_send(message): gives back an awaitable. */
PyObject *stream_send(PyObject *self, PyObject *message) {
    Stream *s = (Stream *)self;
    if (s->request) return PyObject_CallMethodObjArgs(s->request, text.send, message, NULL);
    if (!PyDict_CheckExact(message)) return send_portably(s, message);
    PyObject *type = PyDict_GetItemWithError(message, text.type);
    if (!type && PyErr_Occurred()) return NULL;
    Course *c = s->course;
    if (!s->message) return is_type(type, text.start, &c->start_type) ? send_start(s, message) : send_portably(s, message);
    if (is_type(type, text.body_type, &c->body_type))
        return s->drops_body               ? drop_body(s, message)
               : c->sees & SEES_RESPONSE_BODY ? send_piece(s, message)
                                            : send_body(s, message);
    return send_portably(s, message);
}

static PyMethodDef app_send = {"send", stream_send, METH_O, NULL};

PyObject *app_send_of(Stream *s) { return PyCFunction_New(&app_send, (PyObject *)s); }

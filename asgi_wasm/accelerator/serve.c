#include "accelerator.h"

/* --- the whole of it, step by step: what is awaited */

enum { LOOKING = STEPS, AHEAD, AHEAD_IN_PYTHON, IN_APP, SENDING_START, SENDING_BODY, IN_PYTHON };

/* A coroutine of Python's goes on: self.name(then, error), either of which may be None. */
static int in_python(Stream *s, PyObject *name, int then, PyObject *error) {
    PyObject *number = then < 0 ? keep(Py_None) : PyLong_FromLong(then);
    PyObject *coroutine = number ? PyObject_CallMethodObjArgs((PyObject *)s, name, number, error ? error : Py_None, NULL) : NULL;
    Py_XDECREF(number);
    return await_next(&s->awaits, coroutine, IN_PYTHON) ? 1 : -1;
}

static int in_python_after_error(Stream *s, PyObject *name) {
    PyObject *error = take_error();
    int more = in_python(s, name, -1, error);
    Py_XDECREF(error);
    return more;
}

static int send_part(Stream *s, PyObject *message, char step) {
    PyObject *sending = PyObject_CallFunctionObjArgs(s->server_send, message, NULL);
    return await_next(&s->awaits, sending, step) ? 1 : in_python_after_error(s, text.answer_raised);
}

/* A copy of the start message of an answer that was made before; of its list, too. */
static PyObject *copy_start(PyObject *answer) {
    PyObject *start = PyTuple_GetItem(answer, 0), *made = start ? PyDict_Copy(start) : NULL,
             *fields = made ? PyDict_GetItemWithError(made, text.headers) : NULL,
             *copy = fields ? PyList_GetSlice(fields, 0, PyList_Size(fields)) : NULL;
    if (!copy || PyDict_SetItem(made, text.headers, copy)) Py_CLEAR(made);
    Py_XDECREF(copy);
    return made;
}

PyObject *make_body(PyObject *content) {
    PyObject *made = PyDict_New();
    if (made && (PyDict_SetItem(made, text.type, text.body_type) || PyDict_SetItem(made, text.body, content) ||
                 PyDict_SetItem(made, text.more_body, Py_False)))
        Py_CLEAR(made);
    return made;
}

/* After a callback for an answer that was not straight: -1 for an exception. */
static int answer_otherwise(Stream *s, PyObject *name, int then) {
    return then < 0 ? in_python_after_error(s, name) : in_python(s, name, then, NULL);
}

/* Sends the answer that was found, as `Lent._send_answer` does. */
static int send_answer(Stream *s) {
    PyObject *start = copy_start(s->answer), *content = start ? PyTuple_GetItem(s->answer, 1) : NULL,
             *status = content ? PyDict_GetItemWithError(start, text.status) : NULL,
             *fields = status ? PyDict_GetItemWithError(start, text.headers) : NULL;
    long code = fields ? PyLong_AsLong(status) : 0;
    s->phase = IDLE;
    put(&s->message, start);
    put(&s->body, fields ? make_body(content) : NULL);
    if (!s->body) return in_python_after_error(s, text.answer_raised);
    if (s->course->sees & SEES_RESPONSE) {
        put(&s->status, PyBytes_FromFormat("%ld", code));
        Py_INCREF(fields);
        int then = s->status ? show_response(s, &fields) : -1;
        /* It is our own; what plugins are shown later is another list. */
        if (then == CALL_APP && s->response_changed) {
            start = PyDict_Copy(start);
            if (!start || PyDict_SetItem(start, text.headers, fields)) Py_CLEAR(start);
            if (!start) then = -1;
        } else {
            Py_INCREF(start);
        }
        Py_XDECREF(fields);
        if (then != CALL_APP) {
            Py_XDECREF(start);
            return answer_otherwise(s, text.answer_otherwise, then);
        }
    } else {
        Py_INCREF(start);
    }
    if (s->course->sees & SEES_RESPONSE_BODY) {
        put(&s->held, keep(start));
        int then = show_piece(s, RESPONSE_SLOT, content, 1, NULL);
        if (then != CALL_APP) {
            Py_DECREF(start);
            return answer_otherwise(s, text.answer_piece_otherwise, then);
        }
        put(&s->held, NULL);
    }
    s->bytes_out = PyBytes_Size(content);
    int more = send_part(s, start, SENDING_START);
    Py_DECREF(start);
    return more;
}

static int begin_app(Stream *s) {
    return await_next(&s->awaits, call_app(s), IN_APP) ? 1 : in_python_after_error(s, text.app_raised);
}

/* What is there of an upload is shown to plugins before the app is called (`Upload.read_ahead`). */
static int read_ahead(Stream *s) { return ask_ahead(s, AHEAD) ? 1 : in_python_after_error(s, text.answer_raised); }

static int after_reading_ahead(Stream *s, PyObject *reading) {
    int then = hear_ahead(s, reading);
    if (then < 0) return in_python_after_error(s, text.answer_raised);
    if (then == CALL_APP) return begin_app(s);
    if (then == READ_ON) return read_ahead(s);
    PyObject *left = keep(then == GONE ? Py_True : Py_False), *on = PyObject_CallMethodObjArgs((PyObject *)s, text.read_ahead, left, NULL);
    Py_DECREF(left);
    return await_next(&s->awaits, on, AHEAD_IN_PYTHON) ? 1 : -1;
}

static int serve(Stream *s) {
    int then = begin_stream(s);
    if (then < 0) return in_python_after_error(s, text.begin_otherwise);
    if (then == SEND_ANSWER) return send_answer(s);
    if (then != CALL_APP) return in_python(s, text.begin_otherwise, then, NULL);
    return reads_ahead(s) ? read_ahead(s) : begin_app(s);
}

/* Whether a client's message says that a request has no body. */
static int is_end(PyObject *message) {
    if (!PyDict_CheckExact(message) || !is_text(PyDict_GetItemWithError(message, text.type), text.request_type)) return 0;
    PyObject *body = PyDict_GetItemWithError(message, text.body), *more = PyDict_GetItemWithError(message, text.more_body);
    return (!body || (PyBytes_CheckExact(body) && !PyBytes_Size(body))) && (!more || more == Py_False);
}

/* After the client's first message (`asgi.messages.first`). */
static int look(Stream *s, PyObject *message) {
    if (!message) return -1;
    if (is_end(message)) {
        put(&s->first, keep(message));
        return serve(s);
    }
    PyErr_Clear();
    PyObject *served = PyObject_CallFunctionObjArgs(s->course->looked, s->scope, s->server_receive, s->server_send, message, NULL);
    return await_next(&s->awaits, served, IN_PYTHON) ? 1 : -1;
}

static int start(Stream *s) {
    if (!s->looks) return serve(s);
    return await_next(&s->awaits, PyObject_CallObject(s->server_receive, NULL), LOOKING) ? 1 : -1;
}

static int conclude(Stream *s) {
    int then = s->own && !s->request && share_scope(s) ? -1 : end_stream(s);
    if (then == CALL_APP) return 0;
    return then < 0 ? in_python_after_error(s, text.close_otherwise) : in_python(s, text.close_otherwise, then, NULL);
}

static int step(Stream *s, PyObject *result, PyObject *error) {
    switch (s->awaits.step) {
        case FRESH: return start(s);
        case LOOKING:
            if (error) raise_again(error);
            return look(s, result);
        case AHEAD: return error ? in_python(s, text.answer_raised, -1, error) : after_reading_ahead(s, result);
        case AHEAD_IN_PYTHON:
            if (error) raise_again(error);
            return error ? -1 : result == Py_True ? begin_app(s) : 0;
        case IN_APP: return error ? in_python(s, text.app_raised, -1, error) : conclude(s);
        case SENDING_START:
            return error ? in_python(s, text.answer_raised, -1, error) : send_part(s, s->body, SENDING_BODY);
        case SENDING_BODY: return error ? in_python(s, text.answer_raised, -1, error) : conclude(s);
        default:
            if (error) raise_again(error);
            return error ? -1 : 0;
    }
}

int stream_next(PyObject *self, PyObject *result, PyObject *error) {
    Stream *s = (Stream *)self;
    int more = step(s, result, error);
    if (more > 0 || !is_reading(s)) return more;
    /* What was begun to be read, and nobody has waited for. */
    PyObject *failure = more < 0 ? take_error() : NULL;
    more = in_python(s, text.stop_reading, -1, failure);
    Py_XDECREF(failure);
    return more;
}

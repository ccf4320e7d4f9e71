#include "accelerator.h"

#include <string.h>
#include <time.h>

int meaning_of(const Course *course, const char *name, Py_ssize_t size) {
    if (size < 64 && !(course->sizes >> size & 1)) return 0;
    for (Py_ssize_t i = 0; i < course->name_count; i++) {
        const known_name *known = course->names + i;
        if (known->size == size && !memcmp(known->data, name, (size_t)size)) return known->meaning;
    }
    return 0;
}

/* What of its headers decides how a request is shown. */
typedef struct {
    PyObject *fields;     /* those that plugins see; a new list */
    PyObject *host_field; /* borrowed */
    PyObject *length;     /* borrowed */
    int coded, keeps, has_type, cookies;
} seen;

/* The fields that are not hidden: of the first 64, ``hidden`` says which are. -1 with an exception. */
static int take_fields(Course *c, PyObject *all, Py_ssize_t count, uint64_t hidden, seen *s) {
    Py_ssize_t at = 0, size = PyList_Size(all);
    if (!(s->fields = PyList_New(count))) return -1;
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *pair = PyList_GetItem(all, i), *name, *value;
        if (i < 64) {
            if (hidden >> i & 1) continue;
        } else {
            if (!pair_of(pair, &name, &value)) return -1;
            if (meaning_of(c, bytes_in(name), Py_SIZE(name)) & HIDDEN) continue;
        }
        if (PyList_SetItem(s->fields, at++, keep(pair))) return -1;
    }
    return 0;
}

/* 0 when they are not what servers give: pairs of bytes in a list. -1 with an exception. */
static int look_at(Course *c, PyObject *all, seen *s) {
    Py_ssize_t count = PyList_Size(all), shown = count;
    uint64_t hidden = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GetItem(all, i), *name, *value;
        if (!pair_of(pair, &name, &value)) return 0;
        int meaning = meaning_of(c, bytes_in(name), Py_SIZE(name));
        if (meaning) {
            if (meaning & HOST && !s->host_field) s->host_field = pair;
            if (meaning & LENGTH) s->length = value;
            if (meaning & CODING) s->coded = 1;
            if (meaning & TYPE) s->has_type = 1;
            if (meaning & COOKIE) s->cookies++;
            if ((meaning & (HIDDEN | HOST)) == HIDDEN) s->keeps = 1;
            if (meaning & HIDDEN) {
                shown--;
                if (i < 64) hidden |= 1ull << i;
            }
        }
    }
    return take_fields(c, all, shown, hidden, s) ? -1 : 1;
}

/* What a scope tells, borrowed. */
typedef struct {
    PyObject *headers, *method, *scheme, *raw_path, *query_string, *version, *outer;
} told;

/* 0 for one of another type than HTTP; -1 with an exception. */
static int read_scope(PyObject *scope, told *t) {
    if (!is_text(PyDict_GetItemWithError(scope, text.type), text.http)) return PyErr_Occurred() ? -1 : 0;
    t->headers = PyDict_GetItemWithError(scope, text.headers);
    t->method = PyDict_GetItemWithError(scope, text.method);
    t->scheme = PyDict_GetItemWithError(scope, text.scheme);
    t->raw_path = PyDict_GetItemWithError(scope, text.raw_path);
    t->query_string = PyDict_GetItemWithError(scope, text.query_string);
    t->version = PyDict_GetItemWithError(scope, text.http_version);
    t->outer = PyDict_GetItemWithError(scope, text.asgi_wasm);
    return PyErr_Occurred() ? -1 : 1;
}

/* The first digit of HTTP's version, 1 for one that is not told; 0 for none. */
static int version_of(PyObject *version) {
    Py_ssize_t size;
    if (!version) return 1;
    const char *digits = PyUnicode_Check(version) ? PyUnicode_AsUTF8AndSize(version, &size) : NULL;
    if (!digits) PyErr_Clear();
    return digits && size ? *digits == '0' ? 1 : *digits - '0' : 0;
}

/* Of GET, HEAD, OPTIONS, TRACE and CONNECT: no body is likely, unless headers tell of one. */
static const char SELDOM_WITH_BODY[] = "GHOTC";

char is_one_of(PyObject *method, const char *letters) {
    const char *name = PyBytes_AsString(method);
    return name && *name && strchr(letters, *name) != NULL;
}

/* Whether the request ends with its headers; -1 where that takes more to tell. */
static int ends_with_headers(const seen *s, PyObject *method, int version) {
    char *data;
    Py_ssize_t size;
    if (s->coded) return 0;
    if (!s->length) return version == 1 || is_one_of(method, SELDOM_WITH_BODY);
    if (PyBytes_AsStringAndSize(s->length, &data, &size) || !size) return -1;
    for (Py_ssize_t i = 0; i < size; i++)
        if (data[i] < '0' || data[i] > '9') return -1;
    return size == 1 && *data == '0';
}

/* The bytes of a method or scheme; NULL for one that is unknown. Borrowed. Servers make the string anew for each request,
 * whose hash a dictionary would ask for. ``last``: the one that was found last, if it is to be tried first. */
static PyObject *known_text(Course *c, PyObject *found, const known_name **last) {
    Py_ssize_t size;
    const char *data = found && PyUnicode_CheckExact(found) ? PyUnicode_AsUTF8AndSize(found, &size) : NULL;
    if (!data) {
        PyErr_Clear();
        return NULL;
    }
    if (last && *last && (*last)->size == size && !memcmp((*last)->data, data, (size_t)size)) return (*last)->name;
    for (const known_name *known = c->text, *end = known + c->text_count; known < end; known++)
        if (known->size == size && !memcmp(known->data, data, (size_t)size)) {
            if (last) *last = known;
            return known->name;
        }
    return NULL;
}

/* The request's target, a new reference; NULL where the scope has it in another form. */
static PyObject *target_of(const told *t) {
    PyObject *path = t->raw_path, *query = t->query_string;
    if (!path || !PyBytes_CheckExact(path) || (query && !PyBytes_CheckExact(query))) return NULL;
    const char *data = bytes_in(path), *more = query ? bytes_in(query) : NULL;
    Py_ssize_t size = Py_SIZE(path), more_size = query ? Py_SIZE(query) : 0;
    if (memchr(data, '?', (size_t)size)) return NULL;
    if (!more_size) {
        Py_INCREF(path);
        return path;
    }
    PyObject *made = PyBytes_FromStringAndSize(NULL, size + 1 + more_size);
    char *to = made ? PyBytes_AsString(made) : NULL;
    if (!to) return NULL;
    memcpy(to, data, (size_t)size);
    to[size] = '?';
    memcpy(to + size + 1, more, (size_t)more_size);
    return made;
}

/* Whether the VM and the root context live, which may not after one of these has gone. */
static int is_whole(const filter *f) {
    PyObject *failure = PyObject_GetAttr(f->vm, text.failure);
    Py_XDECREF(failure);
    if (failure != Py_None) return 0;
    PyObject *deleted = PyObject_GetAttr(f->root, text.deleted);
    Py_XDECREF(deleted);
    return deleted == Py_False;
}

int is_ready(Course *c) {
    for (Py_ssize_t i = 0; i < c->count; i++) {
        const filter *f = c->filters + i;
        if (!f->kernel->call || PyDict_Size(f->lent) + PyDict_Size(f->contexts) >= f->most) return 0;
        if (f->kernel->stale && !is_whole(f)) return 0;
    }
    return 1;
}

/* The monotonic clock in nanoseconds; -1 with an exception. */
static long long now(Course *c) {
#ifdef __linux__
    struct timespec time;
    if (!c->clock) return clock_gettime(CLOCK_MONOTONIC, &time) ? 0 : 1000000000LL * time.tv_sec + time.tv_nsec;
#endif
    PyObject *told = PyObject_CallObject(c->clock, NULL);
    long long found = told ? PyLong_AsLongLong(told) : -1;
    Py_XDECREF(told);
    return found;
}

/* What plugins set of this request; 0 with an exception. None where they can set nothing. */
static int take_properties(Course *c, Stream *s, const told *t) {
    if (t->outer) s->properties = PyObject_CallFunctionObjArgs(c->properties_of, s->scope, NULL);
    else if (c->sees & SETS_PROPERTIES) s->properties = PyDict_New();
    else return 1;
    return s->properties != NULL;
}

static Stream *make_stream(Course *c, PyObject *const *arguments, const told *t, seen *s, PyObject *method, int ends, int looks, int is_upload) {
    PyObject *scheme = known_text(c, t->scheme, &c->last_scheme), *target, *name, *host;
    if (!scheme || !pair_of(s->host_field, &name, &host)) return NULL;
    if (!(target = target_of(t))) return NULL;
    PyTypeObject *type = (PyTypeObject *)(is_upload ? c->upload_type : c->type);
    Stream *stream = (Stream *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!stream) {
        Py_DECREF(target);
        return NULL;
    }
    stream->course = (Course *)keep((PyObject *)c);
    stream->scope = keep(arguments[0]);
    stream->server_receive = keep(arguments[1]);
    stream->server_send = keep(arguments[2]);
    stream->pseudo[0] = keep(host);
    stream->pseudo[1] = target;
    stream->pseudo[2] = keep(method);
    stream->pseudo[3] = keep(scheme);
    stream->fields = keep(s->fields);
    stream->host_field = keep(s->host_field);
    stream->ends = stream->client_ended = (char)ends;
    stream->has_type = (char)s->has_type;
    stream->keeps_fields = (char)s->keeps;
    stream->is_bodiless = is_one_of(method, "HC"); /* HEAD, CONNECT */
    stream->looks = (char)looks;
    stream->is_upload = (char)is_upload;
    stream->ids = c->count <= FEW ? stream->few : PyMem_Calloc((size_t)c->count, sizeof *stream->ids);
    if (!stream->ids) PyErr_NoMemory();
    if (!stream->ids || !take_properties(c, stream, t) || ((stream->began = now(c)) < 0 && PyErr_Occurred())) Py_CLEAR(stream);
    return stream;
}

static Stream *make_upload(Course *c, PyObject *const *arguments, const told *t, seen *s, PyObject *method, long long size) {
    Stream *made = make_stream(c, arguments, t, s, method, 0, 0, 1);
    Upload *upload = (Upload *)made;
    if (!made) return NULL;
    upload->size = size;
    upload->body_of = RESPONSE_SLOT;
    if (!(upload->unread = PyList_New(0))) Py_CLEAR(made);
    return made;
}

PyObject *enter_course(Course *c, PyObject *const *arguments) {
    PyObject *scope = arguments[0];
    told t = {0};
    if (!PyDict_CheckExact(scope) || !is_ready(c) || read_scope(scope, &t) <= 0) return NULL;
    PyObject *all = t.headers, *method = all && PyList_CheckExact(all) ? known_text(c, t.method, NULL) : NULL;
    int version = method ? version_of(t.version) : 0;
    Stream *made = NULL;
    seen s = {0};
    if (version > 0 && version <= 3 && look_at(c, all, &s) > 0 && s.host_field && (version == 1 || s.cookies < 2)) {
        int ends = ends_with_headers(&s, method, version);
        /* Where plugins look at bodies, one that no header tells of is looked for (`asgi.messages.first`). */
        int looks = c->sees & SEES_REQUEST_BODY && !s.length;
        /* The client's first message is at hand, and says that there is no body. */
        int may_look = version == 1 && is_one_of(method, SELDOM_WITH_BODY);
        int is_upload = ends == 0 && c->sees & SEES_REQUEST_BODY && (s.length || s.coded);
        long long size = is_upload ? size_told(c, all) : NO_SIZE;
        if (is_upload && size != ODD_SIZE) made = make_upload(c, arguments, &t, &s, method, size);
        else if ((!looks || may_look) && (ends > 0 || (ends == 0 && !(c->sees & SEES_REQUEST_BODY))))
            made = make_stream(c, arguments, &t, &s, method, ends, looks, 0);
    }
    Py_XDECREF(s.fields);
    return (PyObject *)made;
}

/* open(scope, receive, send): a request, or None for one that is not the accelerator's. */
PyObject *course_open(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "open(scope, receive, send)");
        return NULL;
    }
    PyObject *made = enter_course((Course *)self, arguments);
    if (made || PyErr_Occurred()) return made;
    Py_RETURN_NONE;
}

/* run(scope, receive, send): an awaitable that serves the request (`Lane.run`). */
PyObject *course_run(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Course *c = (Course *)self;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "run(scope, receive, send)");
        return NULL;
    }
    PyObject *made = enter_course(c, arguments);
    if (made || PyErr_Occurred()) return made;
    return PyObject_CallFunctionObjArgs(c->otherwise, arguments[0], arguments[1], arguments[2], NULL);
}

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

long long length_from(const char *digits, Py_ssize_t size) {
    long long length = 0;
    if (!size || size > 18 || (*digits == '0' && size > 1)) return ODD_SIZE;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (digits[i] < '0' || digits[i] > '9') return ODD_SIZE;
        length = 10 * length + digits[i] - '0';
    }
    return length;
}

int has_capitals(const char *data, Py_ssize_t size) {
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    Py_ssize_t i = 0;
    /* Eight at a time; what does not come out even is looked at together with what was before it. */
    for (; size >= 8 && i < size; i += 8) {
        uint64_t bytes, low;
        memcpy(&bytes, data + (i + 8 > size ? size - 8 : i), 8);
        low = bytes & ~high;
        if (((low + (0x80 - 'A') * ones) ^ (low + (0x7f - 'Z') * ones)) & ~bytes & high) return 1;
    }
    for (; i < size; i++)
        if (data[i] >= 'A' && data[i] <= 'Z') return 1;
    return 0;
}

long long size_told(const Course *course, PyObject *fields) {
    Py_ssize_t count = PyList_Size(fields);
    long long told = NO_SIZE;
    int is_coded = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        char *n, *v;
        Py_ssize_t size, digits;
        if (!pair_of(PyList_GetItem(fields, i), &name, &value) || PyBytes_AsStringAndSize(name, &n, &size) ||
            PyBytes_AsStringAndSize(value, &v, &digits) || has_capitals(n, size))
            return ODD_SIZE;
        int meaning = meaning_of(course, n, size);
        is_coded |= meaning & CODING;
        /* Who waits to be asked is not read ahead. */
        if (meaning & EXPECT) return ODD_SIZE;
        if (meaning & LENGTH && (told != NO_SIZE || (told = length_from(v, digits)) == ODD_SIZE)) return ODD_SIZE;
    }
    return is_coded && told != NO_SIZE ? ODD_SIZE : told;
}

static int is_padded(PyObject *value) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &data, &size)) return -1;
    return size && (*data == ' ' || *data == '\t' || data[size - 1] == ' ' || data[size - 1] == '\t');
}

/* The pair with its value stripped: a new reference. */
static PyObject *stripped(PyObject *name, PyObject *value) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &data, &size)) return NULL;
    for (; size && (*data == ' ' || *data == '\t'); size--) data++;
    for (; size && (data[size - 1] == ' ' || data[size - 1] == '\t');) size--;
    PyObject *bare = PyBytes_FromStringAndSize(data, size), *made = bare ? PyTuple_Pack(2, name, bare) : NULL;
    Py_XDECREF(bare);
    return made;
}

int trim(PyObject *fields) {
    Py_ssize_t count = PyList_Size(fields);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        int padded = pair_of(PyList_GetItem(fields, i), &name, &value) ? is_padded(value) : 0;
        PyObject *own = padded > 0 ? stripped(name, value) : NULL;
        if (padded < 0 || (padded && !own) || (own && PyList_SetItem(fields, i, own))) return -1;
    }
    return 0;
}

/* --- opening a request */

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
        /* Where plugins look at bodies, one that no header tells of is looked for (`asgi.first`). */
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
static PyObject *course_open(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "open(scope, receive, send)");
        return NULL;
    }
    PyObject *made = enter_course((Course *)self, arguments);
    if (made || PyErr_Occurred()) return made;
    Py_RETURN_NONE;
}

/* run(scope, receive, send): an awaitable that serves the request (`Lane.run`). */
static PyObject *course_run(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    Course *c = (Course *)self;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "run(scope, receive, send)");
        return NULL;
    }
    PyObject *made = enter_course(c, arguments);
    if (made || PyErr_Occurred()) return made;
    return PyObject_CallFunctionObjArgs(c->otherwise, arguments[0], arguments[1], arguments[2], NULL);
}

/* --- the type */

static int take_names(Course *c, PyObject *names) {
    Py_ssize_t at = 0;
    PyObject *name, *meaning;
    if (!(c->names = PyMem_Calloc((size_t)PyDict_Size(names) + 1, sizeof *c->names))) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(names, &at, &name, &meaning)) {
        known_name *known = c->names + c->name_count;
        char *data;
        if (PyBytes_AsStringAndSize(name, &data, &known->size)) return -1;
        known->meaning = (int)PyLong_AsLong(meaning);
        if (PyErr_Occurred()) return -1;
        known->name = keep(name);
        known->data = data;
        if (known->size < 64) c->sizes |= 1ull << known->size;
        c->name_count++;
    }
    return 0;
}

static int take_texts(Course *c) {
    Py_ssize_t at = 0;
    PyObject *told, *bytes;
    if (!(c->text = PyMem_Calloc((size_t)PyDict_Size(c->texts) + 1, sizeof *c->text))) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(c->texts, &at, &told, &bytes)) {
        known_name *known = c->text + c->text_count;
        if (!(known->data = PyUnicode_AsUTF8AndSize(told, &known->size))) return -1;
        /* The dictionary keeps both. */
        known->name = bytes;
        c->text_count++;
    }
    return 0;
}

/* One filter: (kernel, post, vm, root, lent, contexts, effects, root_id, most, takes). */
static int take_filter(filter *f, PyObject *told) {
    Kernel *kernel;
    if (!PyArg_ParseTuple(told, "O!OOOO!O!O!Ini", kernel_type, &kernel, &f->post, &f->vm, &f->root, &PyDict_Type, &f->lent,
                          &PyDict_Type, &f->contexts, &PyList_Type, &f->effects, &f->root_id, &f->most, &f->takes))
        return -1;
    f->kernel = (Kernel *)keep((PyObject *)kernel);
    keep(f->post); keep(f->vm); keep(f->root); keep(f->lent); keep(f->contexts); keep(f->effects);
    return 0;
}

static int take_filters(Course *c, PyObject *told) {
    Py_ssize_t count = PyTuple_Size(told);
    if (!(c->filters = PyMem_Calloc((size_t)count + 1, sizeof *c->filters))) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        filter made = {0};
        if (take_filter(&made, PyTuple_GetItem(told, i))) return -1;
        c->filters[c->count++] = made;
        c->takes |= made.takes;
    }
    return 0;
}

/* Course(type, upload_type, app, lane, posts, otherwise, looked, filters, sees, names, texts, answers, properties, no_properties,
 *        properties_of, guard, pairs, clock, begin_reading) */
static int course_init(PyObject *self, PyObject *arguments, PyObject *keywords) {
    Course *c = (Course *)self;
    PyObject *filters, *names;
    (void)keywords;
    if (c->type) {
        PyErr_SetString(PyExc_TypeError, "a course is made once");
        return -1;
    }
    PyObject *type, *upload, *begin_reading, *app, *lane, *posts, *otherwise, *looked, *texts, *answers, *properties, *no_properties, *properties_of, *guard,
        *pairs, *clock;
    if (!PyArg_ParseTuple(arguments, "O!O!OOO!OOO!iO!O!O!O!OOOOOO", &PyType_Type, &type, &PyType_Type, &upload, &app, &lane, &PyList_Type, &posts,
                          &otherwise, &looked, &PyTuple_Type, &filters, &c->sees, &PyDict_Type, &names, &PyDict_Type, &texts,
                          &PyDict_Type, &answers, &PyType_Type, &properties, &no_properties, &properties_of, &guard, &pairs,
                          &clock, &begin_reading))
        return -1;
    if (!PyType_IsSubtype((PyTypeObject *)type, stream_type) || !PyType_IsSubtype((PyTypeObject *)upload, upload_type)) {
        PyErr_SetString(PyExc_TypeError, "the types of requests are to be a subclass of Stream and one of Upload");
        return -1;
    }
    c->type = keep(type);
    c->upload_type = keep(upload);
    c->begin_reading = keep(begin_reading);
    c->app = keep(app);
    c->lane = keep(lane);
    c->posts = keep(posts);
    c->otherwise = keep(otherwise);
    c->looked = keep(looked);
    c->texts = keep(texts);
    c->answers = keep(answers);
    c->properties = keep(properties);
    c->no_properties = keep(no_properties);
    c->properties_of = keep(properties_of);
    c->guard = keep(guard);
    c->pairs = keep(pairs);
#ifdef __linux__
    if (clock == Py_None) clock = NULL;
#endif
    c->clock = keep(clock);
    return take_names(c, names) || take_texts(c) || take_filters(c, filters) ? -1 : 0;
}

static int course_traverse(PyObject *self, visitproc visit, void *arg) {
    Course *c = (Course *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->type);
    Py_VISIT(c->upload_type);
    Py_VISIT(c->begin_reading);
    Py_VISIT(c->app);
    Py_VISIT(c->lane);
    Py_VISIT(c->posts);
    Py_VISIT(c->otherwise);
    Py_VISIT(c->looked);
    Py_VISIT(c->texts);
    Py_VISIT(c->answers);
    Py_VISIT(c->properties);
    Py_VISIT(c->no_properties);
    Py_VISIT(c->last.answer);
    Py_VISIT(c->properties_of);
    Py_VISIT(c->guard);
    Py_VISIT(c->pairs);
    Py_VISIT(c->clock);
    for (Py_ssize_t i = 0; i < c->count; i++) {
        filter *f = c->filters + i;
        Py_VISIT((PyObject *)f->kernel);
        Py_VISIT(f->post);
        Py_VISIT(f->vm);
        Py_VISIT(f->root);
        Py_VISIT(f->lent);
        Py_VISIT(f->contexts);
        Py_VISIT(f->effects);
    }
    return 0;
}

/* Nothing that a request of it may still use: what makes a cycle (the lane, which keeps it) does so by way of these. */
static int course_clear(PyObject *self) {
    Course *c = (Course *)self;
    Py_CLEAR(c->lane);
    Py_CLEAR(c->otherwise);
    Py_CLEAR(c->looked);
    return 0;
}

static void course_dealloc(PyObject *self) {
    Course *c = (Course *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    for (Py_ssize_t i = 0; i < c->count; i++) {
        filter *f = c->filters + i;
        Py_CLEAR(f->kernel); Py_CLEAR(f->post); Py_CLEAR(f->vm); Py_CLEAR(f->root); Py_CLEAR(f->lent); Py_CLEAR(f->contexts); Py_CLEAR(f->effects);
    }
    for (Py_ssize_t i = 0; i < c->name_count; i++) Py_CLEAR(c->names[i].name);
    PyMem_Free(c->filters);
    PyMem_Free(c->names);
    PyMem_Free(c->text);
    Py_CLEAR(c->type); Py_CLEAR(c->upload_type); Py_CLEAR(c->begin_reading);
    Py_CLEAR(c->app); Py_CLEAR(c->lane); Py_CLEAR(c->posts); Py_CLEAR(c->texts); Py_CLEAR(c->answers);
    Py_CLEAR(c->otherwise); Py_CLEAR(c->looked); Py_CLEAR(c->properties); Py_CLEAR(c->no_properties); Py_CLEAR(c->last.answer);
    PyMem_Free(c->last.bytes);
    Py_CLEAR(c->start_type); Py_CLEAR(c->body_type);
    Py_CLEAR(c->properties_of); Py_CLEAR(c->guard); Py_CLEAR(c->pairs); Py_CLEAR(c->clock);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {{"open", (PyCFunction)(void *)course_open, METH_FASTCALL, NULL},
                                {"run", (PyCFunction)(void *)course_run, METH_FASTCALL, NULL},
                                {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_methods, methods},
                              {Py_tp_init, (void *)course_init},
                              {Py_tp_traverse, (void *)course_traverse},
                              {Py_tp_clear, (void *)course_clear},
                              {Py_tp_dealloc, (void *)course_dealloc},
                              {Py_tp_new, (void *)PyType_GenericNew},
                              {0, NULL}};
static PyType_Spec spec = {"asgi_wasm.accelerator._accelerator.Course", sizeof(Course), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

PyTypeObject *make_course_type(void) { return (PyTypeObject *)PyType_FromSpec(&spec); }

#include "accelerator.h"

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

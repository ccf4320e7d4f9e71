#include "accelerator.h"

strings text;
PyObject *coroutine_type, *exit_stacks[2];
PyTypeObject *kernel_type, *course_type, *stream_type, *sending_type, *upload_type, *receiving_type, *door_type, *ticker_type;

static const struct {
    PyObject **to;
    const char *from;
} texts[] = {
    {&text.headers, "headers"}, {&text.method, "method"}, {&text.scheme, "scheme"}, {&text.raw_path, "raw_path"},
    {&text.query_string, "query_string"}, {&text.http_version, "http_version"}, {&text.type, "type"},
    {&text.status, "status"}, {&text.body, "body"}, {&text.more_body, "more_body"}, {&text.extensions, "extensions"},
    {&text.trailers, "trailers"}, {&text.start, "http.response.start"}, {&text.body_type, "http.response.body"},
    {&text.asgi_wasm, "asgi_wasm"}, {&text.failure, "failure"}, {&text.deleted, "deleted"},
    {&text.values, "_values"}, {&text.next_context_id, "next_context_id"}, {&text.send, "send"}, {&text.perform, "perform"},
    {&text.check_thread, "check_thread"}, {&text.app_receive, "app_receive"}, {&text.send_portably, "send_portably"},
    {&text.answer_without_kernel, "answer_without_kernel"}, {&text.piece_otherwise, "piece_otherwise"}, {&text.begin_otherwise, "begin_otherwise"},
    {&text.close_otherwise, "close_otherwise"}, {&text.app_raised, "app_raised"}, {&text.answer_raised, "answer_raised"},
    {&text.end_otherwise, "end_otherwise"}, {&text.throw_, "throw"}, {&text.close, "close"},
    {&text.answer_otherwise, "answer_otherwise"},
    {&text.answer_piece_otherwise, "answer_piece_otherwise"},
    {&text.piece_misfits, "piece_misfits"}, {&text.request_type, "http.request"},
    {&text.receive, "receive"}, {&text.heard, "heard"}, {&text.heard_nothing, "heard_nothing"}, {&text.hear, "hear"},
    {&text.hear_after, "hear_after"}, {&text.hear_unread, "hear_unread"}, {&text.read_ahead, "read_ahead"}, {&text.stop_reading, "stop_reading"},
    {&text.http, "http"}, {&text.serve, "serve_connection"}, {&text.done, "done"}, {&text.result, "result"},
    {&text.running_loop, "__asyncio_running_event_loop__"}};

static int make_texts(void) {
    static const char *const pseudo[MOST_PSEUDO] = {":authority", ":path", ":method", ":scheme"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!*texts[i].to && !(*texts[i].to = PyUnicode_InternFromString(texts[i].from))) return -1;
    for (int i = 0; i < MOST_PSEUDO; i++)
        if (!text.pseudo[i] && !(text.pseudo[i] = PyBytes_FromString(pseudo[i]))) return -1;
    if (!text.empty && !(text.empty = PyBytes_FromStringAndSize(NULL, 0))) return -1;
    return text.status_name || (text.status_name = PyBytes_FromString(":status")) ? 0 : -1;
}

static PyObject *type_of(const char *module, const char *name) {
    PyObject *imported = PyImport_ImportModule(module), *type = imported ? PyObject_GetAttrString(imported, name) : NULL;
    Py_XDECREF(imported);
    return type;
}

/* The types are the process's: they hold nothing that changes. */
static int make_types(void) {
    return (coroutine_type || (coroutine_type = type_of("types", "CoroutineType"))) &&
                   (exit_stacks[0] || (exit_stacks[0] = type_of("contextlib", "AsyncExitStack"))) &&
                   (exit_stacks[1] || (exit_stacks[1] = type_of("contextlib", "ExitStack"))) && (kernel_type || (kernel_type = make_kernel_type())) &&
                   (course_type || (course_type = make_course_type())) &&
                   (stream_type || (stream_type = make_stream_type())) &&
                   (sending_type || (sending_type = make_sending_type())) &&
                   (upload_type || (upload_type = make_upload_type())) &&
                   (receiving_type || (receiving_type = make_receiving_type())) && (door_type || (door_type = make_door_type())) &&
                   (ticker_type || (ticker_type = make_ticker_type()))
               ? 0
               : -1;
}

static int add(PyObject *module, const char *name, PyTypeObject *type) {
    Py_INCREF(type);
    if (!PyModule_AddObject(module, name, (PyObject *)type)) return 0;
    Py_DECREF(type);
    return -1;
}

/* loop_mark(): where CPython before 3.12 keeps this thread's running event loop: one object for as long as a loop runs, and
 * None where there is none. It asks the system for the process's id, too, each time that it is asked itself. */
PyObject *loop_mark(PyObject *self, PyObject *unused) {
    PyObject *kept = PyThreadState_GetDict(), *mark = kept ? PyDict_GetItemWithError(kept, text.running_loop) : NULL;
    (void)self;
    (void)unused;
    if (!mark && PyErr_Occurred()) return NULL;
    return keep(mark ? mark : Py_None);
}

static PyMethodDef functions[] = {{"loop_mark", loop_mark, METH_NOARGS, NULL},
                                  {"request_type", request_type, METH_O, NULL},
                                  {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_accelerator", NULL, -1, functions, NULL, NULL, NULL, NULL};

#ifndef SOURCES
#error "SOURCES is to be the number of sources.py, by which Python knows this build: see .ci/build_accelerator.py"
#endif

PyMODINIT_FUNC PyInit__accelerator(void) {
    PyObject *module = PyModule_Create(&definition), *version = PySys_GetObject("hexversion");
    counts_together = version && PyLong_AsLong(version) < 0x030c0000;
    if (!module || find_offsets() || make_texts() || make_types() || add(module, "Kernel", kernel_type) || add(module, "Course", course_type) ||
        add(module, "Stream", stream_type) || add(module, "Upload", upload_type) || add(module, "Door", door_type) ||
        add(module, "Ticker", ticker_type) ||
        PyModule_AddIntConstant(module, "WINDOW_SIZE", sizeof(window)) ||
        PyModule_AddIntConstant(module, "SOURCES", SOURCES)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}

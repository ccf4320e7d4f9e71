/* What each file of the accelerator offers to the others; included by `accelerator.h`. */
#pragma once

extern PyTypeObject *kernel_type, *course_type, *stream_type, *sending_type, *upload_type, *receiving_type, *door_type, *ticker_type;
PyTypeObject *make_kernel_type(void);
PyTypeObject *make_course_type(void);
PyTypeObject *make_stream_type(void);
/* request_type(base): the type of requests, of `Stream` and a class in Python without fields. */
PyObject *request_type(PyObject *module, PyObject *base);
PyTypeObject *make_sending_type(void);
PyTypeObject *make_upload_type(void);
PyTypeObject *make_receiving_type(void);
PyTypeObject *make_door_type(void);
PyTypeObject *make_ticker_type(void);
/* See module.c. */
PyObject *loop_mark(PyObject *self, PyObject *unused);

static inline PyObject *keep(PyObject *object) {
    Py_XINCREF(object);
    return object;
}

static inline void put(PyObject **field, PyObject *object) {
    PyObject *old = *field;
    *field = object;
    Py_XDECREF(old);
}

/* heads.c */

extern Py_ssize_t bytes_at, items_at;
/* Before anything else here; -1 with an exception. */
int find_offsets(void);

/* Of what is exactly bytes; `Py_SIZE` tells how many. */
static inline const char *bytes_in(PyObject *object) { return (const char *)object + bytes_at; }

static inline PyObject *const *items_in(PyObject *tuple) { return (PyObject **)((char *)tuple + items_at); }

/* Name and value of a pair, borrowed; 0 when it is no tuple of two bytes. Raises nothing. */
static inline int pair_of(PyObject *pair, PyObject **name, PyObject **value) {
    if (!PyTuple_CheckExact(pair) || Py_SIZE(pair) != 2) return 0;
    PyObject *const *items = items_in(pair);
    *name = items[0];
    *value = items[1];
    return PyBytes_CheckExact(*name) && PyBytes_CheckExact(*value);
}

/* Writes names and values one after the other from ``used`` on in the arena, and where each lies (the kernel's `spread`).
 * How many pairs there are, and their bytes; -1 when they do not fit, are none, or when values are to be joined first.
 * Raises nothing. */
int write_down(Kernel *kernel, int which, uint32_t used, const headers *lent, uint32_t *size);

/* kernel.c */

/* Whether this thread may enter, at this depth of calls; 0 with an exception. To be asked before anything is done. */
int may_enter(Kernel *kernel);
/* Of these, the thread alone. */
int is_here(Kernel *kernel);
/* Calls the kernel, which is lent these; -1 with an exception. `news` is what it gives back (`layout.h`). */
int cross(Kernel *kernel, const headers *request, const headers *response, int which, slot *slots, size_t count,
          uint32_t *news);
/* Keeps the piece that the next callback is shown, or none. It must be bytes. */
void keep_piece(Kernel *kernel, PyObject *piece);
/* Repeats the last callback's changes of this slot on a list that is our own; -1 with an exception. */
int repeat(Kernel *kernel, int which, PyObject *fields);
/* The place of an address of the kernel's, if ``size`` bytes there are inside of the window; else NULL. */
const char *place(const Kernel *kernel, uint32_t address, uint64_t size);
/* The last callback's local response as a tuple (`Local`); NULL with an exception. */
PyObject *local_of(Kernel *kernel);

/* The kernel's imports, of the form that wasmtime calls. */
void *fill_map(void *env, void *caller, slot *slots, size_t count);
void *give_body(void *env, void *caller, slot *slots, size_t count);
void *take_body(void *env, void *caller, slot *slots, size_t count);

/* course.c */

/* Whether every VM may be entered, and has room for one more request. */
int is_ready(Course *c);
/* A request of (scope, receive, send), if the scope is of HTTP; NULL for one that is not the accelerator's, or with an
 * exception. */
PyObject *enter_course(Course *c, PyObject *const *arguments);

int meaning_of(const Course *course, const char *name, Py_ssize_t size);
/* Whether a known method begins with one of these letters; no two that matter here begin alike. */
char is_one_of(PyObject *method, const char *letters);
PyObject *course_open(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *course_run(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

/* fields.c */

/* The length that a head says, NO_SIZE for none; ODD_SIZE where that is not for the lane to judge (`uploads.size_told`). */
long long size_told(const Course *course, PyObject *fields);
/* A content-length as a number; ODD_SIZE for one that is written in another way than the ordinary. */
long long length_from(const char *digits, Py_ssize_t size);
/* Whether there is an upper-case letter. */
int has_capitals(const char *data, Py_ssize_t size);
/* Takes the white space around values of a list that is our own; -1 with an exception. */
int trim(PyObject *fields);

/* stream.c */

/* Lends the request's headers as plugins left them; a response's, with the status that it has. */
void show_request(const Stream *s, headers *lent);
void show_status(PyObject *status, PyObject *fields, headers *lent);

/* The last callback did what takes more than to repeat its changes: it is Python's. */
int is_odd(const Stream *s, const filter *f, uint32_t news);
/* Shows the headers to each plugin (`LentRequest._show_request`); -1 with an exception. */
int begin_stream(Stream *s);
/* What the app gives back for the scope that is its own. */
PyObject *call_app(Stream *s);
/* Shows a piece of a body to the plugins that look at those: `CALL_APP` when they let it pass. `changed`, a new reference,
 * is what they made of it so far, or NULL; where that is NULL, none may change it here. `which` is a slot. */
int show_piece(Stream *s, int which, PyObject *data, int ends, PyObject **changed);
/* The headers of an app's start message, in a list that is our own from the first change on, shown to plugins. */
/* Whether some callback may read the response's headers when they have been sent. */
int is_read_later(const Course *c);
int show_response(Stream *s, PyObject **fields);

/* stream_end.c */

/* Runs the log, and ends the contexts; what becomes of the request. */
int end_stream(Stream *s);
/* Lets middlewares outside read what the app added to its scope (`own_scope.share_scope`); -1 with an exception. */
int share_scope(Stream *s);

/* serve.c */

/* A `next_step` of a Stream. */
int stream_next(PyObject *self, PyObject *result, PyObject *error);

/* The message of a body that is whole. */
PyObject *make_body(PyObject *content);

/* send.c */

PyObject *app_send_of(Stream *s);
/* The message with another body: a new reference. */
PyObject *with_body(PyObject *message, PyObject *body);
/* Whether an object is this string. */
int is_text(PyObject *object, PyObject *wanted);
PyObject *stream_send(PyObject *self, PyObject *message);

/* sending.c */

/* An awaitable that sends both messages, of which either may be NULL, and ends the stream if that is said. */
PyObject *make_sending(Stream *s, PyObject *start, PyObject *message, int ends);

/* hearing.c */

/* `Upload.hear`: what the app is to have of a message; NULL for nothing, or with an exception. */
PyObject *hear(Stream *s, PyObject *message);
/* The same by the method of this name, after a piece that is not straight. */
PyObject *hear_in_python(Stream *s, PyObject *name, PyObject *message, PyObject *error);
void clear_upload(Upload *u);
/* Whether plugins are to see what is there of the body before the app is called. */
int reads_ahead(const Stream *s);
/* Begins to; 0 with an exception. */
int ask_ahead(Stream *s, char step);
/* After a call of `receive` was begun: CALL_APP, READ_ON, or Python is to go on: HAND_BACK, or GONE where the request has
 * left with what it gave. -1 with an exception. */
int hear_ahead(Stream *s, PyObject *reading);

/* receive.c */

/* The app's `receive`. */
PyObject *app_receive_of(Stream *s);

/* awaiting.c */

/* Sets what is awaited next; 0 with an exception. Steals the reference; NULL is an exception already. */
int await_next(awaiting *a, PyObject *awaitable, char step);
/* Fetches the exception that is set, normalized, with its traceback; a new reference. */
PyObject *take_error(void);
void raise_again(PyObject *error);
PySendResult go_on(PyObject *self, awaiting *a, next_step next, PyObject *value, PyObject **result);
PyObject *awaiting_next(PyObject *self, awaiting *a, next_step next);
PyObject *awaiting_send(PyObject *self, awaiting *a, next_step next, PyObject *value);
PyObject *awaiting_throw(PyObject *self, awaiting *a, next_step next, PyObject *arguments);
PyObject *awaiting_close(PyObject *self, awaiting *a, next_step next);

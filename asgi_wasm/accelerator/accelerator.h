/* The accelerator: what `asgi_wasm.asgi.lent` and `portable` do around a crossing into the guest, in C.
 *
 * It links with nothing but Python: wasmtime's functions are handed over as addresses. It knows no rule that is not
 * told to it (names, texts, what a plan says), and whatever it does not know it hands back: `run` calls Python's way for
 * the whole request, and a request that began here goes on in the methods of `Lent`, from the same fields.
 *
 *     heads.c             how a head is written down for the kernel
 *     kernel.c   Kernel   one VM's kernel: the lent headers, the way in, what a callback changed
 *     fields.c            what the fields of a head say
 *     course.c   Course   what is known of all requests of one chain of filters; opens a request
 *     course_type.c       how a Course is told that
 *     stream.c            what is done around a request's crossings
 *     serve.c    Stream   one request, an awaitable; the base of a Python class
 *     send.c              the app's `send`, and the end of a stream
 *     receive.c  Upload   a Stream with a body that plugins look at: what is read before the app, and the app's `receive`
 *     door.c     Door     what a server calls
 *     awaiting.c          how one awaitable in C awaits others, one after the other
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>
#include <stdint.h>
#include <structmember.h>

#include "../host/resident/layout.h"

/* An argument or result of a guest's function. */
typedef union {
    uint32_t i32;
    uint64_t raw[2];
} slot;
typedef void *(*call_function)(void *store, const void *function, slot *slots, size_t count, void **trap);

enum { REQUEST_CROSSING, RESPONSE_CROSSING, LOG_CROSSING, FINISH_CROSSING, END_CROSSING, RESPONSE_BODY_CROSSING, REQUEST_BODY_CROSSING, CROSSINGS };
enum { REQUEST_SLOT, RESPONSE_SLOT };
enum { MOST_PSEUDO = 4 };

/* The headers that are lent to a callback: pseudo-headers, then a list of pairs of bytes. Borrowed for a crossing. */
typedef struct {
    PyObject *names[MOST_PSEUDO], *values[MOST_PSEUDO];
    int pseudos;
    PyObject *fields;
} headers;

/* A pair of a header that was made before, and what it was made of. */
enum { MADE_SIZE = 48, MOST_MADE = 4 };
typedef struct {
    PyObject *pair;
    uint32_t name_size, value_size;
    char bytes[MADE_SIZE];
} made_pair;

typedef struct {
    PyObject_HEAD
    call_function call; /* NULL: it is closed, or was never attached */
    void *store;
    const void *functions[CROSSINGS];
    window *w;
    uint32_t address; /* of the window, in the kernel's memory */
    unsigned long thread;
    uint64_t *entry; /* by which the time limit knows one call from another (`engines.base.Native`) */
    PyObject *owner;    /* keeps the store alive during a call */
    PyObject *vm;       /* asked when another thread than before calls */
    PyObject *fill;     /* Python's `fill`, for what was not lent here */
    PyObject *fail;     /* raises what an error and a trap of the engine mean */
    PyObject *headroom; /* raises RecursionError where a callback would find too few levels */
    PyObject *realtime; /* tells nanoseconds since the epoch */
    PyObject *piece;    /* of a body, in bytes, that a callback is shown; NULL: none */
    const char *piece_data;
    uint64_t piece_size;
    uint64_t body_bytes; /* no longer may a plugin make a body */
    char *guest; /* where the plugin's memory begins */
    const headers *lent[SLOTS];
    made_pair made[MOST_MADE]; /* by slot and place among the changes: most plugins add the same to every request */
    char lends; /* a Stream's crossing runs: what it does not lend, nobody does */
    char gives; /* bits by slot: the map is better given before the callback, which asks for it */
    char stale; /* the VM has failed, or a root context of it is gone */
} Kernel;

/* What names of headers mean: bits, as `native.py` has them. */
enum {
    HIDDEN = 1, /* plugins do not see it in a request */
    HOST = 2,   /* it is :authority to them */
    LENGTH = 4, /* content-length */
    CODING = 8, /* transfer-encoding */
    TYPE = 16,  /* it may ask for an answer in gRPC's form */
    COOKIE = 32, /* HTTP/2 cuts it into pieces */
    EXPECT = 64
};
typedef struct {
    PyObject *name;
    const char *data;
    Py_ssize_t size;
    int meaning;
} known_name;

/* What a filter's callbacks are (`Post.takes_*`). */
enum { TAKES_REQUEST = 1, TAKES_RESPONSE = 2, TAKES_LOG = 4, TAKES_END = 8, TAKES_RESPONSE_BODY = 16, TAKES_REQUEST_BODY = 32 };
typedef struct {
    Kernel *kernel;
    PyObject *post, *vm, *root, *lent, *contexts, *effects;
    uint32_t root_id;
    Py_ssize_t most;
    int takes;
} filter;

enum { SEES_RESPONSE = 1, SEES_REQUEST_BODY = 2, SEES_RESPONSE_BODY = 4, SETS_PROPERTIES = 8, CHANGES_REQUEST_BODY = 16 };

/* The last local response that was found among the answers, as it lay in the window. */
typedef struct {
    uint32_t status, sizes[3];
    char *bytes;
    PyObject *answer;
} last_answer;

typedef struct {
    PyObject_HEAD
    PyObject *type; /* of the requests, a subclass of Stream */
    PyObject *upload_type; /* of those with a body that plugins look at, a subclass of Upload */
    PyObject *app, *lane, *posts;
    PyObject *otherwise; /* serves a request that is not the accelerator's */
    PyObject *looked;    /* serves one of which the client has said something already that is more than an end */
    filter *filters;
    Py_ssize_t count;
    int sees, takes;
    known_name *names;
    Py_ssize_t name_count;
    uint64_t sizes;       /* of these names, by bits */
    PyObject *texts;      /* methods and schemes -> bytes */
    known_name *text;     /* the same: each key as UTF-8, and its bytes */
    Py_ssize_t text_count;
    PyObject *answers;    /* local responses that were made before -> their messages */
    PyObject *properties; /* the type of what an app sees of a request's properties */
    PyObject *no_properties; /* what it sees where no plugin can set any */
    PyObject *properties_of; /* those of a request that went through another of our middlewares */
    PyObject *guard;      /* makes the scope of a request whose response's body some plugin sees */
    PyObject *pairs;      /* makes the pairs of an odd start message */
    PyObject *clock;      /* nanoseconds; NULL: the system's monotonic clock is read here */
    PyObject *begin_reading; /* begins a call of `receive` (`asgi.first`) */
    last_answer last;
    PyObject *start_type, *body_type; /* of the last messages of apps: see `send.c` */
    const known_name *last_scheme;
} Course;

/* What is awaited in turn; `step` is the awaiting object's own affair, but for the first and the last. */
enum { FRESH, OVER, STEPS };
typedef struct {
    PyObject *inner, *result; /* the second: what comes of it in the end; NULL: None */
    char step, is_running;
} awaiting;
/* What follows on a step that gave `result`, or raised `error` (the other is NULL; both are before the first): 1 with
 * `inner` set, 0 when that was all, -1 with an exception. */
typedef int (*next_step)(PyObject *self, PyObject *result, PyObject *error);

enum { FEW = 4 };
/* See `asgi_wasm.asgi.lent.Lent`, whose fields these are. */
typedef struct {
    PyObject_HEAD
    awaiting awaits;
    Course *course;
    PyObject *scope, *own, *server_receive, *server_send, *message, *held, *first, *answer, *request, *properties, *verdict;
    /* Headers as plugins left them; pseudo-headers in the order of `text.pseudo`. */
    PyObject *fields, *response_fields, *pseudo[MOST_PSEUDO], *status, *host_field;
    /* Of an answer, that is to be sent after its start. */
    PyObject *body;
    long long began, bytes_out, request_size;
    /* Of the contexts, in the order of the filters: so many are open. */
    uint32_t *ids, few[FEW];
    PyObject *keys[FEW]; /* the first of them, as they are in the VMs' tables */
    Py_ssize_t own_size; /* entries of `own` when it was made, of which the last is our own */
    int opened, phase, index;
    char client_gone, app_is_reading, complete, drops_body, over, ends, client_ended, changed, response_changed;
    char has_type, is_bodiless, keeps_fields, looks;
    char is_unsized; /* the response's head announces no length of the body */
    char is_upload;
} Stream;
/* One with a body that plugins look at; see `asgi_wasm.asgi.uploads.Upload`. */
typedef struct {
    Stream stream;
    PyObject *unread, *reading, *odd, *way;
    long long size, bytes_in; /* the first: what its head says, or NO_SIZE */
    int body_of;
} Upload;
enum { NO_SIZE = -1, ODD_SIZE = -2 };
/* Whether a call of the server's `receive` was begun that nobody has waited for yet; Python writes None for none. */
static inline int is_reading(const Stream *s) {
    const PyObject *reading = s->is_upload ? ((const Upload *)s)->reading : NULL;
    return reading && reading != Py_None;
}
enum { IDLE, REQUEST, RESPONSE, BODY, LOG, FINISH };
/* What becomes of a request after a crossing; `native.py` has the same. */
enum { CALL_APP, SEND_ANSWER, HAND_BACK, GONE, FIND_ANSWER, READ_ON };

/* Strings of the module, made once. */
typedef struct {
    PyObject *headers, *method, *scheme, *raw_path, *query_string, *http_version, *type, *status, *body, *more_body,
        *extensions, *trailers, *start, *body_type, *asgi_wasm, *failure, *deleted, *values, *next_context_id, *send, *perform,
        *check_thread, *app_receive, *send_portably, *answer_without_kernel, *begin_otherwise, *close_otherwise,
        *app_raised, *answer_raised, *end_otherwise, *throw_, *close, *answer_otherwise, *answer_piece_otherwise,
        *piece_otherwise, *piece_misfits, *request_type, *running_loop, *receive, *heard, *heard_nothing, *hear, *hear_after, *hear_unread,
        *read_ahead, *stop_reading, *done, *result, *http, *serve;
    PyObject *pseudo[MOST_PSEUDO], *status_name, *empty; /* bytes */
} strings;
extern strings text;
/* Whether the interpreter counts calls in C and in Python together. */
extern int counts_together;
/* The type of coroutines. */
extern PyObject *coroutine_type;

extern PyTypeObject *kernel_type, *course_type, *stream_type, *sending_type, *upload_type, *receiving_type, *door_type;
PyTypeObject *make_kernel_type(void);
PyTypeObject *make_course_type(void);
PyTypeObject *make_stream_type(void);
/* request_type(base): the type of requests, of `Stream` and a class in Python without fields. */
PyObject *request_type(PyObject *module, PyObject *base);
PyTypeObject *make_sending_type(void);
PyTypeObject *make_upload_type(void);
PyTypeObject *make_receiving_type(void);
PyTypeObject *make_door_type(void);
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

/* The last callback did what takes more than to repeat its changes: it is Python's. */
int is_odd(const Stream *s, const filter *f, uint32_t news);
int end_stream(Stream *s);
/* Shows the headers to each plugin (`LentRequest._show_request`); -1 with an exception. */
int begin_stream(Stream *s);
/* What the app gives back for the scope that is its own. */
PyObject *call_app(Stream *s);
/* Lets middlewares outside read what the app added to its scope (`own_scope.share_scope`); -1 with an exception. */
int share_scope(Stream *s);
/* Shows a piece of a body to the plugins that look at those: `CALL_APP` when they let it pass. `changed`, a new reference,
 * is what they made of it so far, or NULL; where that is NULL, none may change it here. `which` is a slot. */
int show_piece(Stream *s, int which, PyObject *data, int ends, PyObject **changed);
/* The headers of an app's start message, in a list that is our own from the first change on, shown to plugins. */
int show_response(Stream *s, PyObject **fields);

/* serve.c */

/* The message of a body that is whole. */
PyObject *make_body(PyObject *content);

/* send.c */

PyObject *app_send_of(Stream *s);
/* The message with another body: a new reference. */
PyObject *with_body(PyObject *message, PyObject *body);
/* Whether an object is this string. */
int is_text(PyObject *object, PyObject *wanted);
PyObject *stream_send(PyObject *self, PyObject *message);

/* receive.c */

void clear_upload(Upload *u);
/* The app's `receive`. */
PyObject *app_receive_of(Stream *s);
/* Whether plugins are to see what is there of the body before the app is called. */
int reads_ahead(const Stream *s);
/* Begins to; 0 with an exception. */
int ask_ahead(Stream *s, char step);
/* After a call of `receive` was begun: CALL_APP, READ_ON, or Python is to go on: HAND_BACK, or GONE where the request has
 * left with what it gave. -1 with an exception. */
int hear_ahead(Stream *s, PyObject *reading);

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

/* The accelerator: what `asgi_wasm.asgi.lane.lent` and `portable` do around a crossing into the guest, in C.
 *
 * It links with nothing but Python: wasmtime's functions are handed over as addresses. It knows no rule that is not
 * told to it (names, texts, what a plan says), and whatever it does not know it hands back: `run` calls Python's way for
 * the whole request, and a request that began here goes on in the methods of `Lent`, from the same fields.
 *
 *     heads.c             how a head is written down for the kernel
 *     kernel.c   Kernel   one VM's kernel: the lent headers, the way in, what a callback changed
 *     kernel_type.c       how a Kernel is attached to its VM
 *     fields.c            what the fields of a head say
 *     course.c   Course   what is known of all requests of one chain of filters; opens a request
 *     course_type.c       how a Course is told that
 *     stream.c            what is done around a request's crossings
 *     stream_end.c        the last of them: the log, the end of its contexts, what goes back of the scope
 *     serve.c    Stream   one request, an awaitable; the base of a Python class
 *     stream_type.c       its fields, as Python has them
 *     send.c              the app's `send`
 *     sending.c  Sending  messages that are sent one after the other, and the end of a stream after the last
 *     hearing.c  Upload   a Stream with a body that plugins look at: a piece of it, and what is read before the app
 *     receive.c           the app's `receive`
 *     door.c     Door     what a server calls
 *     ticker.c   Ticker   calls functions of engines at each tick of the watchdog
 *     awaiting.c          how one awaitable in C awaits others, one after the other
 *
 * Here is what they all know; `parts.h` says what each offers to the others.
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
    PyObject *begin_reading; /* begins a call of `receive` (`asgi.messages.first`) */
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
/* See `asgi_wasm.asgi.lane.lent.Lent`, whose fields these are. */
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
/* One with a body that plugins look at; see `asgi_wasm.asgi.lane.uploads.Upload`. */
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
/* Those of `contextlib`. */
extern PyObject *exit_stacks[2];

#include "parts.h"

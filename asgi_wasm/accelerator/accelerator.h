/* The accelerator: what `asgi_wasm.asgi.lent` does around a crossing into the guest, in C.
 *
 * It links with nothing but Python: wasmtime's functions are handed over as addresses. It knows no rule that is not
 * told to it (names, texts, what a plan says), and whatever it does not know it hands back: `open` gives None, `begin`
 * and `finish` say where they stopped, and the methods of `LentRequest` go on from the same fields.
 *
 *     kernel.c   Kernel   one VM's kernel: the lent headers, the way in, what a callback changed
 *     course.c   Course   what is known of all requests of one chain of filters
 *     stream.c   Stream   one request; the base of a Python class
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

enum { REQUEST_CROSSING, RESPONSE_CROSSING, LOG_CROSSING, FINISH_CROSSING, END_CROSSING, CROSSINGS };
enum { MOST_PSEUDO = 4 };

/* The headers that are lent to a callback: pseudo-headers, then a list of pairs of bytes. Borrowed for a crossing. */
typedef struct {
    PyObject *names[MOST_PSEUDO], *values[MOST_PSEUDO];
    int pseudos;
    PyObject *fields;
} headers;

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
    const headers *lent[SLOTS];
    int lends; /* a Stream's crossing runs: what it does not lend, nobody does */
} Kernel;

/* What names of headers mean: bits, as `native.py` has them. */
enum {
    HIDDEN = 1,            /* plugins do not see it in a request */
    HOST = 2,              /* it is :authority to them */
    LENGTH = 4,            /* content-length */
    CODING = 8,            /* transfer-encoding */
    TYPE = 16,             /* it may ask for an answer in gRPC's form */
    DELICATE = 32,         /* that a plugin changes it in a request is the Python host's affair */
    DELICATE_IN_ANSWER = 64 /* and so is this in a response */
};
typedef struct {
    PyObject *name;
    const char *data;
    Py_ssize_t size;
    int meaning;
} known_name;

/* What a filter's callbacks are (`Post.takes_*`). */
enum { TAKES_REQUEST = 1, TAKES_RESPONSE = 2, TAKES_LOG = 4, TAKES_END = 8 };
typedef struct {
    Kernel *kernel;
    PyObject *post, *vm, *root, *lent, *contexts, *effects;
    uint32_t root_id;
    Py_ssize_t most;
    int takes;
} filter;

enum { SEES_RESPONSE = 1, SEES_REQUEST_BODY = 2, SEES_RESPONSE_BODY = 4 };
typedef struct {
    PyObject_HEAD
    PyObject *type; /* of the requests, a subclass of Stream */
    PyObject *app, *lane, *posts;
    filter *filters;
    Py_ssize_t count;
    int sees, takes;
    known_name *names;
    Py_ssize_t name_count;
    uint64_t sizes;       /* of these names, by bits */
    PyObject *texts;      /* methods and schemes -> bytes */
    PyObject *answers;    /* local responses that were made before -> their messages */
    PyObject *properties; /* the type of what an app sees of a request's properties */
    PyObject *properties_of; /* those of a request that went through another of our middlewares */
    PyObject *guard;      /* makes the scope of a request whose response's body some plugin sees */
    PyObject *pairs;      /* makes the pairs of an odd start message */
    PyObject *clock;      /* nanoseconds */
} Course;

/* See `asgi_wasm.asgi.lent.Lent`, whose fields these are. */
typedef struct {
    PyObject_HEAD
    Course *course;
    PyObject *lane, *posts, *scope, *own, *server_receive, *server_send, *ids, *log, *response_log, *message, *held, *first, *answer,
        *request, *properties, *verdict, *shown, *shown_response;
    /* What plugins saw, for their logs; pseudo-headers in the order of `pseudo_names`. */
    PyObject *fields, *response_fields, *pseudo[MOST_PSEUDO], *status, *host_field;
    long long began, bytes_out, request_size;
    int phase, index;
    char client_gone, app_is_reading, complete, over, ends, client_ended, has_type, keeps_fields;
} Stream;
enum { IDLE, REQUEST, RESPONSE, BODY, LOG, FINISH };

/* Strings of the module, made once. */
typedef struct {
    PyObject *headers, *method, *scheme, *raw_path, *query_string, *http_version, *type, *status, *body, *more_body,
        *extensions, *trailers, *start, *body_type, *asgi_wasm, *failure, *deleted, *values, *next_context_id, *send, *perform,
        *check_thread, *receive, *send_portably, *send_last, *answer_without_kernel, *head;
    PyObject *pseudo[MOST_PSEUDO], *status_name; /* bytes */
} strings;
extern strings text;
/* Whether the interpreter counts calls in C and in Python together. */
extern int counts_together;

extern PyTypeObject *kernel_type, *course_type, *stream_type;
PyTypeObject *make_kernel_type(void);
PyTypeObject *make_course_type(void);
PyTypeObject *make_stream_type(void);

/* kernel.c */

/* Name and value of a pair, borrowed; 0 when it is no tuple of two bytes. Raises nothing. */
int pair_of(PyObject *pair, PyObject **name, PyObject **value);
/* Whether this thread may enter, at this depth of calls; 0 with an exception. To be asked before anything is done. */
int may_enter(Kernel *kernel);
/* Of these, the thread alone. */
int is_here(Kernel *kernel);
/* Calls the kernel; -1 with an exception. `news` is what it gives back. */
int cross(Kernel *kernel, int which, slot *slots, size_t count, uint32_t *news);
/* Whether the last callback changed a header that `meaning` has one of these bits for. */
int changed_delicate(const Course *course, const Kernel *kernel, int bits);
/* Repeats the last callback's changes on a list that is our own, and on a log (NULL: none yet); -1 with an exception. */
int repeat(Kernel *kernel, PyObject *fields, PyObject **log);
/* The last callback's local response as a tuple (`Local`); NULL with an exception. */
PyObject *local_of(Kernel *kernel);

/* course.c */

int meaning_of(const Course *course, const char *name, Py_ssize_t size);
/* A list of the pairs without white space around their values, after those of `first`; NULL with an exception. */
PyObject *trimmed(PyObject *first, PyObject *fields);

/* The window: the part of the kernel's memory that the host reads and writes in place.
 *
 * Only 32-bit numbers and bytes, so that it is the same for the kernel, for Python (`layout.py`) and for the accelerator.
 *
 *     state    what is lent to the callback that runs, and what it came to
 *     changes  the log of what the callback changed, in order; the host repeats it on its own headers
 *     sizes    of the names and values of a map that the host fills in; their bytes follow at the arena's end, or lie at
 *              its start where the host gave the map (`given`) before the callback
 *     pairs    the maps as the kernel sees them: where each name and value lies
 *     names    those that are not like all others, by map, as the host told them at the start
 *     classes  of bytes, likewise
 *     arena    bytes; it grows during a callback, and is empty before the next one
 *
 *     0          16 kB                                                   128 kB
 *     | stack <- | state changes sizes pairs singles classes arena ... | |
 *                ^ window_address()                                      ^ two pages, which never grow
 *
 * A body is not in here: it may be large, and hardly any plugin reads it. The host copies what is asked for straight into
 * the plugin's memory, and what a plugin puts into a body straight out of it.
 */
#pragma once

#include <stdint.h>

/* The request's headers and the response's. */
enum { SLOTS = 2 };
enum { MAX_PAIRS = 256, MAX_CHANGES = 64, MAX_NAMES = 96, LONGEST_NAME = 63, NAMES_BYTES = 2048, ARENA = 1 << 16 };
enum { ADD, REPLACE, REMOVE };
enum { IN_NAME = 1, IN_VALUE = 2 };
/* What a name means: it occurs once only; a change of it is not for the lane to repeat. */
enum { SINGLE = 1, DELICATE = 2 };
/* What a crossing gives back: how many changes (<< 8), and these. UNTRIMMED: there is white space around some value. */
enum { ODD = 1, ANSWERED = 2, UNTRIMMED = 4 };
/* How a map that is given lies in the window: SPREAD: `pairs` tell where, and UNTRIMMED is told, too. Else a zero stands
 * between its names and values, whose sizes are not told. */
enum { SPREAD = 1 };
/* How far a crossing has come: `step`. */
enum { CREATING = 1, CALLING, CALLED, ENDING, DELETING, ENDED };

typedef struct {
    uint32_t name, name_size, value, value_size;
} pair;

typedef struct {
    uint32_t restricted; /* the guest allocates: nothing may be asked, and nothing is lent */
    uint32_t last_id;    /* of a context; the host's alone */
    uint32_t active;     /* the root context of the stream whose callback runs; 0: none that the kernel knows of */
    uint32_t stream;     /* that stream's context */
    uint32_t step;
    uint32_t verdict;
    uint32_t recalled; /* the host took back what was lent: it goes on by itself */
    uint32_t readable, writable, filled; /* bits by slot */
    uint32_t count[SLOTS];
    uint32_t used;    /* of the arena */
    uint32_t changes; /* how many */
    uint32_t complex; /* some change is more than one to a list (a pseudo-header, a value joined to another), unsendable or delicate, or one of a body */
    uint32_t untrimmed;
    uint32_t answerable, answered;
    uint32_t bodies;    /* bits by buffer type: the body that the callback is shown, which the host keeps */
    uint32_t body_size, body_ends;
    uint32_t local[7]; /* a local response: status, details at, their size, body at, its size, pairs at, their size */
    uint32_t change[4 * MAX_CHANGES]; /* slot << 8 | kind, name size, value size, where: the name, then the value */
    /* Pairs and bytes of the map of the next callback (0: the kernel asks for it), and how it lies there. */
    uint32_t given, given_size, form;
    /* The time for the first who asks for it in a callback, in nanoseconds (0: the hostcall tells); whether any has asked. */
    uint32_t now[2], wants_time;
    uint32_t sizes[2 * MAX_PAIRS];
    pair pairs[SLOTS][MAX_PAIRS];
    uint32_t first[SLOTS][LONGEST_NAME + 2]; /* the first of the names of each size, which lie together */
    uint32_t name[SLOTS][2 * MAX_NAMES];     /* where in name_bytes, meaning */
    uint8_t name_bytes[SLOTS][NAMES_BYTES];
    uint8_t classes[256]; /* what each byte may be part of: IN_NAME, IN_VALUE; the host told it at the start */
    uint8_t arena[ARENA];
} window;

"""Where things lie in the kernel's window, as `layout.h` has it: indices of 32-bit numbers, or offsets of bytes."""

from __future__ import annotations

SLOTS = 2
REQUEST_SLOT, RESPONSE_SLOT = range(SLOTS)
MAX_PAIRS, MAX_CHANGES, MAX_NAMES, LONGEST_NAME, NAMES_BYTES, ARENA = 256, 64, 96, 63, 2048, 1 << 16
ADD, REPLACE, REMOVE = range(3)
IN_NAME, IN_VALUE = 1, 2
# What a name means.
SINGLE, DELICATE = 1, 2
# What a crossing gives back, above which there is the number of changes.
ODD, HAS_ANSWERED, UNTRIMMED = 1, 2, 4
CHANGES_SHIFT = 8
CREATING, CALLING, CALLED, ENDING, DELETING, ENDED = range(1, 7)

(
    RESTRICTED,
    LAST_ID,
    ACTIVE,
    STREAM,
    STEP,
    VERDICT,
    RECALLED,
    READABLE,
    WRITABLE,
    FILLED,
    COUNT,
    _,
    USED,
    CHANGES,
    COMPLEX,
    _UNTRIMMED,
    ANSWERABLE,
    ANSWERED,
    BODIES,
    BODY_SIZE,
    BODY_ENDS,
    LOCAL,
) = range(22)
CHANGE = LOCAL + 7
# Three numbers.
GIVEN = CHANGE + 4 * MAX_CHANGES
# One of 64 bits.
NOW = GIVEN + 3
WANTS_TIME = NOW + 2
SIZES = WANTS_TIME + 1
_PAIRS = SIZES + 2 * MAX_PAIRS
# By slot: one for each size of a name, and one more.
FIRST = _PAIRS + SLOTS * 4 * MAX_PAIRS
SIZES_OF_NAMES = LONGEST_NAME + 2
NAME = FIRST + SLOTS * SIZES_OF_NAMES
# From here on there are bytes.
WORDS = NAME + SLOTS * 2 * MAX_NAMES
NAMES_AT = 4 * WORDS
CLASSES_AT = NAMES_AT + SLOTS * NAMES_BYTES
ARENA_AT = CLASSES_AT + 256
SIZE = ARENA_AT + ARENA

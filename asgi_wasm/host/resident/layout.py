"""Where things lie in the kernel's window, as `layout.h` has it: indices of 32-bit numbers, or offsets of bytes."""

from __future__ import annotations

SLOTS = 2
REQUEST_SLOT, RESPONSE_SLOT = range(SLOTS)
MAX_PAIRS, MAX_CHANGES, MAX_SINGLES, SINGLES_BYTES, ARENA = 256, 64, 96, 2048, 1 << 16
ADD, REPLACE, REMOVE = range(3)
IN_NAME, IN_VALUE = 1, 2
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
    ANSWERABLE,
    ANSWERED,
    BODIES,
    BODY_SIZE,
    BODY_ENDS,
    LOCAL,
) = range(21)
CHANGE = LOCAL + 7
SIZES = CHANGE + 4 * MAX_CHANGES
_PAIRS = SIZES + 2 * MAX_PAIRS
SINGLES = _PAIRS + SLOTS * 4 * MAX_PAIRS
SINGLE = SINGLES + SLOTS
# From here on there are bytes.
WORDS = SINGLE + SLOTS * 2 * MAX_SINGLES
SINGLES_AT = 4 * WORDS
CLASSES_AT = SINGLES_AT + SLOTS * SINGLES_BYTES
ARENA_AT = CLASSES_AT + 256
SIZE = ARENA_AT + ARENA

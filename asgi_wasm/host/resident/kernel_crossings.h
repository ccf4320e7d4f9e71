/* Of the kernel: crossings. What is done in a row is done in one. Each is 0 when there is nothing for the host to look at. */

static void open(uint32_t id, uint32_t root) {
    w.active = root;
    w.stream = id;
    w.verdict = w.recalled = w.readable = w.writable = w.filled = 0;
    w.changes = w.complex = w.untrimmed = w.answerable = w.answered = w.bodies = 0;
    /* What the host gave lies at the arena's start. */
    if (w.given > MAX_PAIRS || w.given_size > ARENA) w.given = 0;
    w.used = w.given ? w.given_size : 0;
}

static uint32_t close(void) {
    w.active = w.readable = w.writable = w.answerable = w.bodies = w.given = w.now[0] = w.now[1] = 0;
    /* After an answer, that the stream is paused says nothing more. */
    uint32_t odd = w.recalled || w.complex || (w.verdict && !w.answered) ? ODD : 0;
    uint32_t news = odd | (w.answered ? ANSWERED : 0) | w.changes << 8;
    return news ? news | w.untrimmed : 0;
}

uint32_t EXPORT(request)(uint32_t id, uint32_t root, uint32_t count, uint32_t end) {
    open(id, root);
    w.step = CREATING;
    on_context_create(id, root);
    w.step = CALLING;
    if (w.recalled) return close();
    w.readable = w.writable = 1;
    w.answerable = 1;
    w.verdict = on_request_headers(id, count, end);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(response)(uint32_t id, uint32_t root, uint32_t count, uint32_t end) {
    open(id, root);
    w.step = CALLING;
    w.readable = w.writable = 2;
    w.verdict = on_response_headers(id, count, end);
    w.step = CALLED;
    return close();
}

typedef uint32_t body_callback(uint32_t id, uint32_t size, uint32_t end);

/* One piece of a body, of which the host has the bytes. No map is lent: none may be read, but while a plugin holds one. */
static uint32_t show_piece(body_callback *callback, uint32_t bit, uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    open(id, root);
    w.step = CALLING;
    w.bodies = bit;
    w.body_size = size;
    w.body_ends = end;
    w.verdict = callback(id, size, end);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(request_body)(uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    return show_piece(on_request_body, 1, id, root, size, end);
}

uint32_t EXPORT(response_body)(uint32_t id, uint32_t root, uint32_t size, uint32_t end) {
    return show_piece(on_response_body, 2, id, root, size, end);
}

/* Of a stream that has a response, if ``answered``. */
uint32_t EXPORT(log)(uint32_t id, uint32_t root, uint32_t answered) {
    open(id, root);
    w.step = CALLING;
    w.readable = answered ? 3 : 1;
    on_log(id);
    w.step = CALLED;
    return close();
}

uint32_t EXPORT(finish)(uint32_t id, uint32_t root) {
    open(id, root);
    w.step = ENDING;
    on_done(id);
    if (w.recalled) return close();
    w.step = DELETING;
    on_delete(id);
    w.step = ENDED;
    return close();
}

uint32_t EXPORT(end)(uint32_t id, uint32_t root, uint32_t answered) {
    uint32_t news = log(id, root, answered);
    return news ? news : finish(id, root);
}

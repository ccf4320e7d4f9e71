#include "script.h"

#include "hostcalls.h"

enum { MAX_ARGUMENTS = 16, RESULTS = 4, LETTERS = 26, SHOWN = 240, MAX_PHASES = 64, MAX_SOURCE = 120 };

uint32_t last_stream;

#include "line.h"

/* --- what a script keeps ------------------------------------------------------------------ */

static uint64_t results[RESULTS];
static uint32_t kept[LETTERS];
static struct {
    const char *name;
    const Script *script;
    uint32_t calls;
} phases[MAX_PHASES];
static uint32_t refusals;
static uint32_t refused_with;
static uint32_t allocations;
static size_t last_allocation;

enum { UNTOUCHED = 0xa5 };

#include "reading.h"

/* --- the commands --------------------------------------------------------------------------- */

static int touched(size_t slot, size_t size) {
    const uint8_t *bytes = (const uint8_t *)&results[slot];
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != UNTOUCHED) {
            return 1;
        }
    }
    return 0;
}

static void put_results(Line *line, const char *gives) {
    size_t slot = 0;
    for (; *gives != '\0'; gives++) {
        size_t width = *gives == 'd' ? 8 : 4;
        if (touched(slot, width)) {
            put(line, TEXT(" -> "));
            if (*gives == 'b') {
                size_t size = (uint32_t)results[slot + 1];
                put_bytes(line, (const uint8_t *)(uint32_t)results[slot], size);
                if (allocations > 1 || (allocations == 1 && last_allocation != size)) {
                    put(line, TEXT(" allocated otherwise"));
                }
            } else {
                put_number(line, *gives == 'd' ? results[slot] : (uint32_t)results[slot]);
            }
        }
        slot += *gives == 'b' ? 2 : 1;
    }
}

static const Hostcall *find(Reader word) {
    static const char PREFIX[] = "proxy_";
    for (size_t i = 0; i < sizeof HOSTCALL_TABLE / sizeof *HOSTCALL_TABLE; i++) {
        const char *name = HOSTCALL_TABLE[i].name;
        size_t prefix = strncmp(name, PREFIX, sizeof PREFIX - 1) == 0 ? sizeof PREFIX - 1 : 0;
        if (is_word(word, name) || is_word(word, name + prefix)) {
            return &HOSTCALL_TABLE[i];
        }
    }
    return NULL;
}

static void call(const Hostcall *hostcall, Line *line, Reader *reader, uint32_t context, uint32_t root) {
    uint64_t arguments[MAX_ARGUMENTS] = {0};
    size_t count = read_arguments(reader, arguments, context, root);
    for (size_t slot = 0; count < hostcall->parameters && slot < RESULTS; slot++) {
        arguments[count++] = (uint32_t)&results[slot];
    }
    memset(results, UNTOUCHED, sizeof results);
    allocations = 0;
    uint32_t status = hostcall->call(arguments);
    put(line, TEXT(" = "));
    put_number(line, status);
    put_results(line, hostcall->gives);
    log_line(line);
}

typedef struct {
    uint32_t context;
    uint32_t root;
    const uint32_t *arguments;
    size_t count;
    uint32_t answer;
} Callback;

static void show(Line *line, Reader *reader) {
    skip_blanks(reader);
    int itself = reader->at < reader->end && *reader->at == '$';
    reader->at += itself;
    uint32_t slot = (uint32_t)read_number(reader) % RESULTS;
    skip_blanks(reader);
    const uint8_t *bytes = itself ? (const uint8_t *)&results[slot] : (const uint8_t *)(uint32_t)results[slot];
    put(line, TEXT(" = "));
    put_bytes(line, bytes, (size_t)read_number(reader));
    log_line(line);
}

static void execute(const char *phase, Reader reader, Callback *callback) {
    Line line = {.size = 0};
    size_t size = (size_t)(reader.end - reader.at);
    put(&line, phase, strlen(phase));
    put(&line, TEXT(": "));
    put(&line, reader.at, size < MAX_SOURCE ? size : MAX_SOURCE);
    put(&line, "...", size < MAX_SOURCE ? 0 : 3);
    Reader word = read_word(&reader);
    skip_blanks(&reader);
    if (is_word(word, "return")) {
        callback->answer = (uint32_t)read_number(&reader);
    } else if (is_word(word, "args")) {
        put(&line, TEXT(" ="));
        for (size_t i = 0; i < callback->count; i++) {
            put(&line, TEXT(" "));
            put_number(&line, callback->arguments[i]);
        }
        log_line(&line);
    } else if (is_word(word, "keep")) {
        uint32_t letter = (uint32_t)(*reader.at++ - 'a') % LETTERS;
        skip_blanks(&reader);
        kept[letter] = (uint32_t)results[read_number(&reader) % RESULTS];
    } else if (is_word(word, "show")) {
        show(&line, &reader);
    } else if (is_word(word, "refuse")) {
        refusals = (uint32_t)read_number(&reader);
        skip_blanks(&reader);
        refused_with = (uint32_t)read_number(&reader);
    } else if (is_word(word, "trap")) {
        log_line(&line);
        __builtin_trap();
    } else {
        const Hostcall *hostcall = find(word);
        if (hostcall == NULL) {
            put(&line, TEXT(": there is no such command"));
            log_line(&line);
        } else {
            call(hostcall, &line, &reader, callback->context, callback->root);
        }
    }
}

static uint32_t count_call(const Script *script, const char *phase) {
    size_t i = 0;
    while (i < MAX_PHASES - 1 && phases[i].name != NULL &&
           !(phases[i].script == script && strcmp(phases[i].name, phase) == 0)) {
        i++;
    }
    phases[i].name = phase;
    phases[i].script = script;
    return ++phases[i].calls;
}

static void run_lines(const Script *script, const char *phase, uint32_t number, Callback *callback) {
    const char *at = script->text, *end = script->text + script->size;
    while (at < end) {
        const char *line_end = at;
        while (line_end < end && *line_end != '\n') {
            line_end++;
        }
        const char *colon = at;
        while (colon < line_end && *colon != ':' && *colon != '@') {
            colon++;
        }
        if (is_word((Reader){at, colon}, phase)) {
            Reader reader = {colon + 1, line_end};
            uint32_t wanted = number;
            if (colon < line_end && *colon == '@') {
                wanted = (uint32_t)read_number(&reader);
                reader.at++;
            }
            skip_blanks(&reader);
            if (wanted == number) {
                execute(phase, reader, callback);
            }
        }
        at = line_end + 1;
    }
}

uint32_t run(const Script *environment, const Script *script, const char *phase, uint32_t context, uint32_t root,
             uint32_t fallback, const uint32_t *arguments, size_t count) {
    Callback callback = {context, root, arguments, count, fallback};
    uint32_t number = count_call(script, phase);
    run_lines(environment, phase, number, &callback);
    if (script != environment) {
        run_lines(script, phase, number, &callback);
    }
    return callback.answer;
}

void *allocate(const Script *environment, size_t size) {
    static int running;
    if (!running) {
        uint64_t before[RESULTS];
        memcpy(before, results, sizeof before);
        running = 1;
        run(environment, environment, "malloc", 0, 0, 0, NULL, 0);
        running = 0;
        memcpy(results, before, sizeof before);
    }
    allocations++;
    last_allocation = size;
    if (refusals > 0) {
        refusals--;
        return (void *)refused_with;
    }
    return malloc(size);
}

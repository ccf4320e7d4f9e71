/* The script's interpreter; plugin.c says what a script looks like. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *text;
    size_t size;
} Script;

/* The newest stream context: `%stream`. */
extern uint32_t last_stream;

/* Run the lines of this phase, those of the environment first. What the callback answers: the script's last `return`,
 * else `fallback`. */
uint32_t run(const Script *environment, const Script *script, const char *phase, uint32_t context, uint32_t root,
             uint32_t fallback, const uint32_t *arguments, size_t count);

/* The allocator that the host calls: runs the phase `malloc`, and gives what `refuse` says. */
void *allocate(const Script *environment, size_t size);

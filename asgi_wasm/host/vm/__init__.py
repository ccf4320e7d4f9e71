"""One running module: instance, memory, contexts, hostcalls linked, callbacks watched."""

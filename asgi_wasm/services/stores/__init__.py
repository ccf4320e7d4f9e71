"""Where shared data, queues and metrics are kept: memory, LMDB, Redis."""

"""`make chaos`: workers that are killed and frozen, stores that are away, full or cut, upstreams that misbehave."""

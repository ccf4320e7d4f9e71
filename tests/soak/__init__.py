"""Many requests through four plugins, with reloads: nothing may be kept of any. Run by `make soak`."""

"""Other hostile input at each run: modules, hostcalls, clients. `make fuzz` runs it for five minutes."""

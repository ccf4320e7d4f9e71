"""What exists once per event loop: services, plugins, the way from a request to its filters."""

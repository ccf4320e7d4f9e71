"""One request and its response on their way through the plugins."""

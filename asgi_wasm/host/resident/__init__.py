"""The resident half: hostcalls answered by WebAssembly beside the plugin, and what lends it a request's headers."""

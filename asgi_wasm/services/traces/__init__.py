"""What becomes of traces of calls: text, the last requests, spans."""

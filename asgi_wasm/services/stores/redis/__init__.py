"""Several machines share a Redis or Valkey server (extra ``redis``)."""

"""Upstreams and gRPC services that a test plays: what was called, and what is answered."""

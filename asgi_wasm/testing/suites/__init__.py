"""Plugin tests as Google's service-extensions tester has them, in files: read, played and compared."""

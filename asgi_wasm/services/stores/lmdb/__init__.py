"""One machine's processes share an LMDB database (extra ``lmdb``)."""

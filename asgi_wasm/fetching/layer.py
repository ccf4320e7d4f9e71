"""The plugin in a layer of a container image. Nothing is unpacked onto the disk, so paths and links are only names."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib

from asgi_wasm.errors import FetchError

_NAME = "plugin.wasm"
# The specification has two files; what people build has a few folders more.
_MOST_MEMBERS = 1000


class _Bounded(io.RawIOBase):
    """Gives at most so many bytes, whatever they are decompressed from."""

    def __init__(self, source: io.BufferedIOBase, limit: int) -> None:
        self._source = source
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Raises `FetchError` beyond the limit."""
        piece = self._source.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(piece)
        if self._left < 0:
            raise FetchError("is not taken: its layer unpacks to more than a plugin may have")
        return piece


def plugin_of(layer: bytes, *, gzipped: bool, limit: int) -> bytes:
    """The first regular file called ``plugin.wasm``, in whatever folder, as Istio reads it. Raises `FetchError`.

    ``limit`` bounds its bytes, and beside them 16 MiB of what stands before it.
    """
    source: io.BufferedIOBase = io.BytesIO(layer)
    if gzipped:
        source = gzip.GzipFile(fileobj=source)
    try:
        with tarfile.open(fileobj=_Bounded(source, limit + (16 << 20)), mode="r|") as archive:
            for number, member in enumerate(archive):
                if number >= _MOST_MEMBERS:
                    raise FetchError(f"is no plugin: its layer has more than {_MOST_MEMBERS} files")
                if member.isreg() and not member.issparse() and posixpath.basename(member.name) == _NAME:
                    return _content(archive, member, limit)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise FetchError(f"is damaged: its layer is no {'tar.gz' if gzipped else 'tar'} ({error})") from None
    raise FetchError(f"is no plugin: its layer has no file {_NAME}")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    if member.size > limit:
        raise FetchError(f"is not taken: its {_NAME} is larger than {limit >> 20} MiB")
    stream = archive.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise FetchError(f"is damaged: its layer ends within {_NAME}")
    return content

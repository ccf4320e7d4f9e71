"""A plugin's file from the cache or from where its name says, checked by its SHA-256 each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.cache import FetchCache
from asgi_wasm.fetching.names import image_of
from asgi_wasm.limits import MAX_FILE_BYTES
from asgi_wasm.logs import get_logger
from asgi_wasm.specs import DEFAULT_FETCH_TIMEOUT, RemoteFile

if TYPE_CHECKING:
    from asgi_wasm.fetching.transfer import Transfer

logger = get_logger("asgi_wasm.fetching")


@dataclass(frozen=True)
class Fetched:
    """The plugin, and the name that it can be had by again, with its digest."""

    content: bytes
    file: RemoteFile


class Fetcher:
    """Fetches for one worker, or one command."""

    def __init__(
        self,
        cache_dir: Path | None = None,
        seconds: float = DEFAULT_FETCH_TIMEOUT,
        limit: int = MAX_FILE_BYTES,
    ) -> None:
        """``seconds`` bound each file in all, ``limit`` its bytes."""
        self._cache = FetchCache(cache_dir)
        self.seconds = seconds
        self._limit = limit

    @property
    def patience(self) -> float:
        """Seconds after which `fetch` has ended, whatever happens: another worker may have been waited for."""
        return 2 * self.seconds + 30

    @property
    def in_use(self) -> set[Path]:
        """The files of the cache that `fetch` gave, or read on the way."""
        return self._cache.in_use

    def fetch(self, file: RemoteFile) -> Fetched:
        """The file. It blocks, and wants a thread without an event loop. Raises `FetchError`, one sentence each."""
        with self._cache.lock(file.url, self.seconds):
            try:
                return asyncio.run(asyncio.wait_for(self._fetch(file), self.seconds))
            except asyncio.TimeoutError:
                raise FetchError(f"is not there after {self.seconds:g} s, which is fetch_timeout: try again") from None

    async def _fetch(self, file: RemoteFile) -> Fetched:
        if file.digest and not file.url.startswith("oci:"):
            content = self._cache.get(file.digest, self._limit)
            if content is not None:
                return Fetched(content, file)
        # It takes a while, and who runs only files of this machine does without.
        from asgi_wasm.fetching import failures
        from asgi_wasm.fetching.transfer import Transfer

        with failures.told(file.url, self._cache.directory()):
            async with Transfer(self.seconds) as transfer:
                return await (self._image if file.url.startswith("oci:") else self._url)(file, transfer)

    async def _url(self, file: RemoteFile, transfer: Transfer) -> Fetched:
        from asgi_wasm.fetching.registry import check

        content = check(await transfer.get(file.url, self._limit)).content
        return Fetched(content, RemoteFile(file.url, self._kept(file, file.digest, content)))

    async def _image(self, file: RemoteFile, transfer: Transfer) -> Fetched:
        from asgi_wasm.fetching.image import plugin_of_image
        from asgi_wasm.fetching.registry import MANIFEST_BYTES, Registry

        image = image_of(file.url)
        registry = Registry(image, transfer)

        async def manifest(digest: str, limit: int = MANIFEST_BYTES) -> bytes:
            async def get(digest: str, _: int) -> bytes:
                return await registry.manifest(f"sha256:{digest}" if digest else image.tag or "latest")

            return await self._checked(file, digest, min(limit, MANIFEST_BYTES), get)

        async def blob(digest: str, limit: int) -> bytes:
            async def get(digest: str, limit: int) -> bytes:
                return await registry.blob(f"sha256:{digest}", limit)

            return await self._checked(file, digest, limit, get)

        first = await manifest(file.digest)
        content = await plugin_of_image(first, manifest, blob, self._limit)
        return Fetched(content, RemoteFile(file.url, sha256(first).hexdigest()))

    async def _checked(
        self, file: RemoteFile, digest: str, limit: int, get: Callable[[str, int], Awaitable[bytes]]
    ) -> bytes:
        """The content: from the cache, else by ``get``, and then into the cache."""
        content = self._cache.get(digest, limit) if digest else None
        if content is None:
            content = await get(digest, limit)
            self._kept(file, digest, content)
        return content

    def _kept(self, file: RemoteFile, digest: str, content: bytes) -> str:
        """Keep what was fetched, and say its digest. Raises `FetchError` when it should be another."""
        found = sha256(content).hexdigest()
        if digest and found != digest:
            raise FetchError(f"is another file: its sha256 is {found}, not {digest}")
        self._cache.put(found, content)
        logger.info("fetched %s: %d bytes, sha256 %s", file, len(content), found)
        return found

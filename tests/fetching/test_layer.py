"""The plugin in a tar, whatever else is in there."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest

from asgi_wasm.errors import FetchError
from asgi_wasm.fetching.layer import plugin_of
from tests.fetching.site import GOOD

LIMIT = 1 << 20


def tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """Regular files, or anything else."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(kind: bytes, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("plugin.wasm")
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    "name", ["plugin.wasm", "./plugin.wasm", "/plugin.wasm", "app/plugin.wasm", "../../plugin.wasm"]
)
@pytest.mark.parametrize("gzipped", [True, False])
def test_where_it_is_does_not_matter(name: str, gzipped: bool) -> None:
    """Nothing is written, so that a path can lead nowhere."""
    layer = tar(("runtime-config.json", b"{}"), (name, GOOD), ("plugin.wasm", b"a second one"))
    assert plugin_of(gzip.compress(layer) if gzipped else layer, gzipped=gzipped, limit=LIMIT) == GOOD


@pytest.mark.parametrize(
    "member",
    [
        link(tarfile.SYMTYPE, "/etc/passwd"),
        link(tarfile.LNKTYPE, "/etc/passwd"),
        link(tarfile.DIRTYPE, ""),
        link(tarfile.FIFOTYPE, ""),
        link(tarfile.CHRTYPE, ""),
    ],
)
def test_only_a_regular_file_counts(member: tarfile.TarInfo) -> None:
    with pytest.raises(FetchError, match=r"is no plugin: its layer has no file plugin\.wasm"):
        plugin_of(tar(member), gzipped=False, limit=LIMIT)
    assert plugin_of(tar(member, ("b/plugin.wasm", GOOD)), gzipped=False, limit=LIMIT) == GOOD


@pytest.mark.parametrize("name", ["plugin.wasm", "other"])
def test_a_bomb(name: str) -> None:
    """A megabyte that unpacks to a gigabyte: it is stopped at the limit, wherever it stands."""
    zeros = gzip.compress(bytes(1 << 22))
    info = tarfile.TarInfo(name)
    info.size = 1 << 30
    bomb = gzip.compress(info.tobuf()) + zeros * 256
    with pytest.raises(
        FetchError, match=r"is not taken: its (layer unpacks to more|plugin\.wasm is larger than 1 MiB)"
    ):
        plugin_of(bomb, gzipped=True, limit=LIMIT)


def test_too_large() -> None:
    layer = tar(("plugin.wasm", bytes(LIMIT)))
    assert len(plugin_of(layer, gzipped=False, limit=LIMIT)) == LIMIT
    with pytest.raises(FetchError, match=r"its plugin\.wasm is larger than 1 MiB"):
        plugin_of(tar(("plugin.wasm", bytes(LIMIT + 1))), gzipped=False, limit=LIMIT)


def test_too_many_files() -> None:
    layer = tar(*((f"{number}", b"") for number in range(1001)), ("plugin.wasm", GOOD))
    with pytest.raises(FetchError, match="its layer has more than 1000 files"):
        plugin_of(layer, gzipped=False, limit=LIMIT)


def pax_of_pax() -> bytes:
    """Headers that announce headers: a reader that follows them by recursion comes to its end."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    return info.tobuf() * 20_000


def sparse() -> bytes:
    """A file of a terabyte of holes."""
    info = tarfile.TarInfo("plugin.wasm")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    return info.tobuf(format=tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"\0" * 10,
        lambda: b"<html>" * 1000,
        lambda: gzip.compress(b"<html>" * 1000),
        lambda: gzip.compress(tar(("plugin.wasm", GOOD)))[:-20],
        lambda: gzip.compress(tar(("plugin.wasm", GOOD * 1000))[:2000]),
        lambda: gzip.compress(tar(("a", b""))) + b"\x1f\x8b\x08junk",
        lambda: gzip.compress(pax_of_pax()),
        lambda: gzip.compress(sparse()),
    ],
)
def test_damaged(make: Callable[[], bytes]) -> None:
    with pytest.raises(FetchError, match=r"is damaged: its layer|is no plugin: its layer has no"):
        plugin_of(make(), gzipped=True, limit=LIMIT)

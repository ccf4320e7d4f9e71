"""A plugin's file: what was checked is what runs."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.engines.cache import ModuleCache
from asgi_wasm.errors import InvalidModuleError, PluginLoadError
from asgi_wasm.specs import PluginSpec
from asgi_wasm.worker import loading
from asgi_wasm.worker.plugin_file import read_plugin_file

GOOD = b"\0asm\1\0\0\0"


def test_the_checked_bytes_are_those_that_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the file is swapped, before or after it was read."""
    file = tmp_path / "plugin.wasm"
    digest = sha256(GOOD).hexdigest()
    compiled: list[bytes] = []

    class Compiler:
        name, fingerprint, limits_memory, limits_time = "test", "", True, True

        def compile(self, code: bytes) -> Module:
            compiled.append(code)
            raise InvalidModuleError("far enough")

        def deserialize(self, compiled: bytes) -> Module:
            raise AssertionError

        def deserialize_file(self, path: Path) -> Module:
            raise AssertionError

    def read_then_swap(spec: PluginSpec) -> tuple[bytes, str]:
        try:
            return read_plugin_file(spec)
        finally:
            file.write_bytes(GOOD + b"\0\1\0")

    monkeypatch.setattr("asgi_wasm.worker.loading.read_plugin_file", read_then_swap)
    engine: Engine = Compiler()
    spec = PluginSpec("waf", file, sha256=digest, named_by="asgi-wasm.yaml: plugins.waf.file")
    cache = ModuleCache(tmp_path / "cache")
    file.write_bytes(GOOD)
    with pytest.raises(PluginLoadError, match="far enough"):
        loading.compile_plugin(engine, spec, cache)
    assert compiled == [GOOD]
    with pytest.raises(PluginLoadError, match=r"asgi-wasm\.yaml: plugins\.waf\.file: its sha256 is .* another file"):
        loading.compile_plugin(engine, spec, cache)
    assert compiled == [GOOD]


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "plugin.wasm"
    file.write_bytes(GOOD)
    assert read_plugin_file(PluginSpec("waf", file)) == (GOOD, sha256(GOOD).hexdigest())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(PluginLoadError, match=r"cannot be read \(it is no regular file\): check the path"):
            read_plugin_file(PluginSpec("waf", file))
    with pytest.raises(PluginLoadError, match=r"cannot be read \(Is a directory\): check the path"):
        read_plugin_file(PluginSpec("waf", tmp_path))


def test_a_file_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wasm.worker.plugin_file.MAX_BYTES", 16)
    file = tmp_path / "plugin.wasm"
    file.write_bytes(GOOD + bytes(8))
    assert len(read_plugin_file(PluginSpec("waf", file))[0]) == 16
    file.write_bytes(GOOD + bytes(9))
    with pytest.raises(PluginLoadError, match="it is larger than 0 MiB"):
        read_plugin_file(PluginSpec("waf", file))

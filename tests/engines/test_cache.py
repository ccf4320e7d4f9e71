from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

import pytest

from asgi_wasm.engines.base import Engine, Module
from asgi_wasm.engines.cache import ModuleCache, default_cache_dir
from asgi_wasm.engines.null import NullEngine
from asgi_wasm.engines.wasmtime import WasmtimeEngine
from asgi_wasm.errors import InvalidModuleError

EMPTY = b"\0asm\1\0\0\0"
AS_ROOT = hasattr(os, "getuid") and os.getuid() == 0


@pytest.fixture(scope="module")
def wasmtime() -> WasmtimeEngine:
    return WasmtimeEngine()


def load_module(engine: Engine, code: bytes, directory: Path | None = None) -> tuple[Module, bool]:
    return ModuleCache(directory).load(engine, code)


def entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_the_second_time_is_from_the_cache(engine: Engine, tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "cache"
    assert load_module(engine, EMPTY, directory)[1] is False
    module, cached = load_module(engine, EMPTY, directory)
    assert cached
    assert dict(module.exports) == {}
    (entry,) = entries(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600


def test_engines_versions_and_codes_have_their_own_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NullEngine({"a": lambda host: {}, "b": lambda host: {}})
    for code in (b"null:a", b"null:b"):
        assert not load_module(engine, code, tmp_path)[1]
    monkeypatch.setattr(engine, "fingerprint", "null-2")
    assert not load_module(engine, b"null:a", tmp_path)[1]
    assert len(entries(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "refused"])
def test_a_damaged_entry_is_replaced(
    wasmtime: WasmtimeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    load_module(wasmtime, EMPTY, tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    if damage == "refused":
        damaged = b"not what wasmtime serializes"
        entry.unlink()
        entry = entry.with_suffix(f".{hashlib.sha256(damaged).hexdigest()}")
    else:
        damaged = {
            "cut": whole[:-1],
            "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
            "emptied": b"",
        }[damage]
    entry.write_bytes(damaged)
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is False
    assert "compiled again" in caplog.text
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is True
    (entry,) = entries(tmp_path)
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_to_is_not_used(
    wasmtime: WasmtimeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(mode)
    assert load_module(wasmtime, EMPTY, directory)[1] is False
    assert entries(directory) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "others may write" in caplog.text


def test_a_directory_of_another_user_is_not_used(
    wasmtime: WasmtimeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if AS_ROOT:
        os.chown(tmp_path, 12345678, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345678)
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is False
    assert "belongs to user" in caplog.text


@pytest.mark.skipif(not AS_ROOT, reason="only root can make a directory of root's")
def test_roots_directory_is_used_as_it_may_be_an_images(
    wasmtime: WasmtimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_module(wasmtime, EMPTY, tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345678)
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is True


@pytest.mark.parametrize(("directory", "entry"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644), (0o711, 0o600)])
def test_entries_are_as_readable_as_the_directory(
    wasmtime: WasmtimeEngine, tmp_path: Path, directory: int, entry: int
) -> None:
    tmp_path.chmod(directory)
    load_module(wasmtime, EMPTY, tmp_path)
    assert [stat.S_IMODE(each.stat().st_mode) for each in entries(tmp_path)] == [entry]


def test_what_is_wrong_with_the_directory_is_said_once(
    wasmtime: WasmtimeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ModuleCache(tmp_path / "file")
    (tmp_path / "file").touch()
    for _ in range(3):
        assert cache.load(wasmtime, EMPTY)[1] is False
    assert len(caplog.records) == 1


def test_a_link_and_a_file_are_not_used(
    wasmtime: WasmtimeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").write_bytes(b"")
    assert load_module(wasmtime, EMPTY, tmp_path / "link")[1] is False
    assert load_module(wasmtime, EMPTY, tmp_path / "file")[1] is False
    assert "symbolic link" in caplog.text
    assert "no directory" in caplog.text
    assert entries(tmp_path / "target") == []


def test_a_system_without_users_has_nothing_to_check(
    wasmtime: WasmtimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getuid")
    tmp_path.chmod(0o777)
    load_module(wasmtime, EMPTY, tmp_path)
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is True


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_no_failure(wasmtime: WasmtimeEngine, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert load_module(wasmtime, EMPTY, tmp_path)[1] is False
    assert load_module(wasmtime, EMPTY, tmp_path / "below")[1] is False


@pytest.mark.parametrize("call", ["replace", "mkstemp", "mkdir"])
def test_a_failing_disk_is_no_failure(
    wasmtime: WasmtimeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner = {"replace": os, "mkstemp": tempfile, "mkdir": Path}[call]
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fail)
        assert load_module(wasmtime, EMPTY, tmp_path)[1] is False
    assert entries(tmp_path) == []


def test_no_home_is_no_failure(wasmtime: WasmtimeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert load_module(wasmtime, EMPTY)[1] is False


def test_the_default_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "asgi-wasm"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for other in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert default_cache_dir() == tmp_path / "home" / ".cache" / "asgi-wasm"


def test_code_that_does_not_compile_is_not_kept(wasmtime: WasmtimeEngine, tmp_path: Path) -> None:
    with pytest.raises(InvalidModuleError):
        load_module(wasmtime, b"nonsense", tmp_path)
    assert entries(tmp_path) == []

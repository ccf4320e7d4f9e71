"""Builds the optional accelerator into a wheel, or beside its sources for an editable install (a hook of hatchling).

Where it cannot be built, the wheel is one of pure Python, and a warning says so. ASGI_WASM_BUILD_ACCELERATOR in the
environment: "required" (then it is an error), or "off".
"""

from __future__ import annotations

import os
import runpy
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = Path("asgi_wasm", "accelerator")
_VARIABLE = "ASGI_WASM_BUILD_ACCELERATOR"


class AcceleratorHook(BuildHookInterface):
    """Adds the extension module, and the wheel's tag that goes with it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get(_VARIABLE, "auto")
        if wish not in ("auto", "off", "required"):
            raise SystemExit(f"{_VARIABLE} is {wish!r}: choose from auto, off, required")
        if wish == "off":
            return
        try:
            made = build(Path(self.root), Path(tempfile.mkdtemp()))
        except Exception as error:  # whatever setuptools finds no words for
            if wish == "required":
                raise
            self.app.display_warning(f"The accelerator is left out, and asgi-wasm runs without it: {error}")
            return
        if version == "editable":
            _put(made, Path(self.root) / _FOLDER / made.name)
            return
        build_data["force_include"][str(made)] = str(_FOLDER / made.name)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp310-abi3-{platform}"


def _put(made: Path, target: Path) -> None:
    """In place at once, since another process may have the file before it mapped."""
    copy = target.with_name(f".{made.name}.{os.getpid()}")
    copy.write_bytes(made.read_bytes())
    os.replace(copy, target)


def build(root: Path, folder: Path, *, flags: tuple[str, ...] = ()) -> Path:
    """Compile it into ``folder``; the file. Raises what setuptools does, or SystemError where it is not for."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise SystemError("it is for CPython with its global interpreter lock")
    from setuptools import Distribution, Extension

    sources = runpy.run_path(str(root / _FOLDER / "sources.py"))
    msvc = sys.platform == "win32"
    # Calls of Python's functions go straight to them: no stubs of the linker's, which lie on pages of their own.
    elf = ["-fno-plt"] if sys.platform == "linux" else []
    extension = Extension(
        "_accelerator",
        [str(_FOLDER / name) for name in sources["FILES"] if name.endswith(".c")],
        depends=[
            *(str(_FOLDER / name) for name in ("accelerator.h", "parts.h")),
            str(Path("asgi_wasm", "host", "resident", "layout.h")),
        ],
        define_macros=[("Py_LIMITED_API", "0x030a0000"), ("SOURCES", str(sources["number"]()))],
        py_limited_api=True,
        extra_compile_args=["/O2", "/std:c11", *flags] if msvc else ["-O2", "-fvisibility=hidden", *elf, *flags],
        extra_link_args=list(flags),
    )
    before = Path.cwd()
    os.chdir(root)
    try:
        command = Distribution({"name": "accelerator", "ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = str(folder)
        command.ensure_finalized()
        command.run()
        return folder / command.get_ext_filename("_accelerator")
    finally:
        os.chdir(before)

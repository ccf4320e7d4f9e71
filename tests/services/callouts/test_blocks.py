"""What glibc would keep of large answers is given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Large blocks with small ones behind each, in a process whose glibc has seen that large ones come and go.
CODE = """
from asgi_wasm.services.callouts.blocks import map_large_blocks

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

for _ in range(3):
    bytearray(b"x") * (16 << 20)
{}
large, small = [], []
for _ in range(25):
    large.append(b"x" * (4 << 20))
    small.append(b"x" * 100_000)
full = resident()
del large
print(full - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library keeps its own rules")
def test_large_blocks_go_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format("map_large_blocks()")], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60 << 20

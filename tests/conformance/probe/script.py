"""What a probe script is: `plugins/probe` runs its text, the rest says around what."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.conformance.chains import Chain, PluginEntry


@dataclass(frozen=True)
class Request:
    """One request to send. ``target`` tells the app what to answer: see `tests.conformance.app`."""

    method: str = "GET"
    target: str = "/"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | tuple[bytes, ...] = b""
    # Client-side seconds after which a stream that nobody resumed is given up.
    patience: float = 20.0


POST = Request("POST", "/?body=response", body=b"request")


@dataclass(frozen=True)
class Script:
    """One chain of probes, and what goes through it.

    ``text`` is for the first probe of the chain, ``others`` for the further ones. ``early`` is for what comes before a
    configuration can be read.
    """

    name: str
    text: str
    requests: Sequence[Request] = (POST,)
    abi: str = "0_2_1"
    others: Sequence[str] = ()
    # That of the others: one of their own puts them into another VM.
    others_abi: str = ""
    early: str = ""
    vm_conf: str = "vm conf"
    failure_policy: str = "fail_closed"
    allow_on_headers_stop_iteration: bool = False
    # False for a plugin that does not start, and keeps its host from starting.
    starts: bool = True
    # True for what kills the whole Envoy: it gets one of its own.
    crashes_envoy: bool = False
    env: dict[str, str] = field(default_factory=dict)

    @property
    def chain(self) -> Chain:
        """How both hosts run it."""
        texts = [self.text, *self.others]
        names = [self.name, *(f"{self.name}.{number}" for number in range(2, len(texts) + 1))]
        abis = [self.abi, *(self.others_abi or self.abi for _ in self.others)]
        env = {**({"PROBE": self.early} if self.early else {}), **self.env}
        entries = [
            PluginEntry(
                name,
                f"probe/abi_{abi}",
                conf=text,
                vm_conf=self.vm_conf,
                env=env,
                failure_policy=self.failure_policy,
                allow_on_headers_stop_iteration=self.allow_on_headers_stop_iteration,
            )
            for name, text, abi in zip(names, texts, abis, strict=True)
        ]
        return Chain(self.name, tuple(entries))


def in_phase(phase: str, commands: str) -> str:
    """The commands, one a line, as lines of this phase."""
    lines = (line.strip() for line in commands.splitlines())
    return "".join(f"{phase}: {line}\n" for line in lines if line)


def quoted(data: bytes) -> str:
    """Bytes as a script writes them."""
    safe = range(0x20, 0x7F)
    text = "".join(chr(byte) if byte in safe and byte not in b'"\\' else f"\\x{byte:02x}" for byte in data)
    return f'"{text}"'


def pairs(*items: tuple[bytes, bytes]) -> str:
    """Header pairs as a script writes them."""
    sizes = [len(part) for item in items for part in item]
    head = struct.pack(f"<{len(sizes) + 1}I", len(items), *sizes)
    return quoted(head + b"".join(part + b"\0" for item in items for part in item))

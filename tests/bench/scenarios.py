"""What is measured: the announcement's experiment, and the everyday cases beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asgi_wasm.settings import Settings
from tests.bench import guests, wrk
from tests.bench.apps import BODY_CHANGED, BODY_READ, HEADERS, PIECE, Plugin, Setup, fault
from tests.bench.in_process import Request, Subject
from tests.bench.wrk import Served

LANGUAGES = ("c", "rust", "go", "assemblyscript")
CHAINS = (2, 4, 8)
_SIZES = {"64 kB": 65_536, "8 MB": 8_388_608}
_PORTABLE = "accelerator"


def portable_settings() -> Mapping[str, Any] | None:
    """What switches the accelerator off, where there is one to switch."""
    return {_PORTABLE: "off"} if _PORTABLE in Settings.model_fields else None


def _twice(name: str, setup: Setup) -> dict[str, Setup]:
    """The setup with the accelerator and, where there is one, without."""
    off = portable_settings()
    if off is None:
        return {name: setup}
    return {name: setup, f"{name}, portable": Setup(setup.app, setup.plugins, settings=off)}


def in_process(folder: Path, *, quick: bool) -> dict[str, Subject]:
    """Name to subject; ``folder`` takes modules that are made for this run."""
    nothing = Plugin(str(guests.no_callbacks(folder)))
    setups = {
        "bare app": Setup(),
        "native header middleware": Setup(twin="headers"),
        **_twice("no-op plugin", Setup(plugins=(nothing,))),
        **_twice("header plugin", Setup(plugins=(HEADERS,))),
        "native fault injection": Setup(twin="fault"),
        **_twice("fault injection, C", Setup(plugins=(fault("c"),))),
    }
    subjects = {name: Subject(setup) for name, setup in setups.items()}
    for name in ("bare app", "native header middleware", "header plugin"):
        subjects[f"after a look at 16 MB of other memory: {name}"] = Subject(setups[name], cold=True)
    for count in CHAINS[:1] if quick else CHAINS:
        subjects[f"{count} header plugins"] = Subject(Setup(plugins=(HEADERS,) * count))
    if not quick:
        subjects.update({f"fault injection, {name}": Subject(Setup(plugins=(fault(name),))) for name in LANGUAGES[1:]})
        for app in ("starlette", "fastapi"):
            subjects[f"{app}: bare"] = Subject(Setup(app))
            subjects[f"{app}: native header middleware"] = Subject(Setup(app, twin="headers"))
            subjects[f"{app}: header plugin"] = Subject(Setup(app, plugins=(HEADERS,)))
    return {**subjects, **_bodies(quick=quick)}


def _bodies(*, quick: bool) -> dict[str, Subject]:
    ways = {
        "bare app": Setup(),
        "not read": Setup(plugins=(HEADERS,)),
        "read": Setup(plugins=(BODY_READ,)),
        "changed": Setup(plugins=(BODY_CHANGED,)),
        "native, read": Setup(twin="bodies read"),
        "native, changed": Setup(twin="bodies changed"),
    }
    requests = {"stream of 1,000 pieces": Request("/stream")}
    for size in ("64 kB",) if quick else _SIZES:
        requests[f"request body, {size}"] = Request("/upload", b"x" * _SIZES[size])
        requests[f"response body, {size}"] = Request(f"/{size}")
    if not quick:
        pieces = 1000
        requests["request body, 1,000 pieces"] = Request("/upload", PIECE * pieces, pieces)
    return {
        f"{name}: {way}": Subject(setup, request) for name, request in requests.items() for way, setup in ways.items()
    }


def served(runner: str, apisix: str = "", *, quick: bool) -> dict[str, Served]:
    """Name to what is served; ``runner`` is the path of the external runner's socket, ``apisix`` of APISIX's own."""
    headers, answer = Setup(plugins=(HEADERS,)), Setup(plugins=(fault("c"),))
    found = {
        "bare app": Served(Setup()),
        "native fault injection": Served(Setup(twin="fault")),
        "external runner, as APISIX asks it": Served(Setup(runner=runner, many=True)),
        "external runner": Served(Setup(runner=runner)),
        **({"external runner, APISIX's own (Go)": Served(Setup(apisix=apisix))} if apisix else {}),
        **{name: Served(setup) for name, setup in _twice("fault injection, C", answer).items()},
        "native header middleware": Served(Setup(twin="headers")),
        **{name: Served(setup) for name, setup in _twice("header plugin", headers).items()},
    }
    if quick:
        return found
    found.update({f"fault injection, {name}": Served(Setup(plugins=(fault(name),))) for name in LANGUAGES[1:]})
    found.update({f"{count} header plugins": Served(Setup(plugins=(HEADERS,) * count)) for count in CHAINS})
    for app in ("starlette", "fastapi"):
        found[f"{app}: bare"] = Served(Setup(app))
        found[f"{app}: native header middleware"] = Served(Setup(app, twin="headers"))
        found[f"{app}: header plugin"] = Served(Setup(app, plugins=(HEADERS,)))
    found["response body, 64 kB, read"] = Served(Setup(plugins=(BODY_READ,)), "/64%20kB")
    found["response body, 64 kB, native, read"] = Served(Setup(twin="bodies read"), "/64%20kB")
    return {**found, **_envoys()} if wrk.has_envoy() else found


def _envoys() -> dict[str, Served]:
    return {
        "Envoy alone": Served(Setup(), envoy=wrk.chain("alone", answers=True)),
        "Envoy alone, header plugin": Served(Setup(), envoy=wrk.chain("alone-headers", HEADERS, answers=True)),
        "Envoy alone, fault injection, C": Served(Setup(), envoy=wrk.chain("alone-fault", fault("c"))),
        "Envoy before uvicorn": Served(Setup(), envoy=wrk.chain("before")),
        "Envoy before uvicorn, header plugin": Served(Setup(), envoy=wrk.chain("before-headers", HEADERS)),
    }

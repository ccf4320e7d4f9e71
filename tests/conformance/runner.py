"""Runs cases on both hosts: those of one chain one after the other, chains beside each other."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from tests.conformance.cases import Case, Outcome
from tests.conformance.client import LIVE_SECONDS, PATIENT_SECONDS, Connection
from tests.conformance.client import SECONDS as CLIENT_SECONDS
from tests.conformance.comparing import Compared, LogLine, fields_of
from tests.conformance.hosts import Host, Hosts

# How many chains are busy at once.
_WORKERS = 8
# After a case: until both hosts have logged and the app has seen the same, and nothing more came for a while and for
# some looks; for longer where they differ as they must; and where they differ otherwise, until it is not for a slow
# machine, as it is not when that happens often.
_QUIET_SECONDS = 0.05
_QUIET_LOOKS = 4
_DIFFERENT_SECONDS = 1.5
_GIVE_UP_SECONDS = 60.0
_MOST_WAITS = 10
# Whether a case went as it must.
Judge = Callable[[str, Compared], bool]


def alike(_case_id: str, compared: Compared) -> bool:
    """Of cases that differ in nothing."""
    return not compared.differing()


class _Side:
    """One host, for one chain."""

    def __init__(self, host: Host, chain: str, control: str, app_port: int) -> None:
        self._host = host
        self._chain = chain
        self._control = HTTPConnection(control.removeprefix("http://"), timeout=CLIENT_SECONDS)
        self._app_port = app_port
        self._log: list[LogLine] = []
        self._log_read = 0
        self._log_at = 0
        # Whether the client waited in vain for something.
        self.gave_up = False

    def run(self, case: Case, patience: float) -> Outcome:
        """Be the client."""
        self._log_at = len(self._read_log())
        self._ask("", "&take")
        outcome = Outcome()
        connection = Connection(self._host.ports[self._chain], patience)
        try:
            for step in case.steps:
                step.run(connection, self._host.ports[self._chain], self, outcome)
        finally:
            connection.close()
            self.gave_up = connection.gave_up
        return outcome

    def close(self) -> None:
        """End the connection to the app's first port."""
        self._control.close()

    def body_size(self) -> int:
        """`cases.Controls`."""
        seen = self.seen()
        return int(seen[-1]["size"]) if seen else 0

    def called(self) -> bool:
        """`cases.Controls`."""
        return bool(self.seen())

    def release(self) -> None:
        """`cases.Controls`."""
        self._ask("release")

    def beat(self) -> None:
        """`cases.Controls`."""
        self._host.beat()

    def seen(self) -> list[dict[str, Any]]:
        """What the app saw of this case so far."""
        found: list[dict[str, Any]] = self._ask("")
        return found

    def new_log(self) -> list[LogLine]:
        """What the chain's plugins logged in this case so far."""
        return self._read_log()[self._log_at :]

    def _read_log(self) -> list[LogLine]:
        lines = self._host.log_lines()
        # Envoy ends the names with the VM's id, which is the chain's; here they are the plugin's, which begins so.
        self._log += [
            (line.level, line.text)
            for line in lines[self._log_read :]
            if line.names[-1].partition(".")[0] == self._chain
        ]
        self._log_read = len(lines)
        return self._log

    def _ask(self, path: str, query: str = "") -> Any:
        self._control.request("GET", f"/{path}?port={self._app_port}{query}")
        return json.loads(self._control.getresponse().read())


class Runner:
    """Runs the given cases in the background; `compared` waits for one."""

    def __init__(self, hosts: Hosts, cases: Iterable[Case], is_right: Judge = alike) -> None:
        self._hosts = hosts
        self._is_right = is_right
        self._waits = 0
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._done: dict[str, Future[Compared]] = {}
        by_chain: defaultdict[str, list[Case]] = defaultdict(list)
        for case in cases:
            by_chain[case.chain].append(case)
            self._done[case.id] = Future()
        # Long ones first.
        for chain, theirs in sorted(by_chain.items(), key=lambda item: -len(item[1])):
            self._pool.submit(self._run_chain, chain, theirs)

    def compared(self, case: Case) -> Compared:
        """The case as it went. Raises what the client raised."""
        return self._done[case.id].result()

    def ran(self, case: Case) -> bool:
        """Whether the case was selected."""
        return case.id in self._done

    def metrics(self, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """These metrics of plugins on both hosts after all cases; histograms by their count."""
        for future in self._done.values():
            future.exception()
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            envoy, here = ({name: found.get(name) for name in names} for found in self._metrics())
            if envoy == here or time.monotonic() > deadline:
                return envoy, here
            # Envoy merges its threads' histograms when asked, but answers first.
            time.sleep(_QUIET_SECONDS)

    def _metrics(self) -> tuple[dict[str, Any], dict[str, Any]]:
        envoy = self._hosts.envoy.metrics()
        histograms = self._hosts.envoy.histograms()
        here: dict[str, Any] = {}
        for chain in self._hosts.asgi_wasm.metrics().values():
            for name, value in chain.items():
                if isinstance(value, list):
                    here[name], envoy[name] = value[0], histograms.get(name.replace(".", "_"), (0, 0))[0]
                else:
                    here[name] = value
        return envoy, here

    def close(self) -> None:
        """Run nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _run_chain(self, chain: str, cases: Sequence[Case]) -> None:
        ours, theirs = self._hosts.asgi_wasm, self._hosts.envoy
        envoy = _Side(theirs, chain, ours.control, ours.app_ports[chain])
        asgi_wasm = _Side(ours, chain, ours.control, ours.ports[chain])
        with closing(envoy), closing(asgi_wasm):
            for case in cases:
                try:
                    compared = self._compared(case, (envoy, asgi_wasm), LIVE_SECONDS)
                    if not self._is_right(case.id, compared) and (envoy.gave_up or asgi_wasm.gave_up):
                        compared = self._compared(case, (envoy, asgi_wasm), PATIENT_SECONDS)
                    self._done[case.id].set_result(compared)
                except Exception as error:
                    self._done[case.id].set_exception(error)

    def _compared(self, case: Case, sides: tuple[_Side, _Side], patience: float) -> Compared:
        """As it went on both, once nothing more comes of it."""
        outcomes = [side.run(case, patience) for side in sides]
        is_hasty = patience < PATIENT_SECONDS and any(side.gave_up for side in sides)
        before: Compared | None = None
        while True:
            envoy, here = (
                fields_of(case, side.seen(), side.new_log(), outcome)
                for side, outcome in zip(sides, outcomes, strict=True)
            )
            now, compared = time.monotonic(), Compared(envoy, here)
            if compared != before:
                before, since, looks = compared, now, 0
            looks += 1
            wait = self._quiet_seconds(case, compared, is_hasty)
            if looks >= _QUIET_LOOKS and now - since >= wait:
                self._waits += wait == _GIVE_UP_SECONDS
                return compared
            time.sleep(_QUIET_SECONDS / 3)

    def _quiet_seconds(self, case: Case, compared: Compared, is_hasty: bool) -> float:
        if not compared.differing():
            return _QUIET_SECONDS
        is_final = is_hasty or self._is_right(case.id, compared) or self._waits >= _MOST_WAITS
        return _DIFFERENT_SECONDS if is_final else _GIVE_UP_SECONDS

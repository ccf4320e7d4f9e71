"""What of the two runs may differ: normalised by named rules, or listed with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

Rule = Callable[[Sequence[str]], list[str]]


def ports(lines: Sequence[str]) -> list[str]:
    """Each host listens where it finds a free port."""
    return [re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line) for line in lines]


def header_counts(lines: Sequence[str]) -> list[str]:
    """Envoy adds headers of its own, so that a stream's headers are more."""
    return [re.sub(r"(request|response)_headers: args = (\d+) \d+", r"\1_headers: args = \2 N", line) for line in lines]


def _ranked(pattern: str) -> Rule:
    """Numbers of one kind become 1, 2, ... in the order in which they first appear."""

    def rule(lines: Sequence[str]) -> list[str]:
        seen: dict[str, int] = {}

        def rank(match: re.Match[str]) -> str:
            return match[1] + str(seen.setdefault(match[2], len(seen) + 1))

        return [re.sub(pattern, rank, line) for line in lines]

    return rule


# Queues and compare-and-swap numbers are counted through the whole process in Envoy: other scripts have taken some.
queue_tokens = _ranked(r"((?:register|resolve)_shared_queue.* -> |queue_ready: args = \d+ )(\d+)")
compare_and_swap_numbers = _ranked(r"(get_shared_data.* = 0 -> .* -> )(\d+)")


def cut_off_app(lines: Sequence[str]) -> list[str]:
    """Whether the app saw a request that a plugin then answered, or cut off, is a matter of time."""
    if any(line.startswith("client: 200") for line in lines):
        return [*lines]
    return [line for line in lines if not line.startswith("app")]


RULES: tuple[Rule, ...] = (cut_off_app, ports, header_counts, queue_tokens, compare_and_swap_numbers)


def normal(lines: Sequence[str]) -> list[str]:
    """By all rules."""
    for rule in RULES:
        lines = rule(lines)
    return [*lines]


@dataclass(frozen=True)
class Difference:
    """Lines in which the hosts differ, of which scripts (shell patterns), and why."""

    reason: str
    scripts: tuple[str, ...]
    #: A regular expression for each line that only one of the hosts has.
    lines: str = ""
    #: Hostcalls (without `proxy_`) that it is about; None for those of the lines.
    hostcalls: tuple[str, ...] | None = None

    def covers(self, script: str, line: str) -> bool:
        """Whether this line of this script may be in one host's log only."""
        return self.is_about(script) and re.search(self.lines, line) is not None

    def is_about(self, script: str) -> bool:
        """Whether it names this script."""
        return any(fnmatchcase(script, pattern) for pattern in self.scripts)


def differing(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[str]:
    """The lines that only one of the two has: Envoy's after "-", ours after "+"."""
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag != "equal":
            yield from (f"-{line}" for line in theirs[first:last])
            yield from (f"+{line}" for line in ours[start:end])


def unlisted(script: str, lines: Iterable[str], listed: Sequence[Difference]) -> list[str]:
    """Those of the differing lines that no listed difference covers."""
    return [line for line in lines if not any(difference.covers(script, line) for difference in listed)]

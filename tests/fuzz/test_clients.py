"""One round of each kind, so that `make fuzz` itself does not rot."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.clients import check_answer, client, round_of


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_survives_hostile_clients(tmp_path: Path, seed: int) -> None:
    round_of(tmp_path, seed, 40)


def test_the_same_seed_is_the_same_clients() -> None:
    assert [client(random.Random(7)) for _ in range(5)] == [client(random.Random(7)) for _ in range(5)]


def test_an_answer_that_was_split_is_noticed() -> None:
    check_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na")
    with pytest.raises(AssertionError):
        check_answer(b"HTTP/1.1 200 OK\r\nx-a: 1\r\nX-Evil: 1\r\ncontent-length: 1\r\n\r\na")

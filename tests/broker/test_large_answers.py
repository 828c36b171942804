"""Answers with large values over a unix socket: what hiredis makes of the same bytes, however they are cut."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import hiredis
import pytest

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.large_answers import LARGE_BYTES, MOST_PARTS, PEEK_BYTES
from mapreduce_rq.broker.refusals import Refusal
from mapreduce_rq.broker.unix_link import UnixLink


def written(answer: Any) -> bytes:
    """An answer as a server writes it."""
    if isinstance(answer, list):
        return b"*%d\r\n" % len(answer) + b"".join(map(written, answer))
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, Exception):
        return b"-%s\r\n" % str(answer).encode()
    return b"$-1\r\n" if answer is None else b"$%d\r\n%b\r\n" % (len(answer), answer)


@contextmanager
def link_to(path: Path, pieces: list[bytes], *, hang_up: bool = False) -> Iterator[UnixLink]:
    """A link to something that sends these pieces, one after another."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    done = threading.Event()

    def serve() -> None:
        heard, _ = listener.accept()
        with heard:
            for piece in pieces:
                heard.sendall(piece)
            if not hang_up:
                done.wait(30)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    link = UnixLink(Endpoint(path=os.fspath(path), within=0.0 if hang_up else 5.0))
    link.connect()
    try:
        yield link
    finally:
        done.set()
        link.disconnect()
        thread.join(5)
        listener.close()


def value(rng: random.Random) -> Any:
    kind = rng.randrange(8)
    if kind < 3:
        size = rng.choice([LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES + 7, 700_001])
        return rng.choice([b"\r\n", b"$5\r\n", b"*2\r\n", b"abcdefg"]) * size  # it looks like parts of answers
    sizes = [0, 1, 16, PEEK_BYTES, LARGE_BYTES // 2]
    return [None, rng.randrange(10**6), b"x" * rng.choice(sizes), b"y", []][kind - 3]


def answer_of(rng: random.Random) -> Any:
    if rng.random() < 0.3:
        return value(rng)
    if rng.random() < 0.2:
        return [*range(3 * MOST_PARTS), value(rng)]
    return [[b"stream", [[b"%d-0" % k, [b"a", value(rng)]] for k in range(rng.randrange(1, 5))]]]


@pytest.mark.parametrize("seed", range(30))
def test_answers_are_those_that_hiredis_reads_however_they_are_cut(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    answers = [b"z" * 200_000, *(answer_of(rng) for _ in range(8))]  # from the first on, large ones are expected
    data = b"".join(map(written, answers))
    cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.choice([0, 5, 60])))})
    reader = hiredis.Reader()
    reader.feed(data)
    expected = [reader.gets() for _ in answers]
    with link_to(tmp_path / "s", [data[lo:hi] for lo, hi in pairwise(cuts)]) as link:
        assert [link.read_response() for _ in answers] == expected == answers


def test_a_large_value_of_the_next_answer_is_not_taken_with_the_one_before(tmp_path: Path) -> None:
    big = b"x" * 300_000
    answers = [big, 7, big, [b"a", 1], [b"b", big], None, [[]], [big, [big]], big, b"end"]
    with link_to(tmp_path / "s", [b"".join(map(written, answers))]) as link:
        assert [link.read_response() for _ in answers] == answers


def test_a_refusal_among_large_answers_is_raised_and_in_one_it_is_a_part(tmp_path: Path) -> None:
    big = b"x" * 300_000
    data = written(big) + written(Refusal("ERR no")) + written([big, Refusal("ERR inside"), big]) + written(b"end")
    with link_to(tmp_path / "s", [data]) as link:
        assert link.read_response() == big
        with pytest.raises(Refusal, match="ERR no"):
            link.read_response()
        first, inside, last = link.read_response()
        assert (first, last) == (big, big)
        assert isinstance(inside, Refusal)
        assert link.read_response() == b"end"


@pytest.mark.parametrize("there", [0, 7, 9, 100, 299_999, 300_001])
def test_a_connection_that_ends_in_a_large_value_is_lost(tmp_path: Path, there: int) -> None:
    big = written(b"x" * 300_000)
    with link_to(tmp_path / "s", [big, big[: there + 9] if there else b""], hang_up=True) as link:
        assert len(link.read_response()) == 300_000
        with pytest.raises(ConnectionError):
            link.read_response()


def test_a_large_value_that_does_not_come_in_time_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    big = written(b"x" * 300_000)
    with link_to(tmp_path / "s", [big, big[:150_000]]) as link:
        link._endpoint = Endpoint(path=link._endpoint.path, within=0.2)
        assert len(link.read_response()) == 300_000
        with pytest.raises(TimeoutError):
            link.read_response()


def test_a_size_that_no_server_sends_is_not_believed(tmp_path: Path) -> None:
    big = written(b"x" * 300_000)
    with link_to(tmp_path / "s", [big, b"$999999999999\r\nabc"], hang_up=True) as link:
        link.read_response()
        with pytest.raises(ConnectionError):
            link.read_response()

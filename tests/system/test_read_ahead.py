"""A caller's list is made while its workers are at work, and of nothing but the values that they gave."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mapreduce_rq import Client, JobFailed


class Timed:
    """A value that knows when a worker made it, and when it was read here."""

    def __init__(self, number: int) -> None:
        time.sleep(0.02)
        self.number, self.padding = number, bytes(5000)
        self.made = time.monotonic()
        self.read = 0.0

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, read=time.monotonic())


class Broken(Timed):
    """A value that only its worker can have."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise RuntimeError("unreadable here")


def all_but_one_broken(number: int) -> Timed:
    return Broken(number) if number == 3 else Timed(number)


def fails_late(number: int) -> Timed:
    if number == 39:
        raise ValueError("the last one")
    return Timed(number)


def test_the_first_values_are_read_before_the_last_are_made() -> None:
    with Client(local=2) as client:
        found = client.map_reduce(Timed, range(60), reduce="list", chunksize=1)
        assert [value.number for value in found] == list(range(60))
        assert min(value.read for value in found) < max(value.made for value in found)
        # the plan of the next call is the same one, and knows nothing of these values
        again = client.map_reduce(Timed, range(60), reduce="list", chunksize=1)
        assert not set(map(id, found)) & set(map(id, again))
        assert min(value.made for value in again) > max(value.read for value in found)


def test_values_read_ahead_of_a_job_that_fails_are_forgotten() -> None:
    with Client(local=2) as client:
        with pytest.raises(JobFailed, match="the last one"):
            client.map_reduce(fails_late, range(40), reduce="list", chunksize=1)
        assert [value.number for value in client.map_reduce(Timed, range(3), reduce="list")] == [0, 1, 2]


def test_a_value_that_cannot_be_read_is_named_by_the_caller_s_own_reading() -> None:
    with Client(local=2) as client:
        with pytest.raises(Exception, match="unreadable here"):
            client.map_reduce(all_but_one_broken, range(30), reduce="list", chunksize=1)
        assert client.map_reduce(abs, range(3), reduce="list") == [0, 1, 2]

"""The hub's lead, and Ctrl-C: whatever call it comes in, the lead is free after it and the next wait waits and ends."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from mapreduce_rq.pipes.hub import Hub
from mapreduce_rq.pipes.hub_wire import HubWire
from mapreduce_rq.pipes.waiting import COLLECTORS


class CtrlC(BaseException):
    """Of a signal's handler."""


class Strike:
    """Raises CtrlC when the call of this number begins or ends, as a handler may, where Python looks for signals."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in {"call", "c_return"} and frame.f_code.co_filename.endswith(
            ("hub.py", "idle.py", "lead.py", "peer.py", "serving.py", "waiting.py")
        ):
            self._left -= 1
            if self._left < 0:
                raise CtrlC


@pytest.fixture
def bell() -> Iterator[int]:
    """A descriptor that can be read."""
    reader, writer = os.pipe()
    os.write(writer, b"!")
    yield reader
    os.close(reader)
    os.close(writer)


def waits_cut_short(hub: Hub, bell: int) -> int:
    """How many places of a wait were struck, after each of which everything is as before it."""
    for number in range(1000):
        sys.setprofile(Strike(number))
        try:
            hub.wait(lambda: False, 5, bell)
        except CtrlC:
            pass
        else:
            return number
        finally:
            sys.setprofile(None)
        assert not hub._behind
        ended = threading.Thread(target=lambda: hub.wait(lambda: False, 5, bell), daemon=True)
        ended.start()
        ended.join(2)  # it has the bell: without a lead that is free it would wait five seconds
        assert not ended.is_alive(), number
    raise AssertionError("no wait came to its end")


@pytest.mark.parametrize("collect", COLLECTORS)
def test_a_wait_that_is_cut_short_anywhere_leaves_the_lead_free(collect: str, bell: int) -> None:
    hub = Hub(collect, "q", "")
    try:
        assert waits_cut_short(hub, bell) > 10
        assert hub._lead.free()
    finally:
        hub.close()


def test_a_wait_behind_another_that_is_cut_short_anywhere_is_forgotten(bell: int) -> None:
    hub = Hub("epoll", "q", "")
    over = threading.Event()
    leader = threading.Thread(target=lambda: hub.wait(over.is_set, 60), daemon=True)
    leader.start()
    try:
        while hub._lead.free():
            pass
        assert waits_cut_short(hub, bell) > 10
    finally:
        over.set()
        hub.close()
        leader.join(5)
    assert hub._lead.free()


@pytest.mark.parametrize("collect", COLLECTORS)
def test_a_bell_ends_each_wait_for_it_and_no_other(collect: str, bell: int) -> None:
    """It stays registered, so a wait for another bell, or for none, may be told of it first."""
    hub = Hub(collect, "q", "")
    quiet, writer = os.pipe()
    try:
        for _ in range(2):
            began = time.monotonic()
            assert not hub.wait(lambda: False, 5, bell)
            assert time.monotonic() - began < 5
            for other in (quiet, -1):
                began, before = time.monotonic(), hub._served
                assert not hub.wait(lambda: False, 0.05, other)
                assert time.monotonic() - began >= 0.05
                assert hub._served - before < 5  # it does not turn round and round
    finally:
        hub.close()
        os.close(quiet)
        os.close(writer)


@pytest.mark.parametrize("collect", COLLECTORS)
def test_a_bell_that_was_forgotten_may_be_closed_and_its_number_may_be_anothers(collect: str) -> None:
    hub = Hub(collect, "q", "")
    try:
        for _ in range(3):
            reader, writer = os.pipe()  # the same numbers each time
            assert not hub.wait(lambda: False, 0.01, reader)
            os.write(writer, b"!")
            began = time.monotonic()
            assert not hub.wait(lambda: False, 5, reader)
            assert time.monotonic() - began < 5
            hub.forget_bell(reader)
            os.close(reader)
            os.close(writer)
            assert not hub.wait(lambda: False, 0.01)
    finally:
        hub.close()
    hub.forget_bell(0)  # of a client that is closed


def test_a_wire_forgets_its_bell_when_it_is_closed() -> None:
    hub = Hub("poll", "q", "")
    wire = HubWire(hub)
    reader, writer = os.pipe()
    try:
        wire.connect()
        wire.ask_call("XREAD", "COUNT", "1", "BLOCK", "1", "STREAMS", "r", "0-0")
        wire.answers_within(0.01, reader)
        assert hub._bells == {reader}
        wire.close()
        assert not hub._bells
    finally:
        hub.close()
        os.close(reader)
        os.close(writer)

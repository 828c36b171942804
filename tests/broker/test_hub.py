"""The hub's lead, and Ctrl-C: whatever call it comes in, the lead is free after it and the next wait waits and ends."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
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


class Leading:
    """A thread that waits for a minute or until it is told to end, and so has the lead."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: hub.wait(self.over.is_set, 60), daemon=True)
        self.thread.start()
        until(lambda: not hub._lead.free())

    def end(self) -> None:
        self.over.set()
        self.hub._wake_lead()
        for other in list(self.hub._behind):
            other.wake()
        self.thread.join(5)
        assert not self.thread.is_alive()


def until(found: Callable[[], object]) -> None:
    """Wait for this, ten seconds at most."""
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with a job that runs."""
    made = Hub("epoll", "q", "")
    made.store.running.add("r")
    try:
        yield made
    finally:
        made.close()


def woken(hub: Hub) -> None:
    """A wait behind the leader, which wakes it."""
    ready = threading.Event()
    other = threading.Thread(target=lambda: hub.wait(ready.is_set, 60), daemon=True)
    other.start()
    until(lambda: hub._behind)
    ready.set()
    hub._wake_lead()
    other.join(5)
    assert not other.is_alive()


def test_while_no_worker_has_a_task_the_lead_is_left_to_a_thread_that_was_woken(hub: Hub) -> None:
    leading = Leading(hub)
    woken(hub)
    until(lambda: hub._lead.free() and hub._behind)
    served = hub._served
    assert not hub.wait(lambda: False, 0.01)  # it leads
    assert hub._served > served
    assert hub._lead.free()
    assert hub._behind  # and at its end no other is woken
    leading.end()


def test_while_workers_have_tasks_the_lead_stays_where_it_is(hub: Hub) -> None:
    leading = Leading(hub)
    hub.store.lists["hand"] = deque([b"task"])
    woken(hub)
    served = hub._served
    hub._wake_lead()
    until(lambda: hub._served > served)  # it serves on
    assert not hub._behind
    assert not hub._lead.free()
    leading.end()


def test_who_stands_aside_serves_again_once_there_are_tasks_and_no_other_thread_waits(hub: Hub) -> None:
    """The one that pushes them may compute for a long time."""
    leading = Leading(hub)
    woken(hub)
    until(lambda: hub._lead.free() and hub._behind)
    hub.store.lists["hand"] = deque([b"task"])
    until(lambda: not hub._behind and not hub._lead.free())
    leading.end()

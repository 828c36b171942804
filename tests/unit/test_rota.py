"""A process on several queues: what each of its workers is told, and a watch that is never answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerRefused
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.rota import Rota


class Watched:
    """A connection on which a watch was asked for."""

    def __init__(self, answer: bool | BrokerError = True) -> None:
        self.answer = answer
        self.closed = False
        self.wire, self.keys = self, SimpleNamespace(name="far")

    def ask_to_watch(self, _: float) -> None:
        """It is asked for; nothing else is seen here."""

    def watched(self) -> bool:
        """The answer."""
        if isinstance(self.answer, BrokerError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        """Left."""
        self.closed = True


class Hand:
    """A worker as its process sees it: one turn for each task that waits."""

    def __init__(self, waiting: int = 0, *, tasks_left: int | None = None) -> None:
        self.tasks: Any = Watched()
        self.waiting = waiting
        self.tasks_left = tasks_left
        self.stopping = self.interruptible = self.down = False
        self.left: list[bool] = []  # whether it was told to stop when it left
        self.errors: list[BrokerError] = []
        self.shortened = 0
        self.told: list[bool] = []

    def owes(self) -> bool:
        return False

    def due(self) -> float:
        return 0.25

    def turn(self, others_first: Callable[[], bool]) -> bool:
        others_first()
        if not self.waiting:
            return False
        self.waiting -= 1
        if self.tasks_left is not None:
            self.tasks_left -= 1
            self.stopping = self.tasks_left <= 0
        return True

    def cut_off(self, error: BrokerError) -> None:
        self.errors.append(error)
        self.down = True

    def leave(self) -> None:
        self.left.append(self.stopping)

    def told_to_stop(self, *, at_once: bool = False) -> None:
        self.told.append(at_once)
        self.stopping = True

    def told_to_shorten(self) -> None:
        self.shortened += 1


class Stopped(Clock):
    """A clock that goes on when it is told to."""

    seconds = 0.0

    def now(self) -> float:
        return self.seconds


def rota(hands: Sequence[Hand], clock: Clock | None = None, there: Sequence[Any] = (), *, burst: bool = True) -> Rota:
    workers: Any = hands
    return Rota(workers, clock or Clock(), lambda wires, _: [wire for wire in wires if wire in there], burst=burst)


def test_the_tasks_that_a_process_may_do_are_those_of_all_its_queues() -> None:
    hands = [Hand(2, tasks_left=3), Hand(5, tasks_left=3)]
    rota(hands).run()
    assert [hand.waiting for hand in hands] == [0, 4]
    assert [hand.tasks_left for hand in hands] == [0, 0]


def test_all_are_told_to_stop_before_one_leaves() -> None:
    hands = [Hand(1), Hand(1)]
    rota(hands).run()
    assert [hand.left for hand in hands] == [[True], [True]]


def test_a_stop_reaches_the_one_at_work_as_it_came_and_the_others_as_a_word() -> None:
    hands = [Hand(), Hand()]
    one = rota(hands)
    one.told_to_stop(at_once=True)
    assert [hand.told for hand in hands] == [[True], []]
    assert all(hand.stopping for hand in hands)
    one.run()
    one.told_to_stop(at_once=True)
    assert hands[0].told == [True], "it is leaving already"
    one.told_to_shorten()
    assert [hand.shortened for hand in hands] == [1, 0]


def test_a_watch_without_an_answer_is_given_up_with_its_connection_after_the_time_of_any_request() -> None:
    hands, clock = [Hand(), Hand()], Stopped()
    one = rota(hands, clock)
    one.run()  # nothing waits: both queues are watched
    for seconds in (0.0, 9.9, 10.0):
        clock.seconds = seconds
        one._wait()
        assert not any(hand.errors for hand in hands)
    clock.seconds = 10.1
    for hand in hands:
        hand.stopping = False
    one._wait()
    for hand in hands:
        assert hand.tasks.closed
        (error,) = hand.errors
        assert isinstance(error, BrokerDown)
        assert "no answer for 10 s on queue far" in str(error)
    assert not one._watches


@pytest.mark.parametrize("error", [BrokerDown("gone"), BrokerRefused("no")])
def test_an_answer_that_is_an_error_cuts_its_queue_off_or_ends_the_process(error: BrokerError) -> None:
    hands = [Hand(), Hand()]
    hands[1].tasks.answer = error
    one = rota(hands, there=[hands[1].tasks])
    one.run()
    for hand in hands:
        hand.stopping = False
    if isinstance(error, BrokerRefused):
        with pytest.raises(BrokerRefused):
            one._wait()
        return
    one._wait()
    assert [hand.errors for hand in hands] == [[], [error]]
    assert not hands[1].tasks.closed

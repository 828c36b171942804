"""Outages: when a server is tried again, when it is given up, and what people read about it."""

from __future__ import annotations

import pytest

from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.errors import BrokerDown, BrokerRefused, ReadOnly
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.master.outage import Outage as OfAMaster
from mapreduce_rq.runtime.master.telling import Telling
from mapreduce_rq.runtime.pool.outage import Outage as OfAPool
from mapreduce_rq.runtime.worker.outage import Outage
from mapreduce_rq.runtime.worker.slate import Away, Slate


class Stopped(Clock):
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds


def test_each_try_that_fails_puts_the_next_one_off_for_longer() -> None:
    clock = Stopped()
    outage = Outage(clock)
    assert (outage.on, outage.wait()) == (False, 0.0)
    waits = []
    for _ in range(8):
        outage.met(BrokerDown("gone"))
        assert outage.on
        waits.append(outage.wait())
        clock.seconds += waits[-1]
        assert outage.wait() == 0.0
    assert waits == sorted(waits)
    assert 0 < waits[0] < 0.2
    assert 0.9 < waits[-1] <= 1.0
    outage.over()
    assert not outage.on
    outage.met(BrokerDown("gone again"))
    assert outage.wait() == pytest.approx(waits[0])


def test_nothing_is_put_off_on_a_machine_that_has_just_started() -> None:
    clock = Stopped()
    clock.seconds = 0.0
    assert Outage(clock).wait() == 0.0


def test_an_error_that_is_not_the_servers_is_no_outage_but_puts_the_next_try_off() -> None:
    outage = Outage(Stopped())
    outage.met(None)
    assert not outage.on
    assert outage.wait() > 0


def test_a_server_that_stays_a_replica_is_given_up_and_one_that_comes_back_is_not() -> None:
    clock = Stopped()
    outage = Outage(clock)
    for again in (False, True):
        outage.met(ReadOnly("a replica"))
        clock.seconds += 59
        outage.met(ReadOnly("a replica"))
        if not again:
            outage.over()
            clock.seconds += 59
    clock.seconds += 1
    with pytest.raises(BrokerRefused, match="for 60 s"):
        outage.met(ReadOnly("a replica"))


# -- a master ------------------------------------------------------------------------------------------------------


class Person(Silent):
    """Reads the notices."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noticed(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


def of_a_master(clock: Clock) -> tuple[OfAMaster, Person, Recorder]:
    person, recorder = Person(), Recorder(clock.now())
    return OfAMaster(clock, Telling(clock, "job", person, recorder, None)), person, recorder


def test_a_master_tells_of_an_outage_once_and_of_its_end() -> None:
    clock = Stopped()
    outage, person, _ = of_a_master(clock)
    outage.over(told=True)
    assert (outage.on, person.lines) == (False, []), "there was none"
    for again in range(2):
        person.lines.clear()
        for _ in range(3):
            outage.begin(BrokerDown("Redis is gone"))
            clock.seconds += 2.5
        met = outage.on
        outage.over(told=True)
        assert (met, outage.on) == (True, False)
        assert person.lines == ["Redis is gone; trying again", "Redis is back after 7.5 s"], again
    outage.begin(BrokerDown("Redis is gone"))
    outage.over(told=False)
    assert person.lines[2:] == ["Redis is gone; trying again"]


def test_an_outage_that_several_masters_have_is_in_the_timeline_of_each_and_told_by_their_process() -> None:
    outage, person, recorder = of_a_master(Stopped())
    outage.shared = True
    outage.begin(BrokerDown("Redis is gone"))
    outage.over(told=True)
    assert person.lines == []
    assert recorder.has_mark("Redis is gone; trying again")
    assert recorder.has_mark("Redis is back after 0.0 s")


def test_the_pauses_of_a_master_grow_within_an_outage_and_begin_anew_with_the_next() -> None:
    outage, _, _ = of_a_master(Stopped())
    first, *more = [outage.pause() for _ in range(8)]
    assert 0 < first < 0.2
    assert more == sorted(more)
    assert 0.9 < more[-1] <= 1.0
    outage.begin(BrokerDown("gone"))
    outage.over(told=True)
    assert outage.pause() == pytest.approx(first)


def test_a_master_gives_up_a_server_that_stays_a_replica_and_says_what_is_kept() -> None:
    clock = Stopped()
    outage, _, _ = of_a_master(clock)
    for again in (False, True):
        for _ in range(2):
            outage.met(ReadOnly("a replica"), "; j is kept")
            outage.begin(ReadOnly("a replica"))
            clock.seconds += 50
        if not again:
            outage.over(told=True)
    with pytest.raises(BrokerRefused, match="for 100 s; j is kept"):
        outage.met(ReadOnly("a replica"), "; j is kept")


# -- a pool --------------------------------------------------------------------------------------------------------


def away(slate: Slate, since: float, why: str) -> Slate:
    slate.away(int(since * 1e9), why)
    return slate


def test_a_pool_logs_an_outage_once_for_all_its_workers() -> None:
    slates = [Slate(), Slate(), Slate()]
    outage = OfAPool(private=False)
    assert outage.look(100.0, slates, None) == "", "no worker has come so far"
    for slate in slates:
        slate.reached()
    assert outage.look(100.1, slates, None) == ""
    away(slates[1], 101.0, "later")
    away(slates[2], 100.5, "gone")
    assert outage.look(101.0, slates, None) == "gone; trying again", "at once, by who met it first"
    assert outage.look(102.0, slates, None) == ""
    slates[2].reached()
    assert outage.look(103.0, slates, None) == "", "one is still away"
    slates[1].reached()
    assert outage.look(104.5, slates, None) == "Redis is back after 4.0 s"
    assert outage.look(105.0, slates, None) == ""


@pytest.mark.parametrize("private", [False, True])
def test_a_pool_logs_nothing_while_its_server_may_be_starting(private: bool) -> None:
    slate = away(Slate(), 100.0, "gone")
    outage = OfAPool(private=private)
    assert outage.look(100.9, [Slate(), slate], None) == ""
    assert outage.look(100.95, [Slate()], None) == "", "none has come so far"
    assert outage.look(100.99, [slate], None) == ""
    slate.reached()
    assert outage.look(101.0, [slate], None) == ""
    away(slate, 102.0, "gone")
    assert outage.look(102.5, [slate], None) == ("" if private else "gone; trying again")
    assert outage.look(103.0, [slate], None) == ("gone; trying again" if private else "")


def test_an_outage_that_the_supervisor_alone_sees_is_logged_after_a_second() -> None:
    slate = Slate()
    slate.reached()
    outage = OfAPool(private=False)
    assert outage.look(100.0, [slate], None) == ""
    own = Away(100.0, "my own")
    assert outage.look(100.9, [slate], own) == ""
    assert outage.look(101.0, [slate], own) == "my own; trying again"
    assert outage.look(103.0, [slate], None) == "Redis is back after 3.0 s"
